"""What a deploy watches while it waits: how the new revision's start goes, and how the old ones leave."""

from __future__ import annotations

import time

from hakobune.cli.client import ApiError, Client, Document, short_name
from hakobune.cli.deploy_lines import DeployLines

# How long the old revision's last requests are waited for, before that is told instead.
PARTING_S = 1.5


class StartWatch:
    """Shows, while a revision starts, what the controller notes about it: each thing once."""

    def __init__(self, client: Client, lines: DeployLines) -> None:
        self._client = client
        self._lines = lines
        self._shown: set[str] = set()

    def look(self, operation: Document) -> None:
        revision = operation.get("metadata", {}).get("latestCreatedRevision")
        if not revision:
            return
        for event in self._client.get(f"{revision}/events").get("events", []):
            message = event["message"]
            if event["reason"] == "StillStarting" and message not in self._shown:
                self._shown.add(message)
                self._lines.note(f"{short_name(revision)} {message}")


class Parting:
    """How the revisions that served before a deploy leave, as the controller notes it."""

    def __init__(self, client: Client, before: Document | None) -> None:
        self._client = client
        served = (
            f"{before['name']}/revisions/{short_name(target['revision'])}"
            for target in (before or {}).get("trafficStatuses", [])
            if before and target.get("percent") and target.get("revision")
        )
        # How often each had drained before: what comes on top of it is this deploy's.
        self._served = {name: len(self._notes(name)) for name in served}

    def describe(self, service: Document) -> str:
        """`shop-00001 drained, 0 requests cut`, waited for a moment; empty if none of them has lost its traffic."""
        stays = {
            short_name(target.get("revision", ""))
            for target in service.get("trafficStatuses", [])
            if target.get("percent")
        }
        leaving = [name for name in self._served if short_name(name) not in stays]
        deadline = time.monotonic() + PARTING_S
        return " · ".join(self._say(name, deadline) for name in leaving)

    def _say(self, name: str, deadline: float) -> str:
        while True:
            notes = self._notes(name)
            if len(notes) > self._served[name]:
                return f"{short_name(name)} {notes[-1]}"
            if time.monotonic() > deadline:
                return f"{short_name(name)} finishes the requests it has"
            time.sleep(0.02)

    def _notes(self, name: str) -> list[str]:
        try:
            events = self._client.get(f"{name}/events").get("events", [])
        except ApiError:
            return []
        return [event["message"] for event in events if event["reason"] == "Drained"]
