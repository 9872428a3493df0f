"""What a revision runs: the RevisionTemplate of Cloud Run v2 and the messages inside it."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from hakobune.serving.document import Document, ProtoEnum


class ExecutionEnvironment(ProtoEnum):
    UNSPECIFIED = "EXECUTION_ENVIRONMENT_UNSPECIFIED"
    GEN1 = "EXECUTION_ENVIRONMENT_GEN1"
    GEN2 = "EXECUTION_ENVIRONMENT_GEN2"


class EncryptionKeyRevocationAction(ProtoEnum):
    UNSPECIFIED = "ENCRYPTION_KEY_REVOCATION_ACTION_UNSPECIFIED"
    PREVENT_NEW = "PREVENT_NEW"
    SHUTDOWN = "SHUTDOWN"


class Medium(ProtoEnum):
    UNSPECIFIED = "MEDIUM_UNSPECIFIED"
    MEMORY = "MEMORY"


class HttpHeader(Document, frozen=True):
    name: str
    value: str = ""


class HttpGetAction(Document, frozen=True):
    path: str = "/"
    http_headers: tuple[HttpHeader, ...] = ()
    port: int = 0


class TcpSocketAction(Document, frozen=True):
    port: int = 0


class GrpcAction(Document, frozen=True):
    port: int = 0
    service: str = ""


class Probe(Document, frozen=True):
    """How an instance is asked whether it is well. Zero means the default of `validate.py`."""

    initial_delay_seconds: int = 0
    timeout_seconds: int = 0
    period_seconds: int = 0
    failure_threshold: int = 0
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None


class SecretKeySelector(Document, frozen=True):
    secret: str
    version: str = ""


class EnvVarSource(Document, frozen=True):
    secret_key_ref: SecretKeySelector | None = None


class EnvVar(Document, frozen=True):
    name: str
    value: str = ""
    value_source: EnvVarSource | None = None


class ResourceRequirements(Document, frozen=True):
    """Limits, and when CPU is given. Absent `cpu_idle` means CPU always, as the proto's zero does."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    cpu_idle: bool = False
    startup_cpu_boost: bool = False


class ContainerPort(Document, frozen=True):
    name: str = ""
    container_port: int = 0


class VolumeMount(Document, frozen=True):
    name: str
    mount_path: str = ""
    sub_path: str = ""


class EmptyDirVolumeSource(Document, frozen=True):
    medium: Medium = Medium.UNSPECIFIED
    size_limit: str = ""


class Volume(Document, frozen=True):
    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    secret: dict[str, Any] | None = None
    cloud_sql_instance: dict[str, Any] | None = None
    nfs: dict[str, Any] | None = None
    gcs: dict[str, Any] | None = None


class Container(Document, frozen=True):
    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset({"buildInfo"})

    name: str = ""
    image: str = ""
    source_code: dict[str, Any] | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    resources: ResourceRequirements | None = None
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str = ""
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    depends_on: tuple[str, ...] = ()
    base_image_uri: str = ""


class RevisionScaling(Document, frozen=True):
    min_instance_count: int = 0
    max_instance_count: int = 0


class RevisionTemplate(Document, frozen=True):
    revision: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    scaling: RevisionScaling | None = None
    vpc_access: dict[str, Any] | None = None
    timeout: str = ""
    service_account: str = ""
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    execution_environment: ExecutionEnvironment = ExecutionEnvironment.UNSPECIFIED
    encryption_key: str = ""
    encryption_key_revocation_action: EncryptionKeyRevocationAction = (
        EncryptionKeyRevocationAction.UNSPECIFIED
    )
    encryption_key_shutdown_duration: str = ""
    max_instance_request_concurrency: int = 0
    service_mesh: dict[str, Any] | None = None
    session_affinity: bool = False
    health_check_disabled: bool = False
    node_selector: dict[str, Any] | None = None
    gpu_zonal_redundancy_disabled: bool = False
