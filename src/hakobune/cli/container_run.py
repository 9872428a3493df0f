"""`hako container run`: in the foreground, at a terminal that may be left, or left running."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from hakobune.cli.container_options import make_spec
from hakobune.cli.container_process import exit_code_of
from hakobune.cli.container_roots import drop_stale_roots
from hakobune.cli.main import Context
from hakobune.cli.pull_option import get_image
from hakobune.cli.serve import ensure_supervisor
from hakobune.errors import HakoError, UsageError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from hakobune.runtime.container import (
    ContainerError,
    ContainerSpec,
)
from hakobune.runtime.container_names import name_taken
from hakobune.runtime.detach_keys import parse_detach_keys
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.supervisor_client import SupervisorClient


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Exit codes are docker's: 125 not started, 126 not executable, 127 no such program, else the container's."""
    try:
        return _run_container(arguments, context)
    except UsageError:
        raise
    except HakoError as error:
        print(f"error: {error}", file=context.err)
        return exit_code_of(error)


def _run_container(arguments: argparse.Namespace, context: Context) -> int:
    keys = parse_detach_keys(arguments.detach_keys)
    with Store(context.settings.home) as store:
        image = get_image(store, arguments.image, arguments, context)
        if not image.platform.matches(Platform.host()):
            from hakobune.runtime.emulation import check_can_run  # most images are this machine's

            check_can_run(image.platform, name=arguments.image)
        snapshots, hold = store.hold_image(image)
        with hold:
            lowers = stacked_dirs(snapshots)
            locks = tuple(dict.fromkeys(lock for s in snapshots for lock in s.locks()))
            spec = make_spec(arguments, image, lowers, locks, context.env)
            if arguments.detach:
                spec = _detachable(spec, arguments, context)
                return _run_detached(spec, store, image, context)
            if _can_be_left(arguments):
                return _run_leavable(spec, keys, store, image, context)
            return _run_attached(spec, arguments, context)


def _detachable(
    spec: ContainerSpec, arguments: argparse.Namespace, context: Context
) -> ContainerSpec:
    """What is the supervisor's, with a top on disk: what it writes outlives `stop` and `start`."""
    if arguments.network.startswith("container:"):
        raise UsageError(
            f"--network {arguments.network} does not go with -d",
            why="the container ends with the one whose network it shares, so a command watches it",
            fix="leave -d away",
        )
    spec = replace(spec, interactive=arguments.interactive, terminal=arguments.tty)
    return spec if spec.remove_on_exit else _with_top_on_disk(spec, context)


def _with_top_on_disk(spec: ContainerSpec, context: Context) -> ContainerSpec:
    return replace(spec, top=str(context.settings.home / "containers" / spec.id / "top"))


def _can_be_left(arguments: argparse.Namespace) -> bool:
    """Whether there is a person who may type the keys: the supervisor has the container from the beginning then.

    One that shares another's network ends with that, and so has a command to itself.
    """
    typed = arguments.interactive and arguments.tty and sys.stdin.isatty()
    return typed and not arguments.network.startswith("container:")


def _joined(network: str, context: Context) -> int | None:
    """The process whose network is shared."""
    kind, _, id = network.partition(":")
    if kind != "container":
        return None
    from hakobune.runtime.exec_target import find_target

    return find_target(context.settings, id).pid


def _run_attached(spec: ContainerSpec, arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.runtime.foreground import run_foreground  # a detached container needs none of it

    for stream in (context.out, context.err):
        stream.flush()
    ended = run_foreground(
        spec,
        context.settings,
        stdin=sys.stdin.fileno() if arguments.interactive else None,
        stdout=context.out.fileno(),
        stderr=context.err.fileno(),
        terminal=arguments.tty,
        join=_joined(arguments.network, context),
    )
    if ended.oom_killed and ended.exit_code == 137:
        limit = (spec.limits.memory_bytes or 0) >> 20
        print(f"killed: it needed more than its {limit} MiB of memory", file=context.err)
    return ended.exit_code


def _run_detached(spec: ContainerSpec, store: Store, image: Image, context: Context) -> int:
    with SupervisorClient(context.settings.supervisor_socket) as client:
        _create(spec, store, image, context, client)
        client.start(spec.id)
    print(spec.id, file=context.out)
    return 0


def _create(
    spec: ContainerSpec, store: Store, image: Image, context: Context, client: SupervisorClient
) -> None:
    """Make it the supervisor's, up to the point where its program may begin."""
    if find_foreground(context.settings, spec.id) is not None:
        raise name_taken(spec.id)
    ensure_supervisor(context.settings)
    drop_stale_roots(store, context.settings.home)
    store.set_root("containers", spec.id, [image.digest])
    try:
        client.create(spec)
    except ContainerError as error:
        if error.kind != "exists":
            store.drop_root("containers", spec.id)
        raise


def _run_leavable(
    spec: ContainerSpec,
    keys: bytes,
    store: Store,
    image: Image,
    context: Context,
) -> int:
    """At a terminal: it ends with the command, unless the person leaves it by the keys. Then it stays, as with -d."""
    from hakobune.cli.container_attach import stand_before

    kept = not spec.remove_on_exit
    spec = replace(spec, interactive=True, terminal=True, owned=True, remove_on_exit=True)
    if kept:
        spec = _with_top_on_disk(spec, context)
    was_left = False

    with SupervisorClient(context.settings.supervisor_socket) as client:

        def let_go() -> bool:
            nonlocal was_left
            try:
                client.keep(spec.id, forgotten_at_end=not kept)
            except ContainerError:  # it has ended this moment
                return False
            was_left = True
            return True

        _create(spec, store, image, context, client)
        try:
            return stand_before(
                spec.id,
                context,
                keys=keys,
                typing=True,
                signals=True,
                begin=lambda: client.start(spec.id),
                owner=True,
                let_go=let_go,
            )
        finally:
            if not was_left:
                store.drop_root("containers", spec.id)
