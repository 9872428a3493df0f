"""What rules a change of a service out, and what it would be given: label, port (pure)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hakobune.serving.catalog import RevisionEntry
from hakobune.serving.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
)
from hakobune.serving.service import Service, ServiceName, TrafficType


def allocate_label(name: ServiceName, taken: Iterable[str]) -> str:
    """The service's part of its host names: its id, or that with a number if another project has it."""
    used = set(taken)
    candidate, number = name.service, 2
    while candidate in used:
        candidate, number = f"{name.service}-{number}", number + 1
    return candidate


def allocate_port(ports: Iterable[int], taken: Iterable[int | None]) -> int | None:
    """The lowest free one of *ports*; `None` when all are given away."""
    used = set(taken)
    return next((port for port in sorted(ports) if port not in used), None)


def check_etag(current: str, given: str) -> None:
    """See that the resource is the one that was read; an empty etag stands for any.

    Raises:
        AbortedError: somebody has changed it since.
    """
    if given and given != current:
        raise AbortedError(
            "the resource was changed since it was read",
            why="its etag is another one",
            fix="read it again",
        )


def check_traffic(service: Service, revisions: set[str]) -> None:
    """See that the traffic names revisions that there are.

    Raises:
        InvalidArgumentError: with the target that names none.
    """
    for i, target in enumerate(service.traffic):
        if target.type is TrafficType.REVISION and target.revision not in revisions:
            raise InvalidArgumentError(
                f"there is no revision {target.revision!r}",
                field=f"traffic[{i}].revision",
                fix="`hako revisions list` names them",
            )


def check_ready(service: Service, revisions: Iterable[RevisionEntry]) -> None:
    """See that the traffic names no revision that cannot serve.

    Raises:
        FailedPreconditionError: one of them has failed.
    """
    failed = {r.revision.short_name for r in revisions if r.failed}
    for i, target in enumerate(service.traffic):
        if target.type is TrafficType.REVISION and target.revision in failed:
            raise FailedPreconditionError(
                f"traffic[{i}].revision: {target.revision} cannot serve requests",
                why="it has failed to become ready",
                fix="choose one that is ready: `hako revisions list` shows them",
            )


def differs(one: Service, other: Service) -> bool:
    """Whether anything that a user may set is another."""
    volatile = Service.OUTPUT_ONLY | {"etag", "client", "clientVersion"}
    settable = [f for f in msgspec.structs.fields(Service) if f.encode_name not in volatile]
    return any(getattr(one, f.name) != getattr(other, f.name) for f in settable)
