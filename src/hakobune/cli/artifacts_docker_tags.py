"""`hako artifacts docker tags list|history|add|delete`: tags by the names that docker gives them."""

from __future__ import annotations

import argparse

from hakobune.cli.artifacts_image_place import ImagePlace
from hakobune.cli.artifacts_names import short_id
from hakobune.cli.client import ApiError
from hakobune.cli.confirm import confirm
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="one line a tag")
    listing.add_argument("path", metavar="HOST/PROJECT/REPOSITORY[/IMAGE]")
    add_format(listing)
    listing.set_defaults(run=_list_tags)

    history = verbs.add_parser("history", help="what a tag has named, and who moved it when")
    history.add_argument("image", metavar="HOST/…/IMAGE[:TAG]")
    history.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many (default: 100)")  # fmt: skip
    add_format(history)
    history.set_defaults(run=_tag_history)

    add = verbs.add_parser("add", help="let a tag name an image; it is moved if it names another")
    add.add_argument("image", metavar="HOST/…/IMAGE[:TAG|@DIGEST]")
    add.add_argument("tag", metavar="HOST/…/IMAGE:TAG")
    add.set_defaults(run=_add_tag)

    delete = verbs.add_parser("delete", help="remove a tag; the image stays")
    delete.add_argument("tag", metavar="HOST/…/IMAGE:TAG")
    delete.add_argument("-q", "--quiet", action="store_true", help="do not ask")
    delete.set_defaults(run=_delete_tag)


def _list_tags(arguments: argparse.Namespace, context: Context) -> int:
    place = ImagePlace(context, arguments.path)
    if place.path.image:
        packages = [place.package]
    else:
        packages = [p["name"] for p in place.client.each(f"{place.repository}/packages", "packages")]  # fmt: skip
    found = [
        {
            "tag": tag["name"],
            "image": place.text(short_id(package)),
            "version": tag["version"],
        }
        for package in packages
        for tag in place.client.each(f"{package}/tags", "tags")
    ]
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [(short_id(t["tag"]), t["image"], t["version"].rpartition("/")[2]) for t in found]
    print_table(("TAG", "IMAGE", "DIGEST"), rows, context.out)
    return 0


def _tag_history(arguments: argparse.Namespace, context: Context) -> int:
    place = ImagePlace(context, arguments.image)
    query = {"pageSize": str(max(arguments.limit, 1))}
    if place.path.tag:
        query["tag"] = place.path.tag
    found = place.client.get(f"{place.package}/tagHistory", **query).get("tagChanges", [])
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    rows = [
        (
            change["time"][:19].replace("T", " "),
            short_id(change["tag"]),
            change.get("version", "").rpartition("/")[2] or "(removed)",
            change["actor"],
        )
        for change in found
    ]
    print_table(("TIME", "TAG", "DIGEST", "BY"), rows, context.out)
    return 0


def _add_tag(arguments: argparse.Namespace, context: Context) -> int:
    source, target = ImagePlace(context, arguments.image), _tag_place(context, arguments.tag)
    if source.package != target.package:
        raise UsageError(
            f"{target.path.path} is another image than {source.path.path}",
            why="a tag names an image of its own name",
            fix=f"hako image copy {arguments.image} {arguments.tag}",
        )
    package, tag = target.package, target.path.tag
    body = {"version": f"{package}/versions/{source.digest()}"}
    try:
        target.client.make(f"{package}/tags", body, tagId=tag)
    except ApiError as error:
        if error.status != "ALREADY_EXISTS":
            raise
        target.client.change(f"{package}/tags/{tag}", body, mask="version")
    print(f"Added tag [{target.path.path}:{tag}] to image [{arguments.image}].", file=context.err)
    return 0


def _delete_tag(arguments: argparse.Namespace, context: Context) -> int:
    place = _tag_place(context, arguments.tag)
    named = f"{place.path.path}:{place.path.tag}"
    confirm(f"remove the tag {named}", quiet=arguments.quiet, context=context)
    place.client.remove(f"{place.package}/tags/{place.path.tag}")
    print(f"deleted tag {named}", file=context.err)
    return 0


def _tag_place(context: Context, text: str) -> ImagePlace:
    place = ImagePlace(context, text)
    if not place.path.tag or place.path.digest:
        raise UsageError(f"{text!r} names no tag", fix=f"{place.path.path}:TAG")
    return place
