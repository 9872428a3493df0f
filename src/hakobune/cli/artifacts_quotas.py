"""`hako artifacts quotas list|set|clear`: how many bytes a project or a repository may hold."""

from __future__ import annotations

import argparse
import re

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_names import DEFAULT_PROJECT, add_place
from hakobune.cli.client import Document
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="the quotas of a project and its repositories")
    add_place(listing)
    add_format(listing)
    listing.set_defaults(run=_list)

    put = verbs.add_parser("set", help="limit a repository, or the whole project")
    put.add_argument("repository", nargs="?", metavar="REPOSITORY", help="default: the project")
    put.add_argument("--limit", required=True, metavar="SIZE", help="500MB, 20GB, 10GiB or bytes")
    add_place(put)
    put.set_defaults(run=_set)

    clear = verbs.add_parser("clear", help="take a limit away")
    clear.add_argument("repository", nargs="?", metavar="REPOSITORY", help="default: the project")
    add_place(clear)
    clear.set_defaults(run=_clear)


def parse_bytes(text: str) -> int:
    """The bytes of `20GB` or `10GiB`.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f"--limit {text!r} is no size", fix="--limit 20GB")
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def _list(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    project = arguments.project or DEFAULT_PROJECT
    found = list(client.each(f"projects/{project}/storageQuotas", "storageQuotas"))
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [
        (
            quota["name"].removesuffix("/storageQuota"),
            human_size(int(quota["limitBytes"])),
            human_size(int(quota["usedBytes"])),
        )
        for quota in found
    ]
    print_table(("OF", "LIMIT", "USED"), rows, context.out)
    return 0


def _set(arguments: argparse.Namespace, context: Context) -> int:
    limit = parse_bytes(arguments.limit)
    name = _change(arguments, context, {"limitBytes": str(limit)})
    print(f"{name} may hold {human_size(limit)}", file=context.err)
    return 0


def _clear(arguments: argparse.Namespace, context: Context) -> int:
    name = _change(arguments, context, {})
    print(f"{name} has no limit of its own", file=context.err)
    return 0


def _change(arguments: argparse.Namespace, context: Context, body: Document) -> str:
    client = ArtifactsClient(context)
    name = f"projects/{arguments.project or DEFAULT_PROJECT}"
    if arguments.repository:
        name = client.repository(arguments, arguments.repository)
    client.change(f"{name}/storageQuota", body, mask="")
    return name
