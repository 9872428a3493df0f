"""`hako identity groups …`: groups of users and service accounts, to which roles are granted as to one member."""

from __future__ import annotations

import argparse

from hakobune.cli.client import Client
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="GROUP")
    groups = kinds.add_parser("groups", help="create, list and delete groups; who is in them")
    verbs = groups.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="make an empty group")
    create.add_argument("email", metavar="EMAIL", help="the group's address, team@example.com")
    create.add_argument("--display-name", default="", metavar="TEXT")
    create.add_argument("--description", default="", metavar="TEXT")
    create.set_defaults(run=_create)

    listing = verbs.add_parser("list", help="every group")
    add_format(listing)
    listing.set_defaults(run=_list)

    delete = verbs.add_parser("delete", help="delete a group and its grants")
    delete.add_argument("email", metavar="EMAIL")
    delete.set_defaults(run=_delete)

    memberships = verbs.add_parser("memberships", help="who is in a group")
    _configure_memberships(memberships)


def _configure_memberships(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb, help_text in (
        ("add", "put a user, a service account or another group into a group"),
        ("delete", "take one out"),
    ):
        change = verbs.add_parser(verb, help=help_text)
        change.add_argument("--group-email", required=True, metavar="EMAIL")
        change.add_argument("--member-email", required=True, metavar="EMAIL")
        change.set_defaults(run=_change, verb=verb)
    listing = verbs.add_parser("list", help="the members of a group")
    listing.add_argument("--group-email", required=True, metavar="EMAIL")
    add_format(listing)
    listing.set_defaults(run=_list_members)


def _create(arguments: argparse.Namespace, context: Context) -> int:
    body = {
        "groupKey": {"id": arguments.email},
        "displayName": arguments.display_name,
        "description": arguments.description,
    }
    group = _client(context).post("groups", body)
    print(group["groupKey"]["id"], file=context.out)
    return 0


def _list(arguments: argparse.Namespace, context: Context) -> int:
    groups = list(_client(context).list_at("groups", "groups"))
    if arguments.format != "table":
        print_document(groups, arguments.format, context.out)
    else:
        rows = [(group["groupKey"]["id"], group.get("displayName", "")) for group in groups]
        print_table(("EMAIL", "DISPLAY NAME"), rows, context.out)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    _client(context).delete(f"groups/{arguments.email}")
    print(f"deleted group {arguments.email}", file=context.err)
    return 0


def _change(arguments: argparse.Namespace, context: Context) -> int:
    name = f"groups/{arguments.group_email}/memberships"
    if arguments.verb == "add":
        body = {"preferredMemberKey": {"id": arguments.member_email}, "roles": [{"name": "MEMBER"}]}
        _client(context).post(name, body)
        print(f"{arguments.member_email} is in {arguments.group_email}", file=context.err)
    else:
        _client(context).delete(f"{name}/{arguments.member_email}")
        print(f"{arguments.member_email} is no longer in {arguments.group_email}", file=context.err)
    return 0


def _list_members(arguments: argparse.Namespace, context: Context) -> int:
    name = f"groups/{arguments.group_email}/memberships"
    members = _client(context).get(name).get("memberships", [])
    if arguments.format != "table":
        print_document(members, arguments.format, context.out)
    else:
        print_table(("MEMBER",), [(m["preferredMemberKey"]["id"],) for m in members], context.out)
    return 0


def _client(context: Context) -> Client:
    return Client(context.settings.api_socket, version="v1")
