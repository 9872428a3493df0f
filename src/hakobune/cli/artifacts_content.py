"""`hako artifacts packages|versions|tags|files …`: what a repository holds, in Artifact Registry's own words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_names import add_filter, add_place, escape_id, package_name, short_id
from hakobune.cli.client import Document
from hakobune.cli.confirm import confirm
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError

Run = Callable[[argparse.Namespace, Context], int]
Column = tuple[str, Callable[[Document], str]]


def configure_packages(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _verb(verbs, "list", "one line a package: an image by name", _list_packages, output="table")
    _verb(verbs, "describe", "a package", _describe_package, "package", output="yaml")
    _verb(verbs, "delete", "delete a package with its versions and tags", _delete_package, "package", asks=True)  # fmt: skip


def configure_versions(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _verb(verbs, "list", "one line a version: a digest of a package", _list_versions, output="table", of_package=True)  # fmt: skip
    _verb(verbs, "describe", "a version, with its tags", _describe_version, "version", output="yaml", of_package=True)  # fmt: skip
    delete = _verb(verbs, "delete", "delete a version", _delete_version, "version", asks=True, of_package=True)  # fmt: skip
    delete.add_argument("--delete-tags", action="store_true", help="also if tags name it")


def configure_tags(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _verb(verbs, "list", "one line a tag of a package", _list_tags, output="table", of_package=True)
    _verb(verbs, "describe", "a tag", _describe_tag, "tag", output="yaml", of_package=True)
    for name, what, run in (
        ("create", "let a new tag name a version", _create_tag),
        ("update", "move a tag to another version", _update_tag),
    ):
        verb = _verb(verbs, name, what, run, "tag", output="yaml", of_package=True)
        verb.add_argument("--version", required=True, metavar="DIGEST")
    _verb(verbs, "delete", "remove a tag; the version stays", _delete_tag, "tag", asks=True, of_package=True)  # fmt: skip


def configure_files(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = _verb(verbs, "list", "one line a blob of the repository", _list_files, output="table")
    listing.add_argument("--package", default="", metavar="PACKAGE", help="only of this package")
    listing.add_argument("--version", default="", metavar="DIGEST", help="and of this version")
    _verb(verbs, "describe", "a blob", _describe_file, "file", output="yaml")
    download = _verb(verbs, "download", "write a blob into a folder", _download_file, "file")
    download.add_argument("--destination", default=".", metavar="FOLDER", help="default: here")
    download.add_argument("--local-filename", metavar="NAME", help="default: the file's own")
    _verb(verbs, "delete", "take a blob out that no version needs", _delete_file, "file", asks=True)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    run: Run,
    positional: str = "",
    *,
    output: str = "",
    asks: bool = False,
    of_package: bool = False,
) -> argparse.ArgumentParser:
    """Declare a verb on what `--repository` (and `--package`) holds."""
    parser = verbs.add_parser(name, help=what)
    if positional:
        parser.add_argument(positional, metavar=positional.upper())
    parser.add_argument("--repository", required=True, metavar="REPOSITORY")
    if of_package:
        parser.add_argument("--package", required=True, metavar="PACKAGE")
    add_place(parser)
    if output:
        add_format(parser, default=output)
    if name == "list":
        add_filter(parser)
        parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most so many")
    if asks:
        parser.add_argument("-q", "--quiet", action="store_true", help="do not ask")
        parser.add_argument("--async", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)
    return parser


def _list_packages(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    found = _each(client, f"{repository}/packages", "packages", arguments)
    columns = (("PACKAGE", lambda p: short_id(p["name"])), *_TIMES)
    return _show(found, columns, arguments, context)


def _describe_package(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    found = client.get(package_name(repository, arguments.package))
    print_document(found, arguments.format, context.out)
    return 0


def _delete_package(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = package_name(repository, arguments.package)
    _remove(client, name, arguments, context, f"the package {arguments.package} with its versions and tags")  # fmt: skip
    return 0


def _list_versions(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    package = package_name(repository, arguments.package)
    found = _each(client, f"{package}/versions", "versions", arguments, view="FULL")
    columns = (
        ("VERSION", lambda v: short_id(v["name"])),
        ("TAGS", lambda v: ",".join(short_id(t["name"]) for t in v.get("relatedTags", [])) or "-"),
        *_TIMES,
        ("SIZE", lambda v: human_size(int(v.get("metadata", {}).get("imageSizeBytes", 0)))),
    )
    return _show(found, columns, arguments, context)


def _describe_version(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = f"{package_name(repository, arguments.package)}/versions/{arguments.version}"
    print_document(client.get(name, view="FULL"), arguments.format, context.out)
    return 0


def _delete_version(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = f"{package_name(repository, arguments.package)}/versions/{arguments.version}"
    tags = [short_id(t["name"]) for t in client.get(name, view="FULL").get("relatedTags", [])]
    if tags and not arguments.delete_tags:
        raise HakoError(
            f"the version {arguments.version} is not deleted",
            why=f"it has the tags {', '.join(tags)}",
            fix="--delete-tags",
        )
    force = {"force": "true"} if tags else {}
    _remove(client, name, arguments, context, f"the version {arguments.version}", **force)
    return 0


def _list_tags(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    package = package_name(repository, arguments.package)
    found = _each(client, f"{package}/tags", "tags", arguments)
    columns = (
        ("TAG", lambda t: short_id(t["name"])),
        ("VERSION", lambda t: t["version"].rpartition("/")[2]),
    )
    return _show(found, columns, arguments, context)


def _describe_tag(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = f"{package_name(repository, arguments.package)}/tags/{arguments.tag}"
    print_document(client.get(name), arguments.format, context.out)
    return 0


def _create_tag(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    package = package_name(repository, arguments.package)
    body = {"version": f"{package}/versions/{arguments.version}"}
    made = client.make(f"{package}/tags", body, tagId=arguments.tag)
    print_document(made, arguments.format, context.out)
    return 0


def _update_tag(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    package = package_name(repository, arguments.package)
    body = {"version": f"{package}/versions/{arguments.version}"}
    moved = client.change(f"{package}/tags/{arguments.tag}", body, mask="version")
    print_document(moved, arguments.format, context.out)
    return 0


def _delete_tag(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = f"{package_name(repository, arguments.package)}/tags/{arguments.tag}"
    _remove(client, name, arguments, context, f"the tag {arguments.tag}")
    return 0


def _list_files(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    owner = package_name(repository, arguments.package) if arguments.package else ""
    if arguments.version:
        owner = f"{owner or repository + '/packages/*'}/versions/{arguments.version}"
    if owner:
        given = f" AND ({arguments.filter})" if arguments.filter else ""
        arguments.filter = f'owner="{owner}"{given}'
    found = _each(client, f"{repository}/files", "files", arguments)
    columns = (
        ("FILE", lambda f: short_id(f["name"])),
        *_TIMES,
        ("SIZE", lambda f: human_size(int(f.get("sizeBytes", 0)))),
        ("OWNER", lambda f: f.get("owner", "-").partition("/packages/")[2] or "-"),
    )
    return _show(found, columns, arguments, context)


def _describe_file(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    found = client.get(f"{repository}/files/{escape_id(arguments.file)}")
    print_document(found, arguments.format, context.out)
    return 0


def _download_file(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = f"{repository}/files/{escape_id(arguments.file)}"
    target = Path(arguments.destination) / (arguments.local_filename or arguments.file.replace(":", "-"))  # fmt: skip
    client.download(name, target)
    print(target, file=context.out)
    return 0


def _delete_file(arguments: argparse.Namespace, context: Context) -> int:
    client, repository = _repository(arguments, context)
    name = f"{repository}/files/{escape_id(arguments.file)}"
    _remove(client, name, arguments, context, f"the file {arguments.file}")
    return 0


def _repository(arguments: argparse.Namespace, context: Context) -> tuple[ArtifactsClient, str]:
    client = ArtifactsClient(context)
    return client, client.repository(arguments, arguments.repository)


def _each(
    client: ArtifactsClient, path: str, field: str, arguments: argparse.Namespace, **query: str
) -> list[Document]:
    """What `--filter` and `--limit` leave of a list."""
    if arguments.filter:
        query["filter"] = arguments.filter
    found = client.each(path, field, **query)
    return list(islice(found, arguments.limit) if arguments.limit > 0 else found)


def _remove(
    client: ArtifactsClient,
    name: str,
    arguments: argparse.Namespace,
    context: Context,
    what: str,
    **query: str,
) -> None:
    confirm(f"delete {what} of {arguments.repository}", quiet=arguments.quiet, context=context)
    client.remove(name, **query)
    print(f"deleted {what}", file=context.err)


def _show(
    found: list[Document],
    columns: Sequence[Column],
    arguments: argparse.Namespace,
    context: Context,
) -> int:
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [tuple(value(item) for _, value in columns) for item in found]
    print_table(tuple(name for name, _ in columns), rows, context.out)
    return 0


def _time(name: str) -> Callable[[Document], str]:
    return lambda item: str(item.get(name, ""))[:19].replace("T", " ")


_TIMES: tuple[Column, ...] = (
    ("CREATE_TIME", _time("createTime")),
    ("UPDATE_TIME", _time("updateTime")),
)
