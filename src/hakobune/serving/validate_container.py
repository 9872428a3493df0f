"""Checks a container of a service's template and fills what it leaves open: port, variables, resources, startup probe (pure)."""

from __future__ import annotations

import re

import msgspec

from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.quantity import parse_cpu, parse_memory
from hakobune.serving.service import (
    Service,
)
from hakobune.serving.template import (
    Container,
    ContainerPort,
    HttpGetAction,
    Probe,
    ResourceRequirements,
    RevisionTemplate,
    TcpSocketAction,
)

DEFAULT_PORT = 8080
DEFAULT_CPU = "1"
DEFAULT_MEMORY = "512Mi"
STARTUP_BUDGET_S = 240
RESERVED_ENVIRONMENT = frozenset({"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"})
DNS_LABEL = re.compile("[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def validate_container(container: Container, field: str) -> Container:
    """*container* with every default filled in; *field* is where it stands in its document.

    Raises:
        InvalidArgumentError: with the field that cannot be accepted.
    """
    refuse_unsupported(
        container,
        ("source_code", "volume_mounts", "liveness_probe", "readiness_probe", "depends_on"),
        prefix=field,
        why="this installation does not do it yet",
    )
    if not container.image:
        raise InvalidArgumentError("is required", field=f"{field}.image")
    if container.name and not DNS_LABEL.fullmatch(container.name):
        raise InvalidArgumentError("is not a DNS label", field=f"{field}.name")
    if container.working_dir and not container.working_dir.startswith("/"):
        raise InvalidArgumentError("is not an absolute path", field=f"{field}.workingDir")
    _check_environment(container, field)
    port = _validate_port(container.ports, field)
    return msgspec.structs.replace(
        container,
        ports=(port,),
        resources=_validate_resources(container.resources, field),
        startup_probe=_validate_startup_probe(
            container.startup_probe, port.container_port, f"{field}.startupProbe"
        ),
    )


def _check_environment(container: Container, field: str) -> None:
    seen: set[str] = set()
    for i, variable in enumerate(container.env):
        place = f"{field}.env[{i}]"
        if variable.value_source is not None:
            raise InvalidArgumentError("secrets are not supported", field=f"{place}.valueSource")
        if not variable.name or "=" in variable.name or "\0" in variable.name + variable.value:
            raise InvalidArgumentError(
                f"{variable.name!r} cannot be a variable", field=f"{place}.name"
            )
        if variable.name in RESERVED_ENVIRONMENT:
            raise InvalidArgumentError(
                f"{variable.name} is set by the platform and cannot be set here",
                field=f"{place}.name",
            )
        if variable.name in seen:
            raise InvalidArgumentError(f"{variable.name} is set twice", field=f"{place}.name")
        seen.add(variable.name)


def _validate_port(ports: tuple[ContainerPort, ...], field: str) -> ContainerPort:
    if len(ports) > 1:
        raise InvalidArgumentError("one port at most", field=f"{field}.ports")
    port = ports[0] if ports else ContainerPort()
    if port.name not in ("", "http1", "h2c"):
        raise InvalidArgumentError(
            f"{port.name!r} is neither http1 nor h2c", field=f"{field}.ports[0].name"
        )
    if not 0 <= port.container_port <= 65535:
        raise InvalidArgumentError(
            f"{port.container_port} is no port", field=f"{field}.ports[0].containerPort"
        )
    return ContainerPort(
        name=port.name or "http1", container_port=port.container_port or DEFAULT_PORT
    )


def _validate_resources(resources: ResourceRequirements | None, field: str) -> ResourceRequirements:
    """Without any word about resources CPU is given while requests run, as Cloud Run does it."""
    given = resources or ResourceRequirements(cpu_idle=True)
    limits = {"cpu": DEFAULT_CPU, "memory": DEFAULT_MEMORY} | given.limits
    for name in limits.keys() - {"cpu", "memory"}:
        raise InvalidArgumentError(
            f"{name} cannot be limited here", field=f"{field}.resources.limits"
        )
    parse_cpu(limits["cpu"], field=f"{field}.resources.limits.cpu")
    parse_memory(limits["memory"], field=f"{field}.resources.limits.memory")
    return msgspec.structs.replace(given, limits=limits)


def _validate_startup_probe(probe: Probe | None, port: int, field: str) -> Probe:
    if probe is None:
        return Probe(
            timeout_seconds=STARTUP_BUDGET_S,
            period_seconds=STARTUP_BUDGET_S,
            failure_threshold=1,
            tcp_socket=TcpSocketAction(port=port),
        )
    if probe.grpc is not None:
        raise InvalidArgumentError("grpc probes are not supported", field=f"{field}.grpc")
    if probe.http_get is not None and probe.tcp_socket is not None:
        raise InvalidArgumentError("choose one of httpGet and tcpSocket", field=field)
    filled = msgspec.structs.replace(
        probe,
        timeout_seconds=probe.timeout_seconds or 1,
        period_seconds=probe.period_seconds or 10,
        failure_threshold=probe.failure_threshold or 3,
        http_get=_filled_http(probe.http_get, port, field),
        tcp_socket=None
        if probe.http_get is not None
        else TcpSocketAction(port=(probe.tcp_socket or TcpSocketAction()).port or port),
    )
    _check_startup_times(filled, field)
    return filled


def _filled_http(action: HttpGetAction | None, port: int, field: str) -> HttpGetAction | None:
    if action is None:
        return None
    if not action.path.startswith("/"):
        raise InvalidArgumentError("is not an absolute path", field=f"{field}.httpGet.path")
    return msgspec.structs.replace(action, port=action.port or port)


def _check_startup_times(probe: Probe, field: str) -> None:
    if not 0 <= probe.initial_delay_seconds <= STARTUP_BUDGET_S:
        raise InvalidArgumentError("is not 0 to 240", field=f"{field}.initialDelaySeconds")
    if not 1 <= probe.period_seconds <= STARTUP_BUDGET_S:
        raise InvalidArgumentError("is not 1 to 240", field=f"{field}.periodSeconds")
    if not 1 <= probe.timeout_seconds <= probe.period_seconds:
        raise InvalidArgumentError(
            "is not between 1 and periodSeconds", field=f"{field}.timeoutSeconds"
        )
    if not 1 <= probe.failure_threshold * probe.period_seconds <= STARTUP_BUDGET_S:
        raise InvalidArgumentError(
            "failureThreshold times periodSeconds is more than 240 seconds",
            field=f"{field}.failureThreshold",
        )


def refuse_unsupported(
    document: Service | RevisionTemplate | Container,
    fields: tuple[str, ...],
    *,
    prefix: str,
    why: str,
) -> None:
    """Refuse a document that says something in one of *fields* (their names here); *prefix* is where it stands.

    Raises:
        InvalidArgumentError: with the field, and *why*.
    """
    names = {info.name: info.encode_name for info in msgspec.structs.fields(document)}
    for name in fields:
        if getattr(document, name):
            place = ".".join(part for part in (prefix, names[name]) if part)
            raise InvalidArgumentError("is not supported", field=place, why=why)
