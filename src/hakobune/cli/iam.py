"""`hako iam service-accounts|roles|signing-keys …`: accounts for programs, their keys, what roles there are, what signs tokens."""

from __future__ import annotations

import argparse

from hakobune.cli import iam_keys
from hakobune.cli.client import Client
from hakobune.cli.iam_policy import add_policy_verbs, add_project
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    groups = parser.add_subparsers(required=True, metavar="GROUP")
    _configure_accounts(
        groups.add_parser("service-accounts", help="accounts for programs, and their keys")
    )
    _configure_roles(groups.add_parser("roles", help="what roles there are, and what they hold"))
    _configure_signing_keys(
        groups.add_parser("signing-keys", help="the keys that sign this installation's tokens")
    )


def account_name(email: str) -> str:
    """The full name of an account given by its address.

    Raises:
        UsageError: it is no address.
    """
    name = email.rpartition("/")[2]
    if "@" not in name:
        raise UsageError(
            f"{email!r} is no service account", fix="NAME@PROJECT.iam.gserviceaccount.com"
        )
    return f"projects/-/serviceAccounts/{name}"


def _configure_accounts(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    create = verbs.add_parser(
        "create", help="make an account, NAME@PROJECT.iam.gserviceaccount.com"
    )
    create.add_argument("name", metavar="NAME", help="6 to 30 of a-z, 0-9 and -")
    create.add_argument("--display-name", default="", metavar="TEXT")
    create.add_argument("--description", default="", metavar="TEXT")
    add_project(create)
    create.set_defaults(run=_create)

    listing = verbs.add_parser("list", help="the accounts of a project")
    add_project(listing)
    add_format(listing)
    listing.set_defaults(run=_list)

    describe = verbs.add_parser("describe", help="one account")
    _configure_email(describe)
    add_format(describe)
    describe.set_defaults(run=_describe)

    delete = verbs.add_parser("delete", help="delete an account, its keys and its grants")
    _configure_email(delete)
    delete.add_argument("-q", "--quiet", action="store_true", help="gcloud's; nothing is asked")
    delete.set_defaults(run=_delete)

    for verb, help_text in (
        ("disable", "refuse an account's keys and tokens from now on"),
        ("enable", "accept them again"),
    ):
        switch = verbs.add_parser(verb, help=help_text)
        _configure_email(switch)
        switch.set_defaults(run=_switch, verb=verb)

    iam_keys.configure(verbs.add_parser("keys", help="make, list and delete an account's keys"))
    add_policy_verbs(
        verbs,
        noun="an account",
        configure=_configure_email,
        resource_of=lambda arguments, _: account_name(arguments.email),
    )


def _configure_roles(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="every role and what it is for")
    add_format(listing)
    listing.set_defaults(run=_list_roles)
    describe = verbs.add_parser("describe", help="the permissions of a role")
    describe.add_argument("role", metavar="roles/ROLE")
    add_format(describe)
    describe.set_defaults(run=_describe_role)


def _configure_signing_keys(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    rotate = verbs.add_parser(
        "rotate", help="sign with a new key from now on; it changes monthly by itself"
    )
    rotate.add_argument(
        "--revoke-tokens",
        action="store_true",
        help="refuse every token given out so far; keys of service accounts stay",
    )
    rotate.set_defaults(run=_rotate)


def _configure_email(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("email", metavar="EMAIL")


def _create(arguments: argparse.Namespace, context: Context) -> int:
    body = {
        "accountId": arguments.name,
        "serviceAccount": {
            "displayName": arguments.display_name,
            "description": arguments.description,
        },
    }
    account = _client(context).post(f"projects/{arguments.project}/serviceAccounts", body)
    print(account["email"], file=context.out)
    return 0


def _list(arguments: argparse.Namespace, context: Context) -> int:
    path = f"projects/{arguments.project}/serviceAccounts"
    accounts = list(_client(context).list_at(path, "accounts"))
    if arguments.format != "table":
        print_document(accounts, arguments.format, context.out)
        return 0
    rows = [(a["email"], a.get("displayName", ""), _yes(a.get("disabled"))) for a in accounts]
    print_table(("EMAIL", "DISPLAY NAME", "DISABLED"), rows, context.out)
    return 0


def _describe(arguments: argparse.Namespace, context: Context) -> int:
    account = _client(context).get(account_name(arguments.email))
    if arguments.format != "table":
        print_document(account, arguments.format, context.out)
        return 0
    for field in ("email", "displayName", "description", "uniqueId", "projectId"):
        if field in account:
            print(f"{field:<12} {account[field]}", file=context.out)
    print(f"{'disabled':<12} {_yes(account.get('disabled'))}", file=context.out)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    _client(context).delete(account_name(arguments.email))
    print(f"deleted service account {arguments.email}", file=context.err)
    return 0


def _switch(arguments: argparse.Namespace, context: Context) -> int:
    _client(context).post(f"{account_name(arguments.email)}:{arguments.verb}", {})
    print(f"{arguments.verb}d service account {arguments.email}", file=context.err)
    return 0


def _list_roles(arguments: argparse.Namespace, context: Context) -> int:
    roles = _client(context).get("roles")["roles"]
    if arguments.format != "table":
        print_document(roles, arguments.format, context.out)
    else:
        print_table(("ROLE", "FOR"), [(r["name"], r["title"]) for r in roles], context.out)
    return 0


def _describe_role(arguments: argparse.Namespace, context: Context) -> int:
    name = "roles/" + arguments.role.removeprefix("roles/")
    role = _client(context).get(name)
    if arguments.format != "table":
        print_document(role, arguments.format, context.out)
    else:
        print(f"{role['name']}: {role['title']}", file=context.out)
        print("\n".join(role["includedPermissions"]), file=context.out)
    return 0


def _rotate(arguments: argparse.Namespace, context: Context) -> int:
    _client(context).post("signingKeys:rotate", {"revoke": arguments.revoke_tokens})
    what = (
        "every token given out before is refused"
        if arguments.revoke_tokens
        else "older tokens stay valid"
    )
    print(f"tokens are signed with a new key; {what}", file=context.err)
    return 0


def _client(context: Context) -> Client:
    return Client(context.settings.api_socket, version="v1")


def _yes(value: object) -> str:
    return "yes" if value else "no"
