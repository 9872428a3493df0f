"""`hako container cp`: files into containers and out of them, with docker's rules; `-` is a tar stream."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError
from hakobune.runtime.container import ID_PATTERN
from hakobune.runtime.container_root import container_root
from hakobune.runtime.copy_plan import Goal, Wanted, choose_goal
from hakobune.runtime.copy_tree import TreeCopy
from hakobune.runtime.file_place import CopyError, Here, Place, Spot


@dataclass(frozen=True, slots=True)
class Path:
    """One side of the command line: a path on this machine, or in the *container*."""

    container: str
    text: str


def parse_path(text: str) -> Path:
    """`CONTAINER:PATH`, or a path of this machine: one with a colon begins with `/` or `.`.

    Raises:
        UsageError: it is empty.
    """
    if not text:
        raise UsageError("a path is empty", fix="hako container cp CONTAINER:/FROM TO")
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return Path("", text)
    if not ID_PATTERN.fullmatch(name):
        raise UsageError(
            f"{text!r} names no container", fix=f"a file of this machine is written ./{text}"
        )
    if not path:
        raise UsageError(f"{text!r} names no path in the container", fix=f"{name}:/")
    # A container has no working directory for those who come from outside: paths begin at its root, as docker's.
    return Path(name, path if path.startswith("/") else f"/{path}")


def run(arguments: argparse.Namespace, context: Context) -> int:
    source, target = parse_path(arguments.source), parse_path(arguments.target)
    if source.container and target.container:
        raise UsageError(
            "files cannot be copied from one container to another",
            fix=f"hako container cp {arguments.source} - | hako container cp - DIRECTORY",
        )
    if not source.container and not target.container:
        raise UsageError(
            "neither path is a container's",
            why="one of them is written CONTAINER:PATH",
            fix="cp(1) copies files of this machine",
        )
    if (arguments.source == "-" and not target.container) or (
        arguments.target == "-" and not source.container
    ):
        raise UsageError("- stands for a tar stream into a container, or out of one")
    id = source.container or target.container
    try:
        with ExitStack() as undo:
            inside = undo.enter_context(container_root(context.settings, id))
            if arguments.target == "-":
                _pack(inside, source.text, follow=arguments.follow_link, context=context)
            elif arguments.source == "-":
                _unpack(inside, target.text, context)
            else:
                here = Here()
                of = inside if source.container else here
                to = inside if target.container else here
                _copy(of, to, source.text, target.text, arguments, context)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _translated(arguments, error) from error
    return 0


def _copy(
    source: Place,
    target: Place,
    source_text: str,
    target_text: str,
    arguments: argparse.Namespace,
    context: Context,
) -> None:
    wanted = Wanted(source_text, source.show(source_text))
    goal_path = Wanted(target_text, target.show(target_text))
    follow = arguments.follow_link or wanted.is_folder
    with ExitStack() as undo:
        found = undo.enter_context(closing(_existing(source, source_text, follow=follow)))
        there = undo.enter_context(closing(target.find(target_text, follow=True)))
        goal = choose_goal(
            wanted,
            goal_path,
            source_is_folder=found.is_directory,
            target_is_folder=there.is_directory,
            target_exists=there.status is not None,
        )
        run = undo.enter_context(
            closing(
                TreeCopy(
                    source,
                    target,
                    keep_owners=arguments.archive,
                    leave_out=_note(context),
                )
            )
        )
        _carry_out(run, goal, found, there, wanted, undo)


def _carry_out(
    run: TreeCopy, goal: Goal, found: Spot, there: Spot, wanted: Wanted, undo: ExitStack
) -> None:
    path = wanted.shown
    if goal is Goal.ITSELF:
        run.copy(found.folder, found.name, there.folder, there.name, path)
        return
    made = None if there.status is not None else found.status
    if made is not None:
        run.make_folder(there.folder, there.name, made)
    folder = there.open_directory()
    undo.callback(os.close, folder)
    if goal is Goal.WITHIN:
        run.copy(found.folder, found.name or ".", folder, wanted.base, path)
        return
    contents = found.open_directory()
    undo.callback(os.close, contents)
    run.merge(contents, folder, path)
    if made is not None:
        run.date_folder(there.folder, there.name, made)


def _pack(inside: Place, text: str, *, follow: bool, context: Context) -> None:
    from hakobune.runtime.copy_archive import pack

    wanted = Wanted(text, inside.show(text))
    if sys.stdout.isatty():
        raise UsageError(
            "a tar stream is not for a terminal", fix="write it to a file, or into `tar t`"
        )
    context.out.flush()
    with closing(_existing(inside, text, follow=follow or wanted.is_folder)) as spot:
        pack(inside, spot, wanted.base if not wanted.is_contents else ".", sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _unpack(inside: Place, text: str, context: Context) -> None:
    from hakobune.runtime.copy_archive import unpack

    with closing(inside.find(text, follow=True)) as spot:
        if not spot.is_directory:
            raise CopyError(
                f"cannot copy a tar stream into {inside.show(text)}",
                why="it is a file" if spot.status else "there is no such folder",
                fix=f"hako container exec {inside.name} mkdir -p {text}" if not spot.status else "",
            )
    unpack(inside, text, sys.stdin.buffer, leave_out=_note(context))


def _existing(place: Place, text: str, *, follow: bool) -> Spot:
    spot = place.find(text, follow=follow)
    if spot.status is None:
        spot.close()
        raise CopyError(f"there is no {place.show(text)}")
    return spot


def _note(context: Context) -> Callable[[str], None]:
    def note(path: str) -> None:
        print(f"left out, since it is a socket or a device: {path}", file=context.err)

    return note


def _translated(arguments: argparse.Namespace, error: OSError) -> HakoError:
    at = f" ({error.filename})" if isinstance(error.filename, str) else ""
    return CopyError(
        f"cannot copy {arguments.source} to {arguments.target}",
        why=f"{error.strerror or error}{at}",
        fix="run it as root: sudo hako container cp …"
        if isinstance(error, PermissionError) and os.geteuid()
        else "",
    )
