"""The Service of Cloud Run v2: what the user wants, and how far it has come.

Checks and defaults are `validate.py`; changing a service by a field mask is `mask.py`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from hakobune.serving.document import Document, ProtoEnum, encode_document
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.template import RevisionTemplate

MAX_NAME = 49


class IngressTraffic(ProtoEnum):
    UNSPECIFIED = "INGRESS_TRAFFIC_UNSPECIFIED"
    ALL = "INGRESS_TRAFFIC_ALL"
    INTERNAL_ONLY = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    INTERNAL_LOAD_BALANCER = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    NONE = "INGRESS_TRAFFIC_NONE"


class LaunchStage(ProtoEnum):
    UNSPECIFIED = "LAUNCH_STAGE_UNSPECIFIED"
    EARLY_ACCESS = "EARLY_ACCESS"
    ALPHA = "ALPHA"
    BETA = "BETA"
    GA = "GA"
    DEPRECATED = "DEPRECATED"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    PRELAUNCH = "PRELAUNCH"


class TrafficType(ProtoEnum):
    UNSPECIFIED = "TRAFFIC_TARGET_ALLOCATION_TYPE_UNSPECIFIED"
    LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


class ScalingMode(ProtoEnum):
    UNSPECIFIED = "SCALING_MODE_UNSPECIFIED"
    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"


class ConditionState(ProtoEnum):
    UNSPECIFIED = "STATE_UNSPECIFIED"
    PENDING = "CONDITION_PENDING"
    RECONCILING = "CONDITION_RECONCILING"
    FAILED = "CONDITION_FAILED"
    SUCCEEDED = "CONDITION_SUCCEEDED"


class Severity(ProtoEnum):
    UNSPECIFIED = "SEVERITY_UNSPECIFIED"
    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"


class Condition(Document, frozen=True):
    """One statement about a resource. A succeeded condition carries no reason."""

    type: str
    state: ConditionState = ConditionState.UNSPECIFIED
    message: str = ""
    last_transition_time: str = ""
    severity: Severity = Severity.UNSPECIFIED
    reason: str = ""
    revision_reason: str = ""
    execution_reason: str = ""


class TrafficTarget(Document, frozen=True):
    type: TrafficType = TrafficType.UNSPECIFIED
    revision: str = ""
    percent: int = 0
    tag: str = ""


class TrafficTargetStatus(Document, frozen=True):
    type: TrafficType = TrafficType.UNSPECIFIED
    revision: str = ""
    percent: int = 0
    tag: str = ""
    uri: str = ""


class ServiceScaling(Document, frozen=True):
    min_instance_count: int = 0
    max_instance_count: int = 0
    scaling_mode: ScalingMode = ScalingMode.UNSPECIFIED
    manual_instance_count: int = 0


class Service(Document, frozen=True):
    """A service. `name` is full: `projects/P/locations/L/services/S`; int64 are strings."""

    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset(
        {
            "uid",
            "generation",
            "createTime",
            "updateTime",
            "deleteTime",
            "expireTime",
            "creator",
            "lastModifier",
            "urls",
            "uri",
            "observedGeneration",
            "terminalCondition",
            "conditions",
            "latestReadyRevision",
            "latestCreatedRevision",
            "trafficStatuses",
            "satisfiesPzs",
            "threatDetectionEnabled",
            "reconciling",
        }
    )

    name: str = ""
    description: str = ""
    uid: str = ""
    generation: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    create_time: str = ""
    update_time: str = ""
    delete_time: str = ""
    expire_time: str = ""
    creator: str = ""
    last_modifier: str = ""
    client: str = ""
    client_version: str = ""
    ingress: IngressTraffic = IngressTraffic.UNSPECIFIED
    launch_stage: LaunchStage = LaunchStage.UNSPECIFIED
    binary_authorization: dict[str, Any] | None = None
    template: RevisionTemplate | None = None
    traffic: tuple[TrafficTarget, ...] = ()
    scaling: ServiceScaling | None = None
    invoker_iam_disabled: bool = False
    default_uri_disabled: bool = False
    iap_enabled: bool = False
    multi_region_settings: dict[str, Any] | None = None
    custom_audiences: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    observed_generation: str = ""
    terminal_condition: Condition | None = None
    conditions: tuple[Condition, ...] = ()
    latest_ready_revision: str = ""
    latest_created_revision: str = ""
    traffic_statuses: tuple[TrafficTargetStatus, ...] = ()
    uri: str = ""
    satisfies_pzs: bool = False
    threat_detection_enabled: bool = False
    build_config: dict[str, Any] | None = None
    reconciling: bool = False
    etag: str = ""


@dataclass(frozen=True, slots=True, order=True)
class ServiceName:
    """`projects/P/locations/L/services/S`, parsed once."""

    project: str
    location: str
    service: str

    @classmethod
    def parse(cls, text: str) -> ServiceName:
        """Read `projects/P/locations/L/services/S`.

        Raises:
            InvalidArgumentError: the text has another form.
        """
        match text.split("/"):
            case ["projects", project, "locations", location, "services", service] if (
                project and location and service
            ):
                return cls(project, location, service)
            case _:
                raise InvalidArgumentError(
                    f"{text!r} is not projects/P/locations/L/services/S", field="name"
                )

    @classmethod
    def within(cls, parent: str, service: str) -> ServiceName:
        """The service called *service* in `projects/P/locations/L`.

        Raises:
            InvalidArgumentError: the parent has another form, or the id breaks Cloud Run's rules.
        """
        project, location = parse_parent(parent)
        if len(service) > MAX_NAME or not re.fullmatch("[a-z]([a-z0-9-]*[a-z0-9])?", service):
            raise InvalidArgumentError(
                f"{service!r} cannot be a service's name",
                field="serviceId",
                why=f"lower-case letters, digits and dashes, a letter first, no dash last, at most {MAX_NAME}",
            )
        if "---" in service:
            raise InvalidArgumentError(
                f"{service!r} cannot be a service's name",
                field="serviceId",
                why="three dashes separate a tag from a service in a host name",
            )
        return cls(project, location, service)

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    def revision(self, short: str) -> str:
        """The full name of one of its revisions."""
        return f"{self}/revisions/{short}"

    def __str__(self) -> str:
        return f"{self.parent}/services/{self.service}"


def parse_parent(text: str) -> tuple[str, str]:
    """Project and location of `projects/P/locations/L`.

    Raises:
        InvalidArgumentError: the text has another form.
    """
    match text.split("/"):
        case ["projects", project, "locations", location] if project and location:
            return project, location
        case _:
            raise InvalidArgumentError(f"{text!r} is not projects/P/locations/L", field="parent")


def etag_of(service: Service) -> str:
    """A quoted text that is another one whenever anything in the service is."""
    bare = msgspec.structs.replace(service, etag="")
    return f'"{hashlib.sha256(encode_document(bare)).hexdigest()[:24]}"'


def with_etag(service: Service) -> Service:
    return msgspec.structs.replace(service, etag=etag_of(service))
