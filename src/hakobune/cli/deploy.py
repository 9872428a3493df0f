"""`hako deploy`: a folder or an image to a URL.

The build is a library call in this process; everything about the service goes through the Cloud Run API.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.assignments import SHELL_NAME, parse_variables
from hakobune.cli.build import (
    add_build_arguments,
    build_from_arguments,
    count_of,
    describe_build,
    describe_source,
    list_paths,
    read_sources,
    with_tilde,
)
from hakobune.cli.client import (
    PARENT,
    Client,
    Document,
    condition,
    service_name,
    short_name,
)
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
from hakobune.cli.deploy_watch import Parting, StartWatch
from hakobune.cli.main import Context
from hakobune.cli.pull_option import pull_policy
from hakobune.cli.serve import ensure_running
from hakobune.cli.service_document import (
    SOURCE_ANNOTATION,
    Wish,
    check_wish,
    default_service_name,
    parse_cpu,
    parse_memory,
    parse_service_name,
    parse_startup_probe,
    parse_timeout,
    wanted_service,
)
from hakobune.cli.services import first_url
from hakobune.errors import HakoError, UsageError
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
    runs = parser.add_argument_group("how it runs (what is not given stays as it was)")
    runs.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="the port the app listens on, given to it as PORT (default: 8080)",
    )
    runs.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="set a variable; K alone copies the caller's value",
    )
    runs.add_argument(
        "--remove-env", action="append", default=[], metavar="K", help="take a variable away"
    )
    runs.add_argument("--clear-env", action="store_true", help="take all variables away first")
    runs.add_argument("--memory", metavar="SIZE", help="memory limit (default: 512Mi)")
    runs.add_argument("--cpu", metavar="N", help="CPU limit (default: 1)")
    runs.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="requests an instance takes at a time (default: 80)",
    )
    runs.add_argument(
        "--timeout", metavar="TIME", help="how long a request may take (default: 300s)"
    )
    runs.add_argument(
        "--startup-probe",
        metavar="K=V,…",
        help="when an instance counts as ready, as gcloud takes it: tcpSocket.port, httpGet.path, httpGet.port, "
        "initialDelaySeconds, timeoutSeconds, periodSeconds, failureThreshold (default: it listens within 240 s)",
    )
    runs.add_argument(
        "--min-instances", type=int, metavar="N", help="instances kept running (default: 0)"
    )
    runs.add_argument(
        "--max-instances", type=int, metavar="N", help="instances at most (default: 100)"
    )
    add_build_arguments(parser.add_argument_group("how it is built"))
    add_deploy_dockerfile(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show all that the build prints"
    )
    parser.set_defaults(run=_run)  # fmt: skip


def _run(arguments: argparse.Namespace, context: Context) -> int:
    settle_target(arguments)
    given, folder = read_target(
        arguments.target, source=arguments.source, image=arguments.image, is_folder=os.path.isdir
    )
    wish = _wish(arguments, context)
    if folder is not None:
        require_folder(folder)
    lines = DeployLines(context.err, context.env, verbose=arguments.verbose)
    ensure_running(context.settings)
    client = Client(context.settings.api_socket)
    name = choose_service(given, folder, list(client.list(PARENT, "services")))
    current = client.find(service_name(name))
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
            keeps=_keeps(current),
            home=context.settings.home,
            image=app_image(name),
        ) from error
    wish = replace(wish, image=image, source=str(folder) if folder else None)
    parting = Parting(client, current)
    try:
        operation = _put(client, name, current, wanted_service(current, wish))
        service = _wait(client, operation, current, lines, context.settings)
    except HakoError as error:
        raise explain_start(error, name, folder) from error
    _describe_start(client, service, current, lines, parting)
    print(first_url(service), file=context.out, flush=True)
    lines.hint(f"next: {_next(name, current, service)}")
    return 0


def _wish(arguments: argparse.Namespace, context: Context) -> Wish:
    """The flags of the command line, checked before anything is done; the image may come later."""
    wish = Wish(
        image=arguments.image or "",
        port=arguments.port,
        env=parse_variables(arguments.env, context.env, "--env", name=SHELL_NAME, must_exist=True),
        removed_env=tuple(arguments.remove_env),
        clear_env=arguments.clear_env,
        memory=None if arguments.memory is None else parse_memory(arguments.memory),
        cpu=None if arguments.cpu is None else parse_cpu(arguments.cpu),
        concurrency=arguments.concurrency,
        timeout=None if arguments.timeout is None else parse_timeout(arguments.timeout),
        startup_probe=None
        if arguments.startup_probe is None
        else parse_startup_probe(arguments.startup_probe),
        min_instances=arguments.min_instances,
        max_instances=arguments.max_instances,
    )
    check_wish(wish)
    return wish


def read_target(
    target: str | None, *, source: str | None, image: str | None, is_folder: Callable[[str], bool]
) -> tuple[str | None, Path | None]:
    """The service's name and the folder that the command line means; the folder is `None` for an image.

    A target with a slash, or one that is a folder here, is the folder; with `--source` or `--image` it is a name.

    Raises:
        UsageError: it is neither a folder nor a service's name.
    """
    if target is None or source is not None or image is not None:
        name = None if target is None else parse_service_name(target)
        return name, None if image is not None else _absolute(source or ".")
    if "/" in target or is_folder(target):
        return None, _absolute(target)
    return parse_service_name(target), _absolute(".")


def _absolute(folder: str) -> Path:
    return Path(os.path.abspath(folder))


def require_folder(folder: Path) -> None:
    """Refuse early what cannot be a source.

    Raises:
        UsageError: there is no such folder, or it is a file.
    """
    if folder.is_dir():
        return
    why = "it is a file" if folder.exists() else "there is no such folder"
    raise UsageError(f"cannot deploy {folder}", why=why, fix="hako deploy --source FOLDER")


def choose_service(given: str | None, folder: Path | None, services: Sequence[Document]) -> str:
    """The short name of the service to deploy (pure).

    A name given wins; else the service that was deployed from this folder; else the folder's own name, if no
    other folder's service has it.

    Raises:
        UsageError: a name must be given.
    """
    if given:
        return given
    if folder is None:
        raise UsageError(
            "hako deploy --image needs the service's name", fix="hako deploy NAME --image IMAGE"
        )
    sources = {
        short_name(s["name"]): s.get("annotations", {}).get(SOURCE_ANNOTATION) for s in services
    }
    same = [name for name, source in sources.items() if source == str(folder)]
    if len(same) > 1:
        raise UsageError(
            f"several services were deployed from {folder}: {', '.join(sorted(same))}",
            fix=f"hako deploy {sorted(same)[0]}",
        )
    if same:
        return same[0]
    name = default_service_name(folder)
    if name in sources:
        owner = sources[name] or "an image"
        raise UsageError(
            f"the service {name} is there already, deployed from {owner}",
            why=f"{folder} would take its place",
            fix=f"hako deploy {name} (to replace it) or hako deploy ANOTHER-NAME",
        )
    return name


def _have_image(arguments: argparse.Namespace, context: Context, lines: DeployLines) -> str:
    """The image that is named, pulled if it is not here; with `--platform`, one of several, by its digest."""
    from hakobune.distribution.transfer import find_or_pull
    from hakobune.oci.platform import Platform
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store

    name: str = arguments.image
    with Store(context.settings.home) as store:
        policy = pull_policy(arguments)
        reference = Reference.parse(name)
        platform = Platform.parse(arguments.platform) if arguments.platform else Platform.host()
        image = find_or_pull(store, reference, platform, lines, policy)
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
    state = "new service" if current is None else _serving(name, current)
    lines.row(name, f"{state} · {describe_source(folder)}")
    if arguments.dockerfile is None:
        from hakobune.lifecycle.errors import NoGroupPassedError  # a build imports it anyway

        try:
            result = build_from_arguments(
                arguments, context, path=folder, image=app_image(name), progress=lines
            )
        except NoGroupPassedError:
            if not (folder / "Dockerfile").is_file():
                raise
            lines.note("no buildpack knows this folder: its Dockerfile is used")
        else:
            return _describe(result, name, lines)
    return build_with_dockerfile(
        arguments,
        context,
        folder=folder,
        image=app_image(name),
        policy=pull_policy(arguments),
        lines=lines,
    )


def _describe(result: BuildResult, name: str, lines: DeployLines) -> str:
    for label, text in describe_build(result):
        lines.row(label, text, seconds=lines.spent(*STAGES[label]))
    return f"{app_image(name)}@{result.digest}"


def app_image(service: str) -> str:
    """The name under which a service's builds are kept."""
    return f"hako/apps/{service}"


def _put(client: Client, name: str, current: Document | None, wanted: Document) -> Document:
    """Create or change the service; returns the operation."""
    if current is None:
        return client.create(PARENT, "services", name, wanted)
    return client.update(service_name(name), wanted, mask="template,annotations")


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
        state = _keeps(current) or "nothing serves yet"
        lines.note(f"cancelled: {state}", warning=True)
        raise


def _describe_start(
    client: Client,
    service: Document,
    before: Document | None,
    lines: DeployLines,
    parting: Parting,
) -> None:
    latest = short_name(service.get("latestReadyRevision", ""))
    if before is not None and short_name(before.get("latestReadyRevision", "")) == latest:
        lines.total("live", f"{latest} serves on · nothing changed")
        return
    revision = client.find(service.get("latestReadyRevision", "")) or {}
    message = condition(revision, "ContainerHealthy").get("message") or "ready"
    seconds = lines.spent("start")
    left = parting.describe(service)
    lines.row("start", " · ".join(filter(None, (latest, message, left))), seconds=seconds)
    shares = [
        f"{short_name(target.get('revision', '')) or latest} gets {target.get('percent', 0)} %"
        for target in service.get("trafficStatuses", [])
        if target.get("percent")
    ]
    lines.total("live", ", ".join(shares) or f"{latest} gets no traffic yet")


def _serving(name: str, current: Document) -> str:
    revision = short_name(current.get("latestReadyRevision", ""))
    return f"{revision} serves" if revision else f"{name} has never been ready"


def _keeps(current: Document | None) -> str:
    """Who serves in spite of a failure: `shop-00002 keeps 100 %`; empty if nobody does."""
    return ", ".join(
        f"{short_name(target.get('revision', ''))} keeps {target['percent']} %"
        for target in (current or {}).get("trafficStatuses", [])
        if target.get("percent") and target.get("revision")
    )


def _next(name: str, before: Document | None, service: Document) -> str:
    """What people do after a deploy."""
    old = short_name((before or {}).get("latestReadyRevision", ""))
    changed = old and old != short_name(service.get("latestReadyRevision", ""))
    latest = short_name(service.get("latestReadyRevision", ""))
    shares = [t for t in service.get("trafficStatuses", []) if t.get("percent")]
    if shares and not any(short_name(t.get("revision", "")) in ("", latest) for t in shares):
        return f"hako services update-traffic {name} --to-latest gives {latest} the traffic"
    undo = f" · undo: hako rollback {name}"
    return f"hako logs -f {name} · hako services describe {name}{undo if changed else ''}"


def explain(
    error: HakoError,
    arguments: argparse.Namespace,
    folder: Path | None,
    *,
    keeps: str,
    home: Path,
    image: str,
) -> HakoError:
    """The error of a failed build as a deploy says it: with the service's state, in a deploy's columns."""
    from hakobune.builds.history import BuildHistory
    from hakobune.lifecycle.errors import BuildpackFailedError, NoGroupPassedError

    state = f". {keeps}, caches kept." if keeps else ""
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
