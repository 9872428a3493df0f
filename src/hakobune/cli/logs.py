"""`hako logs [-f] SERVICE`: what a service's instances printed, from the revision's kept log."""

from __future__ import annotations

import argparse

from hakobune.cli.client import Client, Document
from hakobune.cli.main import Context
from hakobune.cli.service_place import Place, add_place


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on as lines come, until Ctrl-C"
    )
    parser.add_argument(
        "-n", "--lines", type=int, default=200, help="how many of the last lines (default: 200)"
    )
    parser.add_argument("--revision", default="", help="only this revision")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: one record a line"
    )
    add_place(parser)
    parser.set_defaults(run=_run)  # fmt: skip


def _run(arguments: argparse.Namespace, context: Context) -> int:
    client = Client(context.settings.api_socket)
    query = {"lines": str(arguments.lines), "follow": "true" if arguments.follow else "false"}
    if arguments.revision:
        query["revision"] = arguments.revision
    name = Place.of(arguments).service(arguments.service)
    for record in client.stream(f"{name}/logs", **query):
        print(record_line(record, as_json=arguments.format == "json"), file=context.out, flush=True)
    return 0


def record_line(record: Document, *, as_json: bool) -> str:
    """A record as a person reads it: time, revision, text; stderr is marked by `!`, not by colour."""
    if as_json:
        import json

        return json.dumps(record, ensure_ascii=False)
    mark = "!" if record.get("stream") == "stderr" else " "
    when = record.get("time", "")[:23].replace("T", " ")
    return f"{when} {record.get('revision', '')}{mark} {record.get('text', '')}"
