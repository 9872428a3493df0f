"""`hako artifacts docker images list|describe|delete`: images by the names that docker gives them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from hakobune.cli import artifacts_docker_tags
from hakobune.cli.artifacts_image_place import ImagePlace
from hakobune.cli.artifacts_names import add_filter, short_id
from hakobune.cli.client import Document
from hakobune.cli.confirm import confirm
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    groups = parser.add_subparsers(required=True, metavar="GROUP")
    images = groups.add_parser("images", help="list, describe and delete images")
    verbs = images.add_subparsers(required=True, metavar="VERB")

    listing = verbs.add_parser("list", help="one line an image, by digest")
    listing.add_argument("path", metavar="HOST/PROJECT/REPOSITORY[/IMAGE]")
    listing.add_argument("--include-tags", action="store_true", help="with the tags of each")
    add_filter(listing)
    listing.add_argument("--limit", type=int, default=0, metavar="N", help="at most so many")
    listing.add_argument(
        "--sort-by", default="", metavar="[~]FIELD", help="package, version, createTime or updateTime; ~ for the greatest first"
    )  # fmt: skip
    _refuse_occurrences(listing)
    add_format(listing)
    listing.set_defaults(run=_list_images)

    describe = verbs.add_parser("describe", help="what an image is, and its tags")
    describe.add_argument("image", metavar="HOST/…/IMAGE[:TAG|@DIGEST]")
    _refuse_occurrences(describe)
    add_format(describe, default="yaml")
    describe.set_defaults(run=_describe_image)

    delete = verbs.add_parser("delete", help="delete a digest with its tags, or a whole image")
    delete.add_argument("image", metavar="HOST/…/IMAGE[:TAG|@DIGEST]")
    delete.add_argument("--delete-tags", action="store_true", help="also if other tags name it")
    delete.add_argument("-q", "--quiet", action="store_true", help="do not ask")
    delete.add_argument("--async", action="store_true", help=argparse.SUPPRESS)
    delete.set_defaults(run=_delete_image)

    artifacts_docker_tags.configure(
        groups.add_parser("tags", help="list, add, delete tags; what they named before")
    )


def _list_images(arguments: argparse.Namespace, context: Context) -> int:
    _check_occurrences(arguments)
    place = ImagePlace(context, arguments.path)
    project, _, location = place.repository.split("/")[1:4]
    print(
        f"Listing items under project {project}, location {location}, repository {place.path.repository}.",
        file=context.err,
    )
    found = [
        _legacy(image, place, tags=arguments.include_tags)
        for image in _images(place, arguments.filter)
    ]
    if not found:
        _explain_nothing(place, context)
    found = _sorted(found, arguments.sort_by)
    if arguments.limit > 0:
        found = found[: arguments.limit]
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    tags = ("TAGS",) if arguments.include_tags else ()
    rows = [
        (
            image["package"],
            image["version"],
            *((",".join(image["tags"]) or "-",) if tags else ()),
            image["createTime"][:19].replace("T", " "),
            image["updateTime"][:19].replace("T", " "),
            human_size(int(image["metadata"]["imageSizeBytes"])),
        )
        for image in found
    ]
    header = ("IMAGE", "DIGEST", *tags, "CREATE_TIME", "UPDATE_TIME", "SIZE")
    print_table(header, rows, context.out)
    return 0


def _explain_nothing(place: ImagePlace, context: Context) -> None:
    """Say why there is nothing where somebody may expect something."""
    repository = place.client.get(place.repository)
    if repository.get("mode") == "VIRTUAL_REPOSITORY":
        policies = repository.get("virtualRepositoryConfig", {}).get("upstreamPolicies", [])
        upstreams = ", ".join(short_id(policy["repository"]) for policy in policies) or "none"
        print(f"A virtual repository has no images of its own; its upstreams: {upstreams}", file=context.err)  # fmt: skip
    if repository.get("mode") == "REMOTE_REPOSITORY":
        print("A remote repository holds what has been pulled through it.", file=context.err)


def _images(place: ImagePlace, filter: str = "") -> Iterator[Document]:
    """The images under the path: of the repository, of the image, or of all whose names begin with it."""
    wanted = place.path.image
    query = {"filter": filter} if filter else {}
    for image in place.client.each(f"{place.repository}/dockerImages", "dockerImages", **query):
        name = short_id(image["name"]).partition("@")[0]
        if not wanted or name == wanted or name.startswith(wanted + "/"):
            yield image


def _legacy(image: Document, place: ImagePlace, *, tags: bool) -> Document:
    """An image in the form that gcloud's list has had from its beginning."""
    name, _, digest = short_id(image["name"]).partition("@")
    metadata = {
        "buildTime": image.get("buildTime"),
        "imageSizeBytes": image.get("imageSizeBytes", "0"),
        "mediaType": image.get("mediaType"),
        "artifactType": image.get("artifactType"),
        "name": image["name"],
    }
    return {
        "package": place.text(name),
        "version": digest,
        "createTime": image.get("uploadTime", ""),
        "updateTime": image.get("updateTime", ""),
        "metadata": {key: value for key, value in metadata.items() if value},
        "tags": image.get("tags", []) if tags else "",
    }


def _sorted(images: list[Document], by: str) -> list[Document]:
    if not by:
        return images
    field = {"CREATE_TIME": "createTime", "UPDATE_TIME": "updateTime", "IMAGE": "package", "DIGEST": "version"}.get(
        by.lstrip("~"), by.lstrip("~")
    )  # fmt: skip
    fields = ("package", "version", "createTime", "updateTime")
    if field not in fields:
        raise UsageError(f"images cannot be sorted by {field!r}", fix=", ".join(fields))
    return sorted(images, key=lambda image: str(image[field]), reverse=by.startswith("~"))


def _describe_image(arguments: argparse.Namespace, context: Context) -> int:
    _check_occurrences(arguments)
    place = ImagePlace(context, arguments.image)
    digest = place.digest()
    escaped = place.package.rpartition("/")[2]
    image = place.client.get(f"{place.repository}/dockerImages/{escaped}@{digest}")
    summary = {
        "digest": digest,
        "fully_qualified_digest": f"{place.text(place.path.image)}@{digest}",
        "registry": place.path.host,
        "repository": place.path.repository,
        "tags": image.get("tags", []),
        "media_type": image.get("mediaType"),
        "artifact_type": image.get("artifactType"),
        "size_bytes": image.get("imageSizeBytes"),
        "upload_time": image.get("uploadTime"),
        "update_time": image.get("updateTime"),
        "platforms": [_platform(manifest) for manifest in image.get("imageManifests", [])],
    }
    shown = {key: value for key, value in summary.items() if value}
    print_document({"image_summary": shown}, arguments.format, context.out)
    return 0


def _platform(manifest: Document) -> str:
    words = (manifest.get("os"), manifest.get("architecture"), manifest.get("variant"))
    return f"{'/'.join(word for word in words if word) or 'unknown'} {manifest.get('digest', '')}"


def _delete_image(arguments: argparse.Namespace, context: Context) -> int:
    place = ImagePlace(context, arguments.image)
    package = place.package
    if not place.path.tag and not place.path.digest:
        confirm(f"delete all tags and images of {place.path.path}", quiet=arguments.quiet, context=context)  # fmt: skip
        place.client.remove(package)
        print(f"deleted {place.path.path}", file=context.err)
        return 0
    digest = place.digest()
    version = f"{package}/versions/{digest}"
    tags = [short_id(tag["name"]) for tag in place.client.each(f"{package}/tags", "tags", filter=f'version="{version}"')]  # fmt: skip
    others = [tag for tag in tags if tag != place.path.tag]
    if others and not arguments.delete_tags:
        raise HakoError(
            f"{arguments.image} is not deleted",
            why=f"it has {'other ' if place.path.tag else ''}tags: {', '.join(others)}",
            fix="--delete-tags",
        )
    named = f" and its tags {', '.join(tags)}" if tags else ""
    confirm(f"delete {place.path.path}@{digest}{named}", quiet=arguments.quiet, context=context)
    place.client.remove(version, force="true")
    print(f"deleted {place.path.path}@{digest}{named}", file=context.err)
    return 0


def _refuse_occurrences(parser: argparse.ArgumentParser) -> None:
    for flag in ("--show-occurrences", "--show-package-vulnerability", "--show-all-metadata"):
        parser.add_argument(flag, dest="occurrences", action="store_true", help=argparse.SUPPRESS)


def _check_occurrences(arguments: argparse.Namespace) -> None:
    if arguments.occurrences:
        raise UsageError(
            "there is nothing known about what is in images",
            why="no scanner belongs to this registry",
            fix="leave the option out; scan the image after `hako image pull`",
        )
