"""`hako rollback`: the service's traffic goes back to an earlier revision, in one write; nothing is built or restarted."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from hakobune.cli.client import Client, Document, short_name
from hakobune.cli.main import Context
from hakobune.cli.revisions import image_word, state_word
from hakobune.cli.service_place import Place, add_place
from hakobune.cli.services import first_url, wanted_traffic
from hakobune.errors import HakoError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Give all traffic to the ready revision before the one that serves now. Later deploys get no traffic until "
        "`hako services update-traffic SERVICE --to-latest`."
    )
    parser.add_argument("service")
    parser.add_argument(
        "--to", metavar="REVISION", help="this revision (`hako revisions list SERVICE` names them)"
    )
    add_place(parser)
    parser.set_defaults(run=_rollback)


def _rollback(arguments: argparse.Namespace, context: Context) -> int:
    began = time.monotonic()
    client = Client(context.settings.api_socket)
    name = Place.of(arguments).service(arguments.service)
    flags = Place.of_name(name).flags
    service = client.get(name)
    revisions = list(client.list(name, "revisions"))
    serving = most_served(service)
    target = rollback_target(
        short_name(name), revisions, serving=serving, to=arguments.to or "", flags=flags
    )
    wanted = short_name(target["name"])
    traffic = wanted_traffic(
        service.get("traffic", []),
        to_latest=False,
        percents={wanted: "100"},
        tags=None,
        removed_tags=(),
    )
    service = client.wait(client.update(name, {"traffic": traffic}, mask="traffic"))
    before = next((r for r in revisions if short_name(r["name"]) == serving), None)
    was = f" · was {serving}, {image_word(before)}" if before else ""
    print(
        f"live     {wanted} gets 100 %, {image_word(target)}{was} · {time.monotonic() - began:.1f} s",
        file=context.err,
    )
    print(
        f"         next: hako services update-traffic {short_name(name)}{flags} --to-latest (a deploy gets no traffic before)",
        file=context.err,
    )
    print(first_url(service), file=context.out)
    return 0


def most_served(service: Document) -> str:
    """The short name of the revision with the largest share of the traffic; empty if none has any."""
    statuses = [
        target
        for target in service.get("trafficStatuses", [])
        if target.get("percent") and target.get("revision")
    ]
    best: Document = max(statuses, key=lambda target: int(target["percent"]), default={})
    return short_name(best.get("revision", ""))


def rollback_target(
    service: str, revisions: Sequence[Document], *, serving: str, to: str = "", flags: str = ""
) -> Document:
    """The revision to go back to (pure).

    Args:
        revisions: newest first. serving: the short name of the one that has the traffic now.
        flags: where the service is (`Place.flags`).

    Raises:
        HakoError: there is no such revision, it is not ready, or it serves already.
    """
    names = [short_name(revision["name"]) for revision in revisions]
    listing = f"hako revisions list {service}{flags}"
    if to:
        wanted = short_name(to)
        if wanted not in names:
            raise HakoError(f"{service} has no revision {wanted}", fix=f"{listing} names them")
        found = revisions[names.index(wanted)]
        if wanted == serving:
            raise HakoError(f"{wanted} serves {service} already", fix=listing)
        if state_word(found) != "ready":
            raise HakoError(
                f"{service} cannot go back to {wanted}",
                why=f"that revision is {state_word(found)}",
                fix=f"choose one that is ready: {listing}",
            )
        return found
    older = revisions[names.index(serving) + 1 :] if serving in names else revisions
    for revision in older:
        if state_word(revision) == "ready":
            return revision
    raise HakoError(
        f"{service} has no earlier revision to go back to",
        why=f"none before {serving} is ready" if serving else "none is ready",
        fix=f"{listing} shows what there is",
    )
