"""`hako artifacts repositories set-cleanup-policies|list-cleanup-policies|delete-cleanup-policies`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from hakobune.cli.artifacts_cleanup_file import read_policy_file, write_policies
from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.client import Document
from hakobune.cli.given_file import read_text
from hakobune.cli.main import Context
from hakobune.cli.output import print_json
from hakobune.errors import UsageError

Verbs = argparse._SubParsersAction  # argparse has no public name for it


def configure(
    verbs: Verbs[argparse.ArgumentParser],
    configure_name: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Declare the verbs.

    Args:
        configure_name: declares the arguments that name a repository.
    """
    put = verbs.add_parser(
        "set-cleanup-policies", help="say what is kept and what goes after a time"
    )
    configure_name(put)
    put.add_argument(
        "--policy",
        required=True,
        metavar="FILE",
        help='JSON: [{"name": …, "action": {"type": "Delete"}, "condition": {"olderThan": "30d"}}]; - is stdin',
    )
    put.add_argument("--overwrite", action="store_true", help="drop the policies that the file does not name")  # fmt: skip
    put.add_argument(
        "--dry-run",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="only note in the log what would go",
    )
    put.set_defaults(run=_set)

    listing = verbs.add_parser("list-cleanup-policies", help="print them as a policy file")
    configure_name(listing)
    listing.set_defaults(run=_list)

    delete = verbs.add_parser("delete-cleanup-policies", help="drop policies by name")
    configure_name(delete)
    delete.add_argument("--policynames", required=True, metavar="NAME,…")
    delete.set_defaults(run=_delete)


def _set(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    policies = read_policy_file(read_text(arguments.policy), arguments.policy)
    name = client.repository(arguments, arguments.repository)
    if not arguments.overwrite:
        policies = {**client.get(name).get("cleanupPolicies", {}), **policies}
    document: Document = {"cleanupPolicies": policies}
    mask = "cleanupPolicies"
    if arguments.dry_run is not None:
        document["cleanupPolicyDryRun"] = arguments.dry_run
        mask += ",cleanupPolicyDryRun"
    _show(client.change(name, document, mask=mask), context)
    return 0


def _list(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    _show(client.get(client.repository(arguments, arguments.repository)), context)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    name = client.repository(arguments, arguments.repository)
    policies = client.get(name).get("cleanupPolicies", {})
    wanted = [policy for policy in arguments.policynames.split(",") if policy]
    for policy in wanted:
        if policy not in policies:
            known = ", ".join(sorted(policies)) or "none"
            raise UsageError(f"there is no cleanup policy {policy!r}", why=f"the repository has: {known}")  # fmt: skip
    kept = {key: policy for key, policy in policies.items() if key not in wanted}
    _show(client.change(name, {"cleanupPolicies": kept}, mask="cleanupPolicies"), context)
    return 0


def _show(repository: Document, context: Context) -> None:
    """The policies in the form of the files; whether they delete, on stderr."""
    state = "enabled" if repository.get("cleanupPolicyDryRun") else "disabled"
    print(f"Dry run is {state}.", file=context.err)
    print_json(write_policies(repository.get("cleanupPolicies", {})), context.out)
