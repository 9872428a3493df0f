"""`hako iam service-accounts keys create|list|delete|disable|enable`: keys as files that Google's libraries read."""

from __future__ import annotations

import argparse
import base64
from pathlib import Path

from hakobune.cli.client import Client
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    create = verbs.add_parser(
        "create", help="make a key and write its file, which is kept nowhere else"
    )
    create.add_argument("file", metavar="FILE", help="readable by you alone; - is stdout")
    _configure_account(create)
    create.set_defaults(run=_create)

    listing = verbs.add_parser("list", help="the keys of an account")
    _configure_account(listing)
    add_format(listing)
    listing.set_defaults(run=_list)

    for verb, help_text in (
        ("delete", "delete a key: what it proves ends, tokens got with it live out their hour"),
        ("disable", "refuse a key from now on"),
        ("enable", "accept it again"),
    ):
        change = verbs.add_parser(verb, help=help_text)
        change.add_argument("key", metavar="KEY", help="its id, as `keys list` shows it")
        _configure_account(change)
        change.add_argument("-q", "--quiet", action="store_true", help="gcloud's; nothing is asked")
        change.set_defaults(run=_change, verb=verb)


def _configure_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iam-account", required=True, metavar="EMAIL")


def _create(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.support.files import write_atomically

    key = _client(context).post(f"{_account(arguments)}/keys", {})
    data = base64.b64decode(key["privateKeyData"])
    identifier = key["name"].rpartition("/")[2]
    if arguments.file == "-":
        print(data.decode(), end="", file=context.out)
    else:
        try:
            write_atomically(Path(arguments.file), data, mode=0o600)
        except OSError as error:
            _client(context).delete(f"{_account(arguments)}/keys/{identifier}")
            raise UsageError(
                f"cannot write {arguments.file}", why=error.strerror or str(error)
            ) from error
    print(f"created key {identifier} of {arguments.iam_account}", file=context.err)
    return 0


def _list(arguments: argparse.Namespace, context: Context) -> int:
    keys = _client(context).get(f"{_account(arguments)}/keys").get("keys", [])
    if arguments.format != "table":
        print_document(keys, arguments.format, context.out)
        return 0
    rows = [
        (
            key["name"].rpartition("/")[2],
            key["validAfterTime"][:19].replace("T", " "),
            "yes" if key.get("disabled") else "no",
        )
        for key in keys
    ]
    print_table(("KEY", "CREATED", "DISABLED"), rows, context.out)
    return 0


def _change(arguments: argparse.Namespace, context: Context) -> int:
    name = f"{_account(arguments)}/keys/{arguments.key}"
    client = _client(context)
    if arguments.verb == "delete":
        client.delete(name)
    else:
        client.post(f"{name}:{arguments.verb}", {})
    print(f"{arguments.verb}d key {arguments.key} of {arguments.iam_account}", file=context.err)
    return 0


def _account(arguments: argparse.Namespace) -> str:
    return f"projects/-/serviceAccounts/{arguments.iam_account}"


def _client(context: Context) -> Client:
    return Client(context.settings.api_socket, version="v1")
