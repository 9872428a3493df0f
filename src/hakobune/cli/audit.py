"""`hako audit`: who did what to repositories, images and rights, and from when on that is known."""

from __future__ import annotations

import argparse

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.client import Document
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
    query = {"resource": arguments.resource, "pageSize": str(min(arguments.limit, 1000))}
    entries: list[Document] = []
    page: Document = {}
    for page in ArtifactsClient(context).pages("auditEntries", **query):
        entries += page["auditEntries"]
        if len(entries) >= arguments.limit:
            break
    entries = entries[: arguments.limit]
    if arguments.format != "table":
        print_document(entries, arguments.format, context.out)
        return 0
    rows = [
        (_second(entry["time"]), entry["actor"], entry["verb"], entry["resource"], entry["detail"])
        for entry in entries
    ]
    print_table(("TIME (UTC)", "WHO", "WHAT", "RESOURCE", "DETAIL"), rows, context.out)
    print(_how_far(page), file=context.err)
    return 0


def _how_far(page: Document) -> str:
    """From when on the trail knows, and how long it will."""
    days = page.get("keptDays")
    kept = f"what is older than {days} days goes" if days else "nothing of it goes"
    known = page.get("knownSince")
    begins = f"it begins at {_second(known)} UTC" if known else "it has not begun"
    return f"the audit trail: {begins}; {kept} (HAKO_REGISTRY_HISTORY_DAYS)"


def _second(time: str) -> str:
    return time[:19].replace("T", " ")
