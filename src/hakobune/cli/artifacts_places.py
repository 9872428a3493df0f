"""`hako artifacts locations list`, `hako artifacts operations list|describe`: where repositories are, and what was done."""

from __future__ import annotations

import argparse

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_names import DEFAULT_LOCATION, DEFAULT_PROJECT, add_place, short_id
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table


def configure_locations(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="where the project has repositories")
    add_place(listing)
    add_format(listing)
    listing.set_defaults(run=_list_locations)


def configure_operations(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="what was done at a location")
    add_place(listing)
    add_format(listing)
    listing.set_defaults(run=_list_operations)
    describe = verbs.add_parser("describe", help="how an operation ended")
    describe.add_argument("operation", metavar="OPERATION")
    add_place(describe)
    add_format(describe, default="yaml")
    describe.set_defaults(run=_describe_operation)


def _list_locations(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    project = arguments.project or DEFAULT_PROJECT
    found = list(client.each(f"projects/{project}/locations", "locations"))
    if arguments.format == "table":
        print_table(("LOCATION",), [(location["locationId"],) for location in found], context.out)
    else:
        print_document(found, arguments.format, context.out)
    return 0


def _list_operations(arguments: argparse.Namespace, context: Context) -> int:
    found = list(ArtifactsClient(context).each(f"{_parent(arguments)}/operations", "operations"))
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [
        (
            short_id(operation["name"]),
            "done" if operation.get("done") else "running",
            operation.get("response", {}).get("name", "-"),
        )
        for operation in found
    ]
    print_table(("OPERATION", "STATE", "RESOURCE"), rows, context.out)
    return 0


def _describe_operation(arguments: argparse.Namespace, context: Context) -> int:
    name = arguments.operation
    if not name.startswith("projects/"):
        name = f"{_parent(arguments)}/operations/{name}"
    print_document(ArtifactsClient(context).get(name), arguments.format, context.out)
    return 0


def _parent(arguments: argparse.Namespace) -> str:
    project = arguments.project or DEFAULT_PROJECT
    return f"projects/{project}/locations/{arguments.location or DEFAULT_LOCATION}"
