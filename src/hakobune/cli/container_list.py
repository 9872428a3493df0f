"""`hako container ls` and `inspect`: which containers there are, and all that is known of one."""

from __future__ import annotations

import argparse
import contextlib
import time

from hakobune.cli.main import Context
from hakobune.cli.output import print_document, print_json
from hakobune.cli.table import print_table
from hakobune.runtime.container import ContainerStatus, Phase
from hakobune.runtime.container_names import no_container
from hakobune.runtime.foreground_record import find_foreground, foreground_containers
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError

IMAGE_LABEL = "hako.image"


def list_containers(arguments: argparse.Namespace, context: Context) -> int:
    own = foreground_containers(context.settings)
    statuses = [container.status for container in own]
    with (
        contextlib.suppress(SupervisorUnavailableError),
        SupervisorClient(context.settings.supervisor_socket) as client,
    ):
        statuses += client.list()
    statuses.sort(key=lambda status: status.created_at)
    shown = [s for s in statuses if arguments.all or s.phase is not Phase.STOPPED]
    if arguments.format != "table":
        print_document([status.to_json() for status in shown], arguments.format, context.out)
        return 0
    rows = [
        (
            s.id,
            s.labels.get(IMAGE_LABEL, "-"),
            describe_phase(s, time.time()),
            s.address or "-",
            ", ".join(map(str, s.ports)) or "-",
        )
        for s in shown
    ]
    print_table(("CONTAINER", "IMAGE", "STATUS", "ADDRESS", "PORTS"), rows, context.out)
    return 0


def describe_phase(status: ContainerStatus, now: float) -> str:
    """`running 5 minutes`, `exited (137, out of memory)` …"""
    if status.phase is Phase.STOPPED:
        code = "unknown" if status.exit_code is None else str(status.exit_code)
        return f"exited ({code}{', out of memory' if status.oom_killed else ''})"
    if status.started_at is None:
        return str(status.phase)
    return f"{status.phase} {_age(now - status.started_at)}"


def _age(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} s"


def inspect(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.runtime.adoption import read_found

    documents = []
    for id in arguments.containers:
        own = find_foreground(context.settings, id)
        if own is not None:
            status, spec, owner = own.status, own.spec, "command"
        else:
            with SupervisorClient(context.settings.supervisor_socket) as client:
                status = client.get(id)
            found = read_found(context.settings.home / "containers" / id).spec
            if found is None:
                raise no_container(id)
            spec, owner = found, "supervisor"
        documents.append(
            {
                "id": id,
                "image": status.labels.get(IMAGE_LABEL, ""),
                "owner": owner,
                "status": status.to_json(),
                "spec": spec.to_json(),
            }
        )
    print_json(documents, context.out)
    return 0
