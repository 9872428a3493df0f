"""`hako revisions list`, over the Cloud Run API."""

from __future__ import annotations

import argparse

from hakobune.cli.client import Client, Document, condition, short_name
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.service_place import Place, add_place
from hakobune.cli.table import print_table


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="the history of a service, newest first")
    listing.add_argument("service", nargs="?", help="only this service's revisions")
    add_place(listing)
    add_format(listing)
    listing.set_defaults(run=_list)


def _list(arguments: argparse.Namespace, context: Context) -> int:
    client = Client(context.settings.api_socket)
    place = Place.of(arguments)
    parent = place.service(arguments.service or "-")
    services = (
        [client.get(parent)] if arguments.service else list(client.list(place.parent, "services"))
    )
    revisions = list(client.list(parent, "revisions"))
    if arguments.format != "table":
        print_document(revisions, arguments.format, context.out)
        return 0
    traffic = {
        target.get("revision", ""): target.get("percent", 0)
        for service in services
        for target in service.get("trafficStatuses", [])
        if target.get("percent")
    }
    print_table(
        ("REVISION", "STATE", "TRAFFIC", "IMAGE", "CREATED"),
        [_row(revision, traffic) for revision in revisions],
        context.out,
    )
    return 0


def _row(revision: Document, traffic: dict[str, int]) -> tuple[str, ...]:
    name = short_name(revision["name"])
    return (
        name,
        state_word(revision),
        f"{traffic[name]} %" if name in traffic else "-",
        image_word(revision),
        revision.get("createTime", "")[:19].replace("T", " "),
    )


def image_word(revision: Document) -> str:
    """The image of a revision, its digest cut to what a person compares."""
    image: str = (revision.get("containers") or [{}])[0].get("image", "-")
    repository, _, digest = image.partition("@sha256:")
    return f"{repository}@{digest[:12]}" if digest else image


def state_word(revision: Document) -> str:
    """The state of a revision in a word, from its Ready condition."""
    match condition(revision, "Ready").get("state"):
        case "CONDITION_SUCCEEDED":
            return "ready"
        case "CONDITION_FAILED":
            return "failed"
        case _:
            return "starting"
