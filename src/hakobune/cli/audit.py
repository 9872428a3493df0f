"""`hako audit`: who did what to repositories, images and rights."""

from __future__ import annotations

import argparse
from itertools import islice

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "resource",
        nargs="?",
        default="",
        metavar="RESOURCE",
        help="only this and what lies below it: projects/P, projects/P/locations/L/repositories/R (default: all)",
    )
    parser.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most so many (default: 100)"
    )
    add_format(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.limit < 1:
        raise UsageError(f"--limit {arguments.limit}: at least one")
    client = ArtifactsClient(context)
    query = {"resource": arguments.resource, "pageSize": str(min(arguments.limit, 1000))}
    entries = list(islice(client.each("auditEntries", "auditEntries", **query), arguments.limit))
    if arguments.format != "table":
        print_document(entries, arguments.format, context.out)
        return 0
    rows = [
        (entry["time"][:19].replace("T", " "), entry["actor"], entry["verb"], entry["resource"], entry["detail"])
        for entry in entries
    ]  # fmt: skip
    print_table(("TIME (UTC)", "WHO", "WHAT", "RESOURCE", "DETAIL"), rows, context.out)
    return 0
