"""`hako artifacts repositories create|list|describe|update|delete` and the verbs about their policies."""

from __future__ import annotations

import argparse

from hakobune.cli import artifacts_cleanup
from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_names import (
    DEFAULT_LOCATION,
    DEFAULT_PROJECT,
    add_filter,
    add_place,
    short_id,
)
from hakobune.cli.artifacts_repository_options import (
    add_create_options,
    add_update_options,
    repository_changes,
    repository_document,
)
from hakobune.cli.client import Document
from hakobune.cli.confirm import confirm
from hakobune.cli.given_file import read_text
from hakobune.cli.iam_policy import add_policy_verbs
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import UsageError

_MODES = {"STANDARD_REPOSITORY": "standard", "REMOTE_REPOSITORY": "remote", "VIRTUAL_REPOSITORY": "virtual"}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="make a standard, remote or virtual repository")
    create.add_argument("repository")
    add_create_options(create)
    add_place(create)
    add_format(create)
    create.set_defaults(run=_create)

    listing = verbs.add_parser("list", help="one line a repository")
    add_filter(listing)
    add_place(listing)
    add_format(listing)
    listing.set_defaults(run=_list)

    describe = verbs.add_parser("describe", help="everything about a repository")
    configure_name(describe)
    add_format(describe, default="yaml")
    describe.set_defaults(run=_describe)

    update = verbs.add_parser("update", help="change what of a repository may change")
    configure_name(update)
    add_update_options(update)
    add_format(update, default="yaml")
    update.set_defaults(run=_update)

    delete = verbs.add_parser("delete", help="delete a repository with all it holds")
    configure_name(delete)
    delete.add_argument("-q", "--quiet", action="store_true", help="do not ask")
    delete.add_argument("--async", action="store_true", help=argparse.SUPPRESS)
    delete.set_defaults(run=_delete)

    artifacts_cleanup.configure(verbs, configure_name)
    add_policy_verbs(
        verbs,
        noun="a repository",
        configure=configure_name,
        resource_of=lambda a, c: ArtifactsClient(c).repository(a, a.repository),
    )


def configure_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="REPOSITORY")
    add_place(parser)


def _create(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    identifier = arguments.repository
    if "/" in identifier:
        raise UsageError(
            f"{identifier!r} is no repository's id", fix=f"{short_id(identifier)} --project ID --location NAME"
        )  # fmt: skip
    project = arguments.project or DEFAULT_PROJECT
    parent = f"projects/{project}/locations/{arguments.location or DEFAULT_LOCATION}"
    document = repository_document(arguments)
    made = client.make(
        f"{parent}/repositories",
        _with_secret(client, arguments, project, identifier, document),
        repositoryId=identifier,
    )
    print(f"created repository {identifier}", file=context.err)
    if arguments.format == "table":
        print(made["registryUri"], file=context.out)
    else:
        print_document(_plain(made), arguments.format, context.out)
    return 0


def _list(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    location = arguments.location if arguments.location not in (None, "all") else "-"
    query = {"filter": arguments.filter} if arguments.filter else {}
    parent = f"projects/{arguments.project or DEFAULT_PROJECT}/locations/{location}"
    found = list(client.each(f"{parent}/repositories", "repositories", **query))
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [
        (
            short_id(repository["name"]),
            _MODES.get(repository.get("mode", ""), "-"),
            repository["name"].split("/")[3],
            repository.get("registryUri", "-"),
            human_size(int(repository.get("sizeBytes", 0))),
            repository.get("updateTime", "")[:19].replace("T", " "),
            repository.get("description", ""),
        )
        for repository in found
    ]
    header = ("REPOSITORY", "MODE", "LOCATION", "IMAGES", "SIZE", "UPDATED", "DESCRIPTION")
    print_table(header, rows, context.out)
    return 0


def _describe(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    found = client.get(client.repository(arguments, arguments.repository))
    print_document(found, arguments.format, context.out)
    return 0


def _update(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    name = client.repository(arguments, arguments.repository)
    current = client.get(name)
    document, mask = repository_changes(arguments, current)
    if not mask:
        raise UsageError("nothing is to be changed", fix="--description, --update-labels, …")
    document = _with_secret(client, arguments, name.split("/")[1], short_id(name), document)
    changed = client.change(name, document, mask=",".join(mask))
    print(f"updated repository {short_id(name)}", file=context.err)
    print_document(changed, arguments.format, context.out)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    name = client.repository(arguments, arguments.repository)
    confirm(f"delete {name} with all that it holds", quiet=arguments.quiet, context=context)
    client.remove(name)
    print(f"deleted repository {short_id(name)}", file=context.err)
    return 0


def _with_secret(
    client: ArtifactsClient,
    arguments: argparse.Namespace,
    project: str,
    repository: str,
    document: Document,
) -> Document:
    """*document* with the password from the option kept as a secret, and named."""
    if arguments.remote_password_file is None:
        return document
    password = read_text(arguments.remote_password_file).strip("\n")
    if not password:
        raise UsageError("the password is empty", fix="--remote-password-file FILE")
    import base64  # few repositories have passwords

    version = client.make(
        f"projects/{project}/secrets/artifacts-{repository}:addVersion",
        {"payload": {"data": base64.b64encode(password.encode()).decode()}},
    )
    config = document.setdefault("remoteRepositoryConfig", {})
    given = config.setdefault("upstreamCredentials", {}).setdefault("usernamePasswordCredentials", {})  # fmt: skip
    given["passwordSecretVersion"] = version["name"]
    return document


def _plain(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != "@type"}
