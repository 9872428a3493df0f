"""The Revision of Cloud Run v2: one immutable state of a service, its name, and how long it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hakobune.serving.document import Document, encode_document
from hakobune.serving.service import Condition, LaunchStage, Service, ServiceName
from hakobune.serving.template import (
    Container,
    EncryptionKeyRevocationAction,
    ExecutionEnvironment,
    RevisionScaling,
    RevisionTemplate,
    Volume,
)

KEPT_REVISIONS = 1000


class RevisionScalingStatus(Document, frozen=True):
    desired_min_instance_count: int = 0


class Revision(Document, frozen=True):
    """A template with a name, made once. Its containers' images are references by digest."""

    name: str = ""
    uid: str = ""
    generation: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    create_time: str = ""
    update_time: str = ""
    delete_time: str = ""
    expire_time: str = ""
    launch_stage: LaunchStage = LaunchStage.UNSPECIFIED
    service: str = ""
    scaling: RevisionScaling | None = None
    vpc_access: dict[str, Any] | None = None
    max_instance_request_concurrency: int = 0
    timeout: str = ""
    service_account: str = ""
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    execution_environment: ExecutionEnvironment = ExecutionEnvironment.UNSPECIFIED
    encryption_key: str = ""
    service_mesh: dict[str, Any] | None = None
    encryption_key_revocation_action: EncryptionKeyRevocationAction = (
        EncryptionKeyRevocationAction.UNSPECIFIED
    )
    encryption_key_shutdown_duration: str = ""
    reconciling: bool = False
    conditions: tuple[Condition, ...] = ()
    observed_generation: str = ""
    log_uri: str = ""
    satisfies_pzs: bool = False
    session_affinity: bool = False
    scaling_status: RevisionScalingStatus | None = None
    node_selector: dict[str, Any] | None = None
    gpu_zonal_redundancy_disabled: bool = False
    creator: str = ""
    etag: str = ""

    @property
    def short_name(self) -> str:
        return self.name.rpartition("/")[2]


# What a revision takes over from the template as it is.
_SHARED = tuple(
    set(Revision.__struct_fields__) & (set(RevisionTemplate.__struct_fields__) - {"revision"})
)


def make_revision(
    service: Service, *, short_name: str, uid: str, now: str, creator: str = ""
) -> Revision:
    """The revision that *service*'s template describes, not yet ready."""
    template = service.template
    assert template is not None, "a validated service has a template"
    shared = {field: getattr(template, field) for field in _SHARED}
    return Revision(
        **shared,
        name=ServiceName.parse(service.name).revision(short_name),
        service=service.name,
        uid=uid,
        generation="1",
        create_time=now,
        update_time=now,
        launch_stage=service.launch_stage,
        creator=creator,
        reconciling=True,
    )


def next_revision_name(service: str, taken: Iterable[str]) -> str:
    """`shop-00003` after `shop-00002`; numbers are never used twice while a higher one exists."""
    numbers = [
        int(suffix)
        for name in taken
        if name.startswith(service + "-")
        and (suffix := name.removeprefix(service + "-")).isdecimal()
    ]
    return f"{service}-{max(numbers, default=0) + 1:05d}"


def same_template(one: RevisionTemplate, other: RevisionTemplate) -> bool:
    """Whether both describe the same revision; the name a template asks for is not part of it."""
    return encode_document(msgspec.structs.replace(one, revision="")) == encode_document(
        msgspec.structs.replace(other, revision="")
    )


def referenced_revisions(service: Service) -> frozenset[str]:
    """Short names that the traffic of *service* needs, with or without requests."""
    named = {t.revision for t in service.traffic if t.revision}
    served = {t.revision for t in service.traffic_statuses if t.revision}
    latest = {
        name.rpartition("/")[2]
        for name in (service.latest_ready_revision, service.latest_created_revision)
        if name
    }
    return frozenset(named | served | latest)


def retired_revisions(
    service: Service, revisions: Sequence[Revision], *, keep: int = KEPT_REVISIONS
) -> tuple[Revision, ...]:
    """Those that may go, oldest first, so that at most *keep* remain; never one with traffic or a tag."""
    needed = referenced_revisions(service)
    spare = len(revisions) - keep
    oldest_first = sorted(revisions, key=lambda r: (r.create_time, r.name))
    free = [r for r in oldest_first if r.short_name not in needed]
    return tuple(free[: max(spare, 0)])
