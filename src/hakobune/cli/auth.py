"""`hako auth print-access-token`: the bearer token that the API wants over TCP."""

from __future__ import annotations

import argparse

from hakobune.cli.main import Context
from hakobune.errors import HakoError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    token = verbs.add_parser(
        "print-access-token",
        help="print the token for `Authorization: Bearer …` (gcloud, curl, the official clients)",
    )
    token.set_defaults(run=_print_access_token)


def _print_access_token(arguments: argparse.Namespace, context: Context) -> int:
    path = context.settings.home / "serving" / "admin.token"
    try:
        print(path.read_text().strip(), file=context.out)
    except FileNotFoundError as error:
        raise HakoError(
            "there is no access token yet",
            why="it is made when the controller starts for the first time",
            fix="hako serve",
        ) from error
    except PermissionError as error:
        raise HakoError(
            "this user may not read the access token",
            why=f"{path} belongs to root",
            fix="sudo hako auth print-access-token",
        ) from error
    return 0
