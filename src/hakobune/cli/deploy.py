"""`hako deploy`: a folder or an image to a URL.

The build is a library call in this process; everything about the service goes through the Cloud Run API.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.build_description import describe_build
from hakobune.cli.build_options import add_build_arguments, build_from_arguments
from hakobune.cli.client import Client, Document
from hakobune.cli.deploy_dockerfile import (
    add_deploy_dockerfile,
    build_with_dockerfile,
    settle_target,
)
from hakobune.cli.deploy_failure import (
    close_folders,
    explain_build,
    explain_no_buildpack,
    with_advice,
    with_log_command,
)
from hakobune.cli.deploy_lines import DeployLines
from hakobune.cli.deploy_options import add_run_arguments, wish_from_arguments
from hakobune.cli.deploy_outcome import describe_start, keeps, next_commands, serving
from hakobune.cli.deploy_target import choose_service, read_target, require_folder
from hakobune.cli.deploy_watch import Parting, StartWatch
from hakobune.cli.main import Context
from hakobune.cli.pull_option import check_platform, have_image, pull_policy
from hakobune.cli.serve import ensure_running
from hakobune.cli.service_document import wanted_service
from hakobune.cli.service_place import Place, add_place
from hakobune.cli.services import first_url
from hakobune.cli.source_folder import (
    count_of,
    describe_source,
    list_paths,
    read_sources,
    with_tilde,
)
from hakobune.errors import HakoError
from hakobune.settings import Settings

if TYPE_CHECKING:  # a build imports it
    from hakobune.builds.request import BuildResult

# The lines of a deploy, and the phases of a build whose time each shows.
STAGES = {
    "detect": ("ANALYZING", "DETECTING"),
    "build": ("RESTORING", "BUILDING"),
    "image": ("EXPORTING",),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        metavar="SERVICE|DIR",
        help="a folder to build (`.`, `examples/web`), or the service's name "
        "(default: the one the folder has, else the folder's name)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--source", metavar="DIR", help="the folder to build (default: the current one)"
    )
    what.add_argument(
        "--image",
        metavar="IMAGE",
        help="serve this image, from here or its registry; nothing is built",
    )
    add_place(parser)
    add_run_arguments(parser)
    add_build_arguments(parser.add_argument_group("how it is built"), several=False)
    add_deploy_dockerfile(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show all that the build prints"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    settle_target(arguments)
    given, folder = read_target(
        arguments.target, source=arguments.source, image=arguments.image, is_folder=os.path.isdir
    )
    wish = wish_from_arguments(arguments, context)
    if folder is not None:
        require_folder(folder)
    lines = DeployLines(context.err, context.env, verbose=arguments.verbose)
    ensure_running(context.settings)
    client = Client(context.settings.api_socket)
    place = Place.of(arguments)
    name = choose_service(given, folder, list(client.list(place.parent, "services")))
    current = client.find(place.service(name))
    try:
        if arguments.image:
            image = _have_image(arguments, context, lines)
        else:
            image = _build(arguments, context, folder, name, current, lines)
    except HakoError as error:
        raise explain(
            error,
            arguments,
            folder,
            still=keeps(current),
            home=context.settings.home,
            image=place.app_image(name),
        ) from error
    wish = replace(wish, image=image, source=str(folder) if folder else None)
    parting = Parting(client, current)
    try:
        operation = _put(client, place, name, current, wanted_service(current, wish))
        service = _wait(client, operation, current, lines, context.settings)
    except HakoError as error:
        raise explain_start(error, name + place.flags, folder) from error
    describe_start(client, service, current, lines, parting)
    print(first_url(service), file=context.out, flush=True)
    lines.hint(f"next: {next_commands(name + place.flags, current, service)}")
    return 0


def _have_image(arguments: argparse.Namespace, context: Context, lines: DeployLines) -> str:
    """The image that is named, pulled if it is not here; with `--platform`, one of several, by its digest."""
    from hakobune.oci.platform import Platform
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store

    name: str = arguments.image
    with Store(context.settings.home) as store:
        policy = pull_policy(arguments)
        reference = Reference.parse(name)
        platform = Platform.parse(arguments.platform) if arguments.platform else Platform.host()
        image = have_image(store, reference, platform, context, lines, policy)
    check_platform(image, platform if arguments.platform else None, reference)
    if not image.platform.matches(Platform.host()):
        from hakobune.runtime.emulation import check_can_run  # most images are this machine's

        check_can_run(image.platform, name=reference.short)
    return f"{reference.name}@{image.digest}" if arguments.platform else name


def _build(
    arguments: argparse.Namespace,
    context: Context,
    folder: Path | None,
    name: str,
    current: Document | None,
    lines: DeployLines,
) -> str:
    """Build the folder; returns the image by digest."""
    assert folder is not None  # without --image there is a folder
    place = Place.of(arguments)
    state = "new service" if current is None else serving(name, current)
    lines.row(name, f"{state} · {describe_source(folder)}")
    if arguments.dockerfile is None:
        from hakobune.lifecycle.errors import NoGroupPassedError  # a build imports it anyway

        try:
            result = build_from_arguments(
                arguments, context, path=folder, image=place.app_image(name), progress=lines
            )
        except NoGroupPassedError:
            if not (folder / "Dockerfile").is_file():
                raise
            lines.note("no buildpack knows this folder: its Dockerfile is used")
        else:
            return _describe(result, place.app_image(name), lines)
    return build_with_dockerfile(
        arguments,
        context,
        folder=folder,
        image=place.app_image(name),
        policy=pull_policy(arguments),
        lines=lines,
    )


def _describe(result: BuildResult, image: str, lines: DeployLines) -> str:
    for label, text in describe_build(result):
        lines.row(label, text, seconds=lines.spent(*STAGES[label]))
    return f"{image}@{result.digest}"


def _put(
    client: Client, place: Place, name: str, current: Document | None, wanted: Document
) -> Document:
    """Create or change the service; returns the operation."""
    if current is None:
        return client.create(place.parent, "services", name, wanted)
    return client.update(place.service(name), wanted, mask="template,annotations")


def _wait(
    client: Client,
    operation: Document,
    current: Document | None,
    lines: DeployLines,
    settings: Settings,
) -> Document:
    """Wait until the service serves (or does not); returns it. A supervisor that dies meanwhile is started again."""
    lines.phase("start")
    watch = StartWatch(client, lines)

    def look(present: Document) -> None:
        ensure_running(settings)
        watch.look(present)

    try:
        return client.wait(operation, meanwhile=look)
    except KeyboardInterrupt:
        client.cancel(operation)
        state = keeps(current) or "nothing serves yet"
        lines.note(f"cancelled: {state}", warning=True)
        raise


def explain(
    error: HakoError,
    arguments: argparse.Namespace,
    folder: Path | None,
    *,
    still: str,
    home: Path,
    image: str,
) -> HakoError:
    """The error of a failed build as a deploy says it: with the service's state, in a deploy's columns."""
    from hakobune.builds.history import BuildHistory
    from hakobune.lifecycle.errors import BuildpackFailedError, NoGroupPassedError

    state = f". {still}, caches kept." if still else ""
    shown: tuple[str, ...]
    if isinstance(error, NoGroupPassedError) and folder is not None:
        files = list_paths(folder)
        what = f"{error.what} ({with_tilde(folder)}, {count_of(len(files), 'file')}){state}"
        typed = arguments.source or (arguments.target if "/" in (arguments.target or "") else "")
        close = close_folders(files, source="" if typed in (None, ".", "./") else typed)
        shown = explain_no_buildpack(what, tried=error.why, close=close, fix=error.fix)
    elif isinstance(error, BuildpackFailedError):
        history = BuildHistory(home)
        build = history.last(image)
        log, number = (history.lines(build.number), build.number) if build else ((), "")
        fix = "" if error.fix.startswith("its whole output") else error.fix
        fix = fix.replace("--env ", "--build-env ")  # what `hako build` calls --env
        shown = explain_build(
            f"{error.what}{state}", seen=error.why, fix=fix, log=log,
            command=f"hako builds log {number}".rstrip(),
        )  # fmt: skip
    else:
        error.what += state
        return error
    error.what, error.why, error.fix = "\n".join(shown), "", ""
    return error


def explain_start(error: HakoError, name: str, folder: Path | None) -> HakoError:
    """The error of a revision that did not become ready, with the source's own line and the command for its log."""
    if folder is not None:
        error.what = with_advice(error.what, read_sources(folder))
    error.what = with_log_command(error.what, name)
    return error
