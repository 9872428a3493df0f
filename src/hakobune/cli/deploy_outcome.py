"""Who serves, before a deploy and after it, in the words of its lines."""

from __future__ import annotations

from hakobune.cli.client import Client, Document, condition, short_name
from hakobune.cli.deploy_lines import DeployLines
from hakobune.cli.deploy_watch import Parting


def describe_start(
    client: Client,
    service: Document,
    before: Document | None,
    lines: DeployLines,
    parting: Parting,
) -> None:
    """Say which revision has become ready, how long that took, who was let go, and who gets the traffic."""
    latest = short_name(service.get("latestReadyRevision", ""))
    if before is not None and short_name(before.get("latestReadyRevision", "")) == latest:
        lines.total("live", f"{latest} serves on · nothing changed")
        return
    revision = client.find(service.get("latestReadyRevision", "")) or {}
    message = condition(revision, "ContainerHealthy").get("message") or "ready"
    seconds = lines.spent("start")
    left = parting.describe(service)
    lines.row("start", " · ".join(filter(None, (latest, message, left))), seconds=seconds)
    shares = [
        f"{short_name(target.get('revision', '')) or latest} gets {target.get('percent', 0)} %"
        for target in service.get("trafficStatuses", [])
        if target.get("percent")
    ]
    lines.total("live", ", ".join(shares) or f"{latest} gets no traffic yet")


def serving(name: str, current: Document) -> str:
    """Who serves before anything is changed."""
    revision = short_name(current.get("latestReadyRevision", ""))
    return f"{revision} serves" if revision else f"{name} has never been ready"


def keeps(current: Document | None) -> str:
    """Who serves in spite of a failure: `shop-00002 keeps 100 %`; empty if nobody does."""
    return ", ".join(
        f"{short_name(target.get('revision', ''))} keeps {target['percent']} %"
        for target in (current or {}).get("trafficStatuses", [])
        if target.get("percent") and target.get("revision")
    )


def next_commands(name: str, before: Document | None, service: Document) -> str:
    """What people do after a deploy."""
    old = short_name((before or {}).get("latestReadyRevision", ""))
    changed = old and old != short_name(service.get("latestReadyRevision", ""))
    latest = short_name(service.get("latestReadyRevision", ""))
    shares = [t for t in service.get("trafficStatuses", []) if t.get("percent")]
    if shares and not any(short_name(t.get("revision", "")) in ("", latest) for t in shares):
        return f"hako services update-traffic {name} --to-latest gives {latest} the traffic"
    undo = f" · undo: hako rollback {name}"
    return f"hako logs -f {name} · hako services describe {name}{undo if changed else ''}"
