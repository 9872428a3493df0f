"""The verbs about a resource's IAM policy, the same for every kind of resource: gcloud's words, over getIamPolicy and setIamPolicy."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from hakobune.cli.client import ApiError, Client, Document
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import HakoError, UsageError

DEFAULT_PROJECT = "hako"
_ATTEMPTS = 5

# The full name of the resource that the command line names.
ResourceOf = Callable[[argparse.Namespace, Context], str]


def add_project(parser: argparse.ArgumentParser) -> None:
    """Declare `--project`."""
    parser.add_argument(
        "--project",
        default=DEFAULT_PROJECT,
        metavar="ID",
        help=f"default: {DEFAULT_PROJECT}",
    )


def add_policy_verbs(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    *,
    noun: str,
    configure: Callable[[argparse.ArgumentParser], None],
    resource_of: ResourceOf,
) -> None:
    """Declare get-iam-policy, set-iam-policy, add-iam-policy-binding and remove-iam-policy-binding.

    Args:
        noun: what the help calls the resource.
        configure: declares the arguments that name it.
    """
    get = verbs.add_parser("get-iam-policy", help=f"who has which role on {noun}")
    configure(get)
    add_format(get)
    get.set_defaults(run=lambda a, c: _get(a, c, resource_of(a, c)))

    put = verbs.add_parser("set-iam-policy", help=f"replace the whole policy of {noun}")
    configure(put)
    put.add_argument(
        "policy_file",
        metavar="FILE",
        help="JSON, as get-iam-policy --format json prints it; - is stdin",
    )
    add_format(put)
    put.set_defaults(run=lambda a, c: _set(a, c, resource_of(a, c)))

    for verb, help_text, added in (
        ("add-iam-policy-binding", f"give somebody a role on {noun}", True),
        ("remove-iam-policy-binding", f"take a role on {noun} from somebody", False),
    ):
        parser = verbs.add_parser(verb, help=help_text)
        configure(parser)
        parser.add_argument(
            "--member",
            required=True,
            metavar="WHO",
            help="user:EMAIL, serviceAccount:EMAIL, group:EMAIL, domain:DOMAIN, allUsers or allAuthenticatedUsers",
        )
        parser.add_argument(
            "--role", required=True, help="roles/…, `hako iam roles list` shows them"
        )
        parser.add_argument("--condition", default="None", help=argparse.SUPPRESS)
        add_format(parser)
        parser.set_defaults(
            run=lambda a, c, added=added: _change(a, c, resource_of(a, c), added=added)
        )


def with_binding(policy: Document, role: str, member: str) -> Document:
    """The policy with *member* in the binding of *role* (pure)."""
    bindings = [dict(binding) for binding in policy.get("bindings", [])]
    for binding in bindings:
        if binding["role"] == role:
            binding["members"] = sorted({*binding.get("members", []), member})
            break
    else:
        bindings.append({"role": role, "members": [member]})
    return {**policy, "bindings": bindings}


def without_binding(policy: Document, role: str, member: str) -> Document:
    """The policy with *member* gone from the binding of *role* (pure).

    Raises:
        HakoError: it is not there.
    """
    if not any(
        binding["role"] == role and member in binding.get("members", [])
        for binding in policy.get("bindings", [])
    ):
        raise HakoError(f"{member} does not have {role} there")
    bindings = []
    for binding in policy["bindings"]:
        members = binding.get("members", [])
        if binding["role"] == role:
            members = [m for m in members if m != member]
        if members:
            bindings.append({**binding, "members": members})
    return {**policy, "bindings": bindings}


def print_policy(policy: Document, arguments: argparse.Namespace, context: Context) -> None:
    """One line a member, or the document."""
    if arguments.format != "table":
        print_document(policy, arguments.format, context.out)
        return
    rows = [(b["role"], member) for b in policy.get("bindings", []) for member in b["members"]]
    print_table(("ROLE", "MEMBER"), rows, context.out)


def _get(arguments: argparse.Namespace, context: Context, resource: str) -> int:
    print_policy(_read(_client(context), resource), arguments, context)
    return 0


def _set(arguments: argparse.Namespace, context: Context, resource: str) -> int:
    name = arguments.policy_file
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        policy = json.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {name}", why=error.strerror or str(error)) from error
    except ValueError as error:
        raise UsageError(f"{name} is not JSON", why=str(error)) from error
    stored = _client(context).post(f"{resource}:setIamPolicy", {"policy": policy})
    print(f"updated the policy of {resource}", file=context.err)
    print_policy(stored, arguments, context)
    return 0


def _change(arguments: argparse.Namespace, context: Context, resource: str, *, added: bool) -> int:
    if arguments.condition != "None":
        raise UsageError(
            "bindings have no conditions here",
            why="one that is not looked at would grant too much",
            fix="grant the role on the one resource that is meant",
        )
    change = with_binding if added else without_binding
    client = _client(context)
    for attempt in range(_ATTEMPTS):
        policy = change(_read(client, resource), arguments.role, arguments.member)
        try:
            stored = client.post(f"{resource}:setIamPolicy", {"policy": policy})
            break
        except ApiError as error:
            if error.status != "ABORTED" or attempt == _ATTEMPTS - 1:
                raise
    else:
        raise AssertionError("unreachable: the last attempt returns or raises")
    print(f"updated the policy of {resource}", file=context.err)
    print_policy(stored, arguments, context)
    return 0


def _read(client: Client, resource: str) -> Document:
    return client.get(f"{resource}:getIamPolicy")


def _client(context: Context) -> Client:
    return Client(context.settings.api_socket, version="v1")
