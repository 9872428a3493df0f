"""What a Service may say: defaults filled in, everything else checked, each refusal with its field.

Fields of Cloud Run that this installation cannot honour are refused in words, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hakobune.serving.document import parse_duration
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.quantity import parse_cpu
from hakobune.serving.service import (
    IngressTraffic,
    LaunchStage,
    ScalingMode,
    Service,
    TrafficTarget,
    TrafficType,
)
from hakobune.serving.template import (
    Container,
    RevisionScaling,
    RevisionTemplate,
)
from hakobune.serving.validate_container import DNS_LABEL, refuse_unsupported, validate_container

DEFAULT_TIMEOUT = "300s"
MAX_TIMEOUT_S = 3600
DEFAULT_CONCURRENCY = 80
MAX_CONCURRENCY = 1000
DEFAULT_MAX_INSTANCES = 100
RESERVED_NAMESPACES = (
    "run.googleapis.com",
    "cloud.googleapis.com",
    "serving.knative.dev",
    "autoscaling.knative.dev",
)


def validate_service(service: Service, *, short_name: str) -> Service:
    """*service* with every default filled in.

    Raises:
        InvalidArgumentError: names the field.
    """
    if service.template is None:
        raise InvalidArgumentError("is required", field="template")
    if len(service.description) > 512:
        raise InvalidArgumentError("is longer than 512 characters", field="description")
    refuse_unsupported(
        service, ("iap_enabled", "multi_region_settings"), prefix="", why="it is Google's own"
    )
    _check_keys(service.labels, "labels")
    _check_keys(service.annotations, "annotations")
    _check_scaling(service)
    return msgspec.structs.replace(
        service,
        ingress=IngressTraffic.ALL
        if service.ingress is IngressTraffic.UNSPECIFIED
        else service.ingress,
        launch_stage=LaunchStage.GA
        if service.launch_stage is LaunchStage.UNSPECIFIED
        else service.launch_stage,
        template=_validate_template(service.template, short_name),
        traffic=_validate_traffic(service.traffic),
    )


def _validate_template(template: RevisionTemplate, service: str) -> RevisionTemplate:
    refuse_unsupported(
        template,
        (
            "vpc_access",
            "encryption_key",
            "service_mesh",
            "session_affinity",
            "node_selector",
            "gpu_zonal_redundancy_disabled",
        ),
        prefix="template",
        why="this installation has nothing that could do it",
    )
    _check_keys(template.labels, "template.labels")
    _check_keys(template.annotations, "template.annotations")
    _check_revision_name(template.revision, service)
    if template.volumes:
        raise InvalidArgumentError("volumes are not supported", field="template.volumes")
    container = validate_container(_only_container(template), "template.containers[0]")
    assert container.resources is not None
    cpus = parse_cpu(container.resources.limits["cpu"], field="")
    return msgspec.structs.replace(
        template,
        containers=(container,),
        timeout=_validate_timeout(template.timeout),
        scaling=_validate_revision_scaling(template.scaling),
        max_instance_request_concurrency=_validate_concurrency(
            template.max_instance_request_concurrency, cpus
        ),
    )


def _only_container(template: RevisionTemplate) -> Container:
    match template.containers:
        case (container,):
            return container
        case ():
            raise InvalidArgumentError("one container is required", field="template.containers")
        case _:
            raise InvalidArgumentError(
                "several containers in one instance are not supported", field="template.containers"
            )


def _validate_timeout(text: str) -> str:
    seconds = parse_duration(text or DEFAULT_TIMEOUT, field="template.timeout")
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise InvalidArgumentError("is not between 1s and 3600s", field="template.timeout")
    return text or DEFAULT_TIMEOUT


def _validate_concurrency(concurrency: int, cpus: float) -> int:
    if not 0 <= concurrency <= MAX_CONCURRENCY:
        raise InvalidArgumentError(
            "is not 1 to 1000", field="template.maxInstanceRequestConcurrency"
        )
    if concurrency > 1 and cpus < 1:
        raise InvalidArgumentError(
            "more than one request at a time needs a whole CPU",
            field="template.maxInstanceRequestConcurrency",
        )
    return concurrency or (DEFAULT_CONCURRENCY if cpus >= 1 else 1)


def _validate_revision_scaling(scaling: RevisionScaling | None) -> RevisionScaling:
    low = scaling.min_instance_count if scaling else 0
    high = (scaling.max_instance_count if scaling else 0) or max(DEFAULT_MAX_INSTANCES, low)
    if low < 0 or high < low:
        raise InvalidArgumentError(
            f"minInstanceCount {low} and maxInstanceCount {high} contradict each other",
            field="template.scaling",
        )
    return RevisionScaling(min_instance_count=low, max_instance_count=high)


def _check_scaling(service: Service) -> None:
    scaling = service.scaling
    if scaling is None:
        return
    if scaling.scaling_mode is ScalingMode.MANUAL or scaling.manual_instance_count:
        raise InvalidArgumentError("manual scaling is not supported", field="scaling.scalingMode")
    if scaling.min_instance_count < 0 or scaling.max_instance_count < 0:
        raise InvalidArgumentError("counts are not negative", field="scaling")


def _check_revision_name(name: str, service: str) -> None:
    if name and not (
        name.startswith(service + "-") and len(name) <= 63 and DNS_LABEL.fullmatch(name)
    ):
        raise InvalidArgumentError(
            f"{name!r} cannot be a revision's name",
            field="template.revision",
            why=f"it starts with {service}- and is a DNS label of at most 63 characters",
        )


def _validate_traffic(targets: tuple[TrafficTarget, ...]) -> tuple[TrafficTarget, ...]:
    if not targets:
        return (TrafficTarget(type=TrafficType.LATEST, percent=100),)
    filled = tuple(_validate_target(target, f"traffic[{i}]") for i, target in enumerate(targets))
    total = sum(target.percent for target in filled)
    if total != 100:
        raise InvalidArgumentError(f"percents sum up to {total}, not 100", field="traffic")
    tags = [target.tag for target in filled if target.tag]
    if len(tags) != len(set(tags)):
        raise InvalidArgumentError("a tag is used twice", field="traffic")
    return filled


def _validate_target(target: TrafficTarget, field: str) -> TrafficTarget:
    kind = target.type
    if kind is TrafficType.UNSPECIFIED:
        kind = TrafficType.REVISION if target.revision else TrafficType.LATEST
    if (kind is TrafficType.REVISION) != bool(target.revision):
        raise InvalidArgumentError(
            "a revision is named exactly when the type is REVISION", field=f"{field}.revision"
        )
    if not 0 <= target.percent <= 100:
        raise InvalidArgumentError(f"{target.percent} is no percentage", field=f"{field}.percent")
    if target.tag and (not DNS_LABEL.fullmatch(target.tag) or "---" in target.tag):
        raise InvalidArgumentError(f"{target.tag!r} cannot be a tag", field=f"{field}.tag")
    return msgspec.structs.replace(target, type=kind)


def _check_keys(values: Mapping[str, str], field: str) -> None:
    for key in values:
        namespace, slash, _ = key.rpartition("/")
        if slash and namespace.endswith(RESERVED_NAMESPACES):
            raise InvalidArgumentError(
                f"{key} is reserved: what it says has a field of its own in v2", field=field
            )
