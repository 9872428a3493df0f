"""`hako artifacts attachments list|describe|download|delete`: what belongs to an image, as `oras attach` and `cosign` push it."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_image_place import ImagePlace
from hakobune.cli.artifacts_names import add_filter, add_place, escape_id, short_id
from hakobune.cli.confirm import confirm
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser(
        "list", help="one line an attachment, of an image or of a repository"
    )
    listing.add_argument("--target", metavar="HOST/…/IMAGE[:TAG|@DIGEST]", help="only what is attached to this image")  # fmt: skip
    listing.add_argument("--repository", metavar="REPOSITORY", help="without --target")
    add_place(listing)
    add_format(listing)
    add_filter(listing)
    listing.add_argument("--limit", type=int, default=0, metavar="N", help="at most so many")
    listing.set_defaults(run=_list)

    describe = verbs.add_parser("describe", help="an attachment: its type, its target, its files")
    _configure_one(describe)
    add_format(describe, default="yaml")
    describe.set_defaults(run=_describe)

    download = verbs.add_parser("download", help="write the files of an attachment into a folder")
    _configure_one(download)
    download.add_argument("--destination", default=".", metavar="FOLDER", help="default: here")
    download.set_defaults(run=_download)

    delete = verbs.add_parser("delete", help="delete an attachment; its image stays")
    _configure_one(delete)
    delete.add_argument("-q", "--quiet", action="store_true", help="do not ask")
    delete.add_argument("--async", action="store_true", help=argparse.SUPPRESS)
    delete.set_defaults(run=_delete)


def _configure_one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("attachment", metavar="ATTACHMENT", help="IMAGE@DIGEST, or its id, as `list` shows it")  # fmt: skip
    parser.add_argument("--repository", required=True, metavar="REPOSITORY")
    add_place(parser)


def _list(arguments: argparse.Namespace, context: Context) -> int:
    client = ArtifactsClient(context)
    conditions = [f"({arguments.filter})"] if arguments.filter else []
    if arguments.target:
        place = ImagePlace(context, arguments.target)
        repository = place.repository
        conditions.append(f'target="{place.package}/versions/{place.digest()}"')
    elif arguments.repository:
        repository = client.repository(arguments, arguments.repository)
    else:
        raise UsageError("attachments of what?", fix="--target IMAGE, or --repository REPOSITORY")
    query = {"filter": " AND ".join(conditions)} if conditions else {}
    each = client.each(f"{repository}/attachments", "attachments", **query)
    found = list(islice(each, arguments.limit) if arguments.limit > 0 else each)
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [
        (
            short_id(attachment["name"]),
            attachment.get("type", "-"),
            _target(attachment.get("target", "")),
            attachment.get("createTime", "")[:19].replace("T", " "),
        )
        for attachment in found
    ]
    print_table(("ATTACHMENT", "TYPE", "TARGET", "CREATE_TIME"), rows, context.out)
    return 0


def _describe(arguments: argparse.Namespace, context: Context) -> int:
    client, name = _named(arguments, context)
    print_document(client.get(name), arguments.format, context.out)
    return 0


def _download(arguments: argparse.Namespace, context: Context) -> int:
    client, name = _named(arguments, context)
    for file in client.get(name).get("files", []):
        target = Path(arguments.destination) / short_id(file).replace(":", "-")
        client.download(file, target)
        print(target, file=context.out)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    client, name = _named(arguments, context)
    what = f"the attachment {arguments.attachment}"
    confirm(f"delete {what} of {arguments.repository}", quiet=arguments.quiet, context=context)
    client.remove(name)
    print(f"deleted {what}", file=context.err)
    return 0


def _named(arguments: argparse.Namespace, context: Context) -> tuple[ArtifactsClient, str]:
    client = ArtifactsClient(context)
    repository = client.repository(arguments, arguments.repository)
    return client, f"{repository}/attachments/{escape_id(arguments.attachment)}"


def _target(version: str) -> str:
    """IMAGE@DIGEST of a version's full name."""
    package, _, digest = version.partition("/versions/")
    return f"{short_id(package)}@{digest}" if digest else "-"
