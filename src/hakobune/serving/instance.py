"""An instance: one container of a revision, as the serving plane sees it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

from hakobune.runtime.container import ContainerStatus, Phase

KIND = "instance"
KIND_LABEL = "hako.kind"
REVISION_LABEL = "hako.revision"


class InstanceState(StrEnum):
    """Where an instance is; only `READY` takes requests."""

    STARTING = "starting"  # made, started, asked by its startup probe
    READY = "ready"
    PARKED = "parked"  # runs on, gets no new requests
    FREEZING = "freezing"  # on its way from ready to frozen
    FROZEN = "frozen"
    THAWING = "thawing"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Instance:
    """What the controller knows of one container. `running` counts its requests at the last look."""

    id: str
    revision: str  # full name
    state: InstanceState
    address: str = ""
    running: int = 0
    idle_since: float = 0.0
    since: float = 0.0


def new_instance_id(short_revision: str) -> str:
    """A container's name: at most 63 characters, never used twice."""
    return f"{short_revision[:54]}-{secrets.token_hex(4)}"


def instance_labels(revision: str) -> dict[str, str]:
    """How a restarted controller finds its containers again."""
    return {KIND_LABEL: KIND, REVISION_LABEL: revision}


def adopted_state(status: ContainerStatus, *, in_ingress: bool) -> InstanceState | None:
    """What a container found at start is to a new controller; `None` is one to remove.

    Only one that HAProxy knows has passed its probe.
    """
    match status.phase:
        case Phase.RUNNING if status.stopping:
            return InstanceState.STOPPING
        case Phase.FROZEN:
            return InstanceState.FROZEN
        case Phase.RUNNING:
            return InstanceState.READY if in_ingress else InstanceState.STARTING
        case Phase.CREATING | Phase.CREATED | Phase.STOPPED:
            return None
