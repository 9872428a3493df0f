"""`hako builds list|log`: the last builds of this installation and what they printed."""

from __future__ import annotations

import argparse
import time

from hakobune.builds.history import BuildHistory, PastBuild
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.errors import HakoError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="one line a build, newest first")
    add_format(listing)
    listing.set_defaults(run=_list)
    log = verbs.add_parser("log", help="what a build printed")
    log.add_argument(
        "build", type=int, nargs="?", help="its number in `hako builds list` (default: the last)"
    )
    log.set_defaults(run=_log)


def _list(arguments: argparse.Namespace, context: Context) -> int:
    builds = BuildHistory(context.settings.home).builds()
    if arguments.format != "table":
        print_document([_document(build) for build in builds], arguments.format, context.out)
        return 0
    rows = [
        (
            str(build.number),
            build.state,
            build.image,
            "-" if build.seconds is None else f"{build.seconds:.1f} s",
            _when(build.began),
            build.error or build.digest[:19],
        )
        for build in builds
    ]
    print_table(("BUILD", "STATE", "IMAGE", "TIME", "BEGAN", "RESULT"), rows, context.out)
    return 0


def _document(build: PastBuild) -> dict[str, object]:
    return {
        "number": build.number,
        "state": build.state,
        "image": build.image,
        "source": build.source,
        "began": _when(build.began),
        "seconds": None if build.seconds is None else round(build.seconds, 3),
        "digest": build.digest,
        "error": build.error,
    }


def _log(arguments: argparse.Namespace, context: Context) -> int:
    history = BuildHistory(context.settings.home)
    number = arguments.build
    if number is None:
        number = next((build.number for build in history.builds()), 0)
    try:
        lines = history.lines(number)
    except FileNotFoundError as error:
        what = f"there is no build {number}" if number else "nothing has been built here yet"
        raise HakoError(
            what, why="the last 100 builds are kept" if number else "", fix="hako builds list"
        ) from error
    for line in lines:
        print(line, file=context.out)
    return 0


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
