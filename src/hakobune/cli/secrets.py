"""`hako secrets …`: passwords of upstream registries by name, in gcloud's words, over Secret Manager's API."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_names import DEFAULT_PROJECT, short_id
from hakobune.cli.confirm import confirm
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="make a secret with its first version")
    create.add_argument("secret")
    _add_data(create)
    _add_project(create)
    create.set_defaults(run=_add)

    listing = verbs.add_parser("list", help="one line a secret")
    _add_project(listing)
    add_format(listing)
    listing.set_defaults(run=_list)

    delete = verbs.add_parser("delete", help="forget a secret with all its versions")
    delete.add_argument("secret")
    _add_project(delete)
    delete.add_argument("-q", "--quiet", action="store_true", help="do not ask")
    delete.set_defaults(run=_delete)

    versions = verbs.add_parser("versions", help="add, list, read and destroy versions")
    verbs = versions.add_subparsers(required=True, metavar="VERB")
    add = verbs.add_parser("add", help="add a version")
    add.add_argument("secret")
    _add_data(add)
    _add_project(add)
    add.set_defaults(run=_add)

    listing = verbs.add_parser("list", help="one line a version")
    listing.add_argument("secret")
    _add_project(listing)
    add_format(listing)
    listing.set_defaults(run=_list_versions)

    for name, what, run in (
        ("access", "print what a version holds", _access),
        ("destroy", "forget what a version holds", _destroy),
    ):
        verb = verbs.add_parser(name, help=what)
        verb.add_argument("version", help="a number, or latest")
        verb.add_argument("--secret", required=True)
        _add_project(verb)
        if name == "destroy":
            verb.add_argument("-q", "--quiet", action="store_true", help="do not ask")
        verb.set_defaults(run=run)


def _add_project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", default=DEFAULT_PROJECT, metavar="ID", help=f"default: {DEFAULT_PROJECT}"
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-file", required=True, metavar="FILE", help="what it holds; - is stdin"
    )
    parser.add_argument("--replication-policy", default="automatic", help=argparse.SUPPRESS)


def _add(arguments: argparse.Namespace, context: Context) -> int:
    file = arguments.data_file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}", why=error.strerror or str(error)) from error
    body = {"payload": {"data": base64.b64encode(data).decode()}}
    made = ArtifactsClient(context).post(f"{_name(arguments)}:addVersion", body)
    print(made["name"], file=context.out)
    return 0


def _list(arguments: argparse.Namespace, context: Context) -> int:
    found = list(ArtifactsClient(context).each(f"projects/{arguments.project}/secrets", "secrets"))
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [(short_id(s["name"]), s.get("createTime", "")[:19].replace("T", " ")) for s in found]
    print_table(("NAME", "CREATED"), rows, context.out)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    name = _name(arguments)
    confirm(f"forget the secret {arguments.secret} with all its versions", quiet=arguments.quiet, context=context)  # fmt: skip
    ArtifactsClient(context).remove(name)
    print(f"deleted secret {arguments.secret}", file=context.err)
    return 0


def _list_versions(arguments: argparse.Namespace, context: Context) -> int:
    found = list(ArtifactsClient(context).each(f"{_name(arguments)}/versions", "versions"))
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [
        (short_id(v["name"]), v["state"].lower(), v["createTime"][:19].replace("T", " "))
        for v in found
    ]
    print_table(("VERSION", "STATE", "CREATED"), rows, context.out)
    return 0


def _access(arguments: argparse.Namespace, context: Context) -> int:
    name = f"{_name(arguments)}/versions/{arguments.version}"
    found = ArtifactsClient(context).get(f"{name}:access")
    context.out.flush()
    sys.stdout.buffer.write(base64.b64decode(found["payload"]["data"]))
    sys.stdout.buffer.flush()
    return 0


def _destroy(arguments: argparse.Namespace, context: Context) -> int:
    name = f"{_name(arguments)}/versions/{arguments.version}"
    confirm(f"forget what version {arguments.version} of {arguments.secret} holds", quiet=arguments.quiet, context=context)  # fmt: skip
    ArtifactsClient(context).post(f"{name}:destroy", {})
    print(f"destroyed {name}", file=context.err)
    return 0


def _name(arguments: argparse.Namespace) -> str:
    return f"projects/{arguments.project}/secrets/{arguments.secret}"
