"""`hako services list|describe|delete|update-traffic`, over the Cloud Run API."""

from __future__ import annotations

import argparse
import socket
from urllib.parse import urlsplit

from hakobune.cli.client import Client, Document, condition, short_name
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.service_document import SOURCE_ANNOTATION, resource_limits
from hakobune.cli.service_place import Place, add_place
from hakobune.cli.table import print_table
from hakobune.errors import HakoError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    listing = verbs.add_parser("list", help="one line a service: state, URL, revision")
    add_place(listing)
    add_format(listing)
    listing.set_defaults(run=_list)

    describe = verbs.add_parser("describe", help="what serves, since when, and why not")
    describe.add_argument("service")
    add_place(describe)
    add_format(describe)
    describe.set_defaults(run=_describe)

    delete = verbs.add_parser("delete", help="delete a service and all its revisions")
    delete.add_argument("service")
    add_place(delete)
    delete.set_defaults(run=_delete)

    traffic = verbs.add_parser("update-traffic", help="split the traffic between revisions")
    traffic.add_argument("service")
    add_place(traffic)
    traffic.add_argument(
        "--to-latest",
        action="store_true",
        help="all traffic to the latest ready revision, now and later",
    )
    traffic.add_argument(
        "--to-revisions",
        default="",
        metavar="REV=PERCENT,…",
        help="percents that sum to 100; LATEST is a revision, too",
    )
    traffic.add_argument(
        "--set-tags",
        default="",
        metavar="TAG=REV,…",
        help="give revisions a URL of their own; replaces all tags",
    )
    traffic.add_argument("--remove-tags", default="", metavar="TAG,…", help="take these tags away")
    traffic.set_defaults(run=_update_traffic)  # fmt: skip


def _list(arguments: argparse.Namespace, context: Context) -> int:
    services = list(
        Client(context.settings.api_socket).list(Place.of(arguments).parent, "services")
    )
    if arguments.format != "table":
        print_document(services, arguments.format, context.out)
        return 0
    rows = [
        (
            short_name(service["name"]),
            state_word(service),
            reachable_url(service.get("urls", [])),
            short_name(service.get("latestReadyRevision", "")) or "-",
            service.get("updateTime", "")[:19].replace("T", " "),
        )
        for service in services
    ]
    print_table(("SERVICE", "STATE", "URL", "LATEST READY", "UPDATED"), rows, context.out)
    return 0


def _describe(arguments: argparse.Namespace, context: Context) -> int:
    service = Client(context.settings.api_socket).get(
        Place.of(arguments).service(arguments.service)
    )
    if arguments.format != "table":
        print_document(service, arguments.format, context.out)
    else:
        print("\n".join(description(service)), file=context.out)
    return 0


def description(service: Document) -> list[str]:
    """The lines `describe` prints: state and since when, URLs, traffic, limits, the failing condition."""
    container = (service.get("template", {}).get("containers") or [{}])[0]
    ready = service.get("terminalCondition", {})
    scaling = service.get("template", {}).get("scaling", {})
    limits = resource_limits(service)
    rows = [
        ("service", short_name(service["name"])),
        ("state", f"{state_word(service)} since {ready.get('lastTransitionTime', '-')[:19].replace('T', ' ')}"),
        *(("url", url) for url in service.get("urls", [])),
        ("image", container.get("image", "-")),
        ("source", service.get("annotations", {}).get(SOURCE_ANNOTATION, "-")),
        ("env", ", ".join(entry["name"] for entry in container.get("env", [])) or "-"),
        ("limits", f"cpu {limits.get('cpu', '1')}, memory {limits.get('memory', '512Mi')}"),
        ("instances", f"{scaling.get('minInstanceCount', 0)} to {scaling.get('maxInstanceCount', 100)}, "
                      f"{service.get('template', {}).get('maxInstanceRequestConcurrency', 80)} requests each at a time"),
        *(("traffic", traffic_line(target)) for target in service.get("trafficStatuses", [])),
    ]  # fmt: skip
    lines = [f"{name:<10} {value}" for name, value in rows]
    if message := ready.get("message"):
        lines += ["", *message.splitlines()]
    return lines


def traffic_line(target: Document) -> str:
    """`shop-00002 90 %, tag blue at http://…`."""
    text = f"{short_name(target.get('revision', '')) or 'latest'} {target.get('percent', 0)} %"
    if tag := target.get("tag"):
        text += f", tag {tag} at {target.get('uri', '-')}"
    return text


def state_word(service: Document) -> str:
    """The state of a service in a word, from its terminal condition."""
    if service.get("reconciling"):
        return "deploying"
    match service.get("terminalCondition", {}).get("state"):
        case "CONDITION_SUCCEEDED":
            return "ready"
        case "CONDITION_FAILED":
            return "failed"
        case _:
            return "unknown"


def reachable_url(urls: list[str]) -> str:
    """The first URL whose host this machine resolves (not every program knows `x.localhost`)."""
    for url in urls:
        try:
            socket.getaddrinfo(urlsplit(url).hostname, None)
        except OSError:
            continue
        return url
    return urls[0] if urls else "-"


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    client = Client(context.settings.api_socket)
    client.wait(client.delete(Place.of(arguments).service(arguments.service)))
    print(f"deleted {arguments.service}", file=context.err)
    return 0


def _update_traffic(arguments: argparse.Namespace, context: Context) -> int:
    client = Client(context.settings.api_socket)
    name = Place.of(arguments).service(arguments.service)
    current = client.get(name)
    traffic = wanted_traffic(
        current.get("traffic", []),
        to_latest=arguments.to_latest,
        percents=_parse_pairs(arguments.to_revisions, "--to-revisions"),
        tags=_parse_pairs(arguments.set_tags, "--set-tags") if arguments.set_tags else None,
        removed_tags=tuple(tag for tag in arguments.remove_tags.split(",") if tag),
    )
    service = client.wait(client.update(name, {"traffic": traffic}, mask="traffic"))
    rows = [
        (short_name(t.get("revision", "")), f"{t.get('percent', 0)} %", t.get("tag", ""), t.get("uri", ""))
        for t in service.get("trafficStatuses", [])
    ]  # fmt: skip
    print_table(("REVISION", "TRAFFIC", "TAG", "URL"), rows, context.out)
    return 0


def wanted_traffic(
    current: list[Document],
    *,
    to_latest: bool,
    percents: dict[str, str],
    tags: dict[str, str] | None,
    removed_tags: tuple[str, ...],
) -> list[Document]:
    """The `traffic` list to send (pure).

    Raises:
        UsageError: the flags contradict one another, or nothing is asked for.
    """
    if not (to_latest or percents or tags is not None or removed_tags):
        raise UsageError(
            "hako services update-traffic: nothing to change",
            fix="--to-latest, --to-revisions REV=PERCENT, --set-tags TAG=REV or --remove-tags TAG",
        )
    if to_latest and percents:
        raise UsageError(
            "--to-latest and --to-revisions contradict each other", fix="give one of them"
        )
    shares = [target for target in current if target.get("percent")]
    if to_latest:
        shares = [_target("LATEST", 100)]
    elif percents:
        shares = [
            _target(revision, _percent(revision, text)) for revision, text in percents.items()
        ]
    if tags is not None:
        tagged = [{**_target(revision), "tag": tag} for tag, revision in tags.items()]
    else:
        tagged = [
            {key: value for key, value in target.items() if key != "percent"}
            for target in current
            if target.get("tag")
        ]
    shares = [{key: value for key, value in share.items() if key != "tag"} for share in shares]
    return shares + [target for target in tagged if target["tag"] not in removed_tags]


def _target(revision: str, percent: int | None = None) -> Document:
    target: Document = (
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"}
        if revision == "LATEST"
        else {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": revision}
    )
    return target if percent is None else {**target, "percent": percent}


def _percent(revision: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise UsageError(
            f"--to-revisions {revision}={text}: a percent is a whole number from 0 to 100"
        )
    return int(text)


def _parse_pairs(text: str, flag: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        left, equals, right = part.partition("=")
        if not (left and equals and right):
            raise UsageError(f"{flag} {text!r} is no list of NAME=VALUE", fix=f"{flag} a=b,c=d")
        pairs[left] = right
    return pairs


def first_url(service: Document) -> str:
    """The URL to show for a service.

    Raises:
        HakoError: the service has none.
    """
    urls = service.get("urls", [])
    if not urls:
        raise HakoError(
            f"{short_name(service['name'])} has no URL",
            why=condition(service, "RoutesReady").get("message", "its route is not ready"),
        )
    return reachable_url(urls)
