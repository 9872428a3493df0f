"""What services and revisions say of themselves while they change and afterwards (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hakobune.serving.revision import Revision
from hakobune.serving.service import (
    Condition,
    ConditionState,
    Service,
    Severity,
    TrafficTargetStatus,
    with_etag,
)

READY = "Ready"
CONFIGURATIONS_READY = "ConfigurationsReady"
ROUTES_READY = "RoutesReady"
CONTAINER_HEALTHY = "ContainerHealthy"
RESOURCES_AVAILABLE = "ResourcesAvailable"


def reconciling_service(service: Service, *, now: str) -> Service:
    """The service while its latest wish is carried out."""
    state = ConditionState.RECONCILING
    return with_etag(
        msgspec.structs.replace(
            service,
            reconciling=True,
            update_time=now,
            terminal_condition=_condition(READY, state, now=now),
            conditions=(
                _condition(ROUTES_READY, state, now=now),
                _condition(CONFIGURATIONS_READY, state, now=now),
            ),
        )
    )


def settled_service(
    service: Service,
    *,
    latest_ready: str,
    statuses: Sequence[TrafficTargetStatus],
    urls: tuple[str, ...],
    now: str,
) -> Service:
    """The service once everything is as it was asked for. *latest_ready* is a full name."""
    state = ConditionState.SUCCEEDED
    return with_etag(
        msgspec.structs.replace(
            service,
            reconciling=False,
            observed_generation=service.generation,
            latest_ready_revision=latest_ready,
            traffic_statuses=tuple(statuses),
            urls=urls,
            uri=urls[0],
            terminal_condition=_condition(READY, state, now=now),
            conditions=(
                _condition(ROUTES_READY, state, now=now),
                _condition(CONFIGURATIONS_READY, state, now=now),
            ),
        )
    )


def failed_service(service: Service, *, message: str, now: str) -> Service:
    """The service when its latest revision does not become ready: what served before serves on."""
    failed = _condition(
        CONFIGURATIONS_READY,
        ConditionState.FAILED,
        message=message,
        reason="REVISION_FAILED",
        now=now,
    )
    routes = ConditionState.SUCCEEDED if service.traffic_statuses else ConditionState.FAILED
    return with_etag(
        msgspec.structs.replace(
            service,
            reconciling=False,
            observed_generation=service.generation,
            terminal_condition=msgspec.structs.replace(failed, type=READY),
            conditions=(_condition(ROUTES_READY, routes, now=now), failed),
        )
    )


def ready_revision(revision: Revision, *, message: str, now: str) -> Revision:
    """The revision once an instance of it has passed its probe; *message* says how."""
    done = ConditionState.SUCCEEDED
    return msgspec.structs.replace(
        revision,
        reconciling=False,
        update_time=now,
        observed_generation=revision.generation,
        conditions=(
            _condition(READY, done, now=now),
            _condition(CONTAINER_HEALTHY, done, message=message, now=now),
            _condition(RESOURCES_AVAILABLE, done, now=now),
        ),
    )


def failed_revision(revision: Revision, *, message: str, now: str) -> Revision:
    """The revision that did not become ready; *message* is the whole diagnosis."""
    healthy = Condition(
        type=CONTAINER_HEALTHY,
        state=ConditionState.FAILED,
        message=message,
        severity=Severity.ERROR,
        last_transition_time=now,
        revision_reason="HEALTH_CHECK_CONTAINER_ERROR",
    )
    return msgspec.structs.replace(
        revision,
        reconciling=False,
        update_time=now,
        observed_generation=revision.generation,
        conditions=(msgspec.structs.replace(healthy, type=READY), healthy),
    )


def _condition(
    kind: str, state: ConditionState, *, now: str, message: str = "", reason: str = ""
) -> Condition:
    severity = Severity.ERROR if state is ConditionState.FAILED else Severity.UNSPECIFIED
    return Condition(
        type=kind,
        state=state,
        message=message,
        reason=reason,
        severity=severity,
        last_transition_time=now,
    )
