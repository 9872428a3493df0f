"""`hako serve`: start what serves (the supervisor and under it the controller), run it here, or end all of it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from hakobune.cli.main import Context
from hakobune.cli.serve_error import ServeError, last_lines, read_lines, why_it_ended
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError
from hakobune.settings import NOWHERE, Settings
from hakobune.support.locks import exclusive, try_exclusive
from hakobune.support.room import has_room, how_to_make_room

CONTROLLER = "controller"
_SUPERVISOR = "hakobune.runtime.supervisor"
_START_TIMEOUT_S = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--foreground",
        action="store_true",
        help="stay until a signal ends it (for service managers)",
    )
    how.add_argument("--stop", action="store_true", help="end all that was started")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    settings = context.settings
    if arguments.stop:
        ended = stop_all(settings)
        print("everything has ended" if ended else "nothing was running", file=context.err)
        return 0
    if arguments.foreground:
        _require_root()
        _prepare_home(settings)
        command = _supervisor_command(_controller_argument())
        os.execve(command[0], command, _environment(settings))
    ensure_running(settings)
    print(f"http://{settings.host}:{settings.port}", file=context.out)
    return 0


def ensure_running(settings: Settings) -> None:
    """Return when the installation's API answers; what is missing is started, detached.

    Raises:
        ServeError: it does not answer in time; with the last lines that it logged.
    """
    # The controller outlives a supervisor that was killed, but can start nothing without one.
    if somebody_listens(settings.api_socket) and not _nobody_listens(settings.supervisor_socket):
        return
    ensure_supervisor(settings)
    with exclusive(settings.run / "serve.lock"):
        _await_api(settings, time.monotonic() + _START_TIMEOUT_S)


def ensure_supervisor(settings: Settings) -> None:
    """Return when the supervisor answers; it is started, detached, if it is not there.

    Raises:
        ServeError: it does not answer in time; with the last lines that it logged.
    """
    if _supervisor_answers(settings):
        return
    _require_root()
    _prepare_home(settings)
    with exclusive(settings.run / "serve.lock"):
        if not _supervisor_answers(settings):
            _start_supervisor(settings)
        _await_supervisor(settings, time.monotonic() + _START_TIMEOUT_S)


def stop_all(settings: Settings) -> bool:
    """End containers, programs, bridge, tables and cgroups, and see that they are gone; says whether there was anything.

    Raises:
        ServeError: something is left; it is named.
    """
    if not settings.run.exists():
        return False
    existed = bool(leftovers(settings))
    with exclusive(settings.run / "serve.lock"):
        try:
            with SupervisorClient(settings.supervisor_socket) as client:
                client.shutdown()
        except SupervisorUnavailableError:
            _end_orphans(settings)
        _await_lock(settings)
    left = leftovers(settings)
    if left:
        raise ServeError(
            "not everything could be ended",
            why="; ".join(left),
            fix="end builds and foreground containers that still run, then `hako serve --stop` again",
        )
    return existed


def leftovers(settings: Settings) -> tuple[str, ...]:
    """What of an installation is on this machine's kernel, in words; nothing after `stop_all`."""
    from hakobune.runtime.cgroups import Cgroups  # what only starts something needs neither
    from hakobune.runtime.network import Network

    network = Network(settings.installation, settings.run)
    cgroups = Cgroups.open(settings.installation)
    checks = (
        (_supervisor_answers(settings), "the supervisor answers"),
        (somebody_listens(settings.api_socket), "the controller answers"),
        (cgroups.exists(), f"control groups {settings.installation}"),
        (network.exists(), f"the bridge {network.bridge}"),
        (os.geteuid() == 0 and network.has_table(), f"the nftables table {network.table}"),
    )
    return tuple(text for there, text in checks if there)


def _end_orphans(settings: Settings) -> None:
    """No supervisor answers: one that adopts what is left only to end it."""
    if os.geteuid() == 0:
        subprocess.run(
            _supervisor_command("--end"),
            env=_environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
        )


def _await_lock(settings: Settings) -> None:
    """The supervisor has answered; its process is gone when its lock is free."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        lock = try_exclusive(settings.run / "supervisor.lock")
        if lock is not None:
            os.close(lock)
            return
        time.sleep(0.01)


def _start_supervisor(settings: Settings) -> None:
    log = os.open(_log_path(settings), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        subprocess.Popen(
            _supervisor_command(),
            env=_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


def _supervisor_command(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-m", _SUPERVISOR, *arguments]


def _controller_command() -> list[str]:
    return [sys.executable, "-I", "-X", "utf8", "-m", "hakobune.api.app"]


def _controller_argument() -> str:
    return f"{CONTROLLER}={json.dumps(_controller_command())}"


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "HAKO_HOME": str(settings.home),
        "HAKO_LISTEN": _written((settings.host, settings.port)),
        "HAKO_PORTS": f"{settings.first_service_port}-{settings.last_service_port}",
        "HAKO_REGISTRY_LISTEN": _written(settings.registry_listen),
        "HAKO_REGISTRY_DATABASE": settings.registry_database,
        "HAKO_REGISTRY_STORAGE": settings.registry_storage,
    }


def _written(address: tuple[str, int] | None) -> str:
    """An address as its variable says it."""
    if address is None:
        return NOWHERE
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _await_supervisor(settings: Settings, deadline: float) -> None:
    while not _supervisor_answers(settings):
        if time.monotonic() > deadline or _lock_is_free(settings, after_s=5.0, deadline=deadline):
            raise ServeError(
                "the supervisor does not start", why=last_lines(read_lines(_log_path(settings)))
            )
        time.sleep(0.01)


def _lock_is_free(settings: Settings, *, after_s: float, deadline: float) -> bool:
    """Whether the supervisor has had time to take its lock, and nobody holds it: it has failed."""
    if time.monotonic() < deadline - _START_TIMEOUT_S + after_s:
        return False
    lock = try_exclusive(settings.run / "supervisor.lock")
    if lock is None:
        return False
    os.close(lock)
    return True


def _await_api(settings: Settings, deadline: float) -> None:
    with SupervisorClient(settings.supervisor_socket) as client:
        before = client.start_program(CONTROLLER, _controller_command()).restarts
        while not somebody_listens(settings.api_socket):
            program = next(p for p in client.programs() if p.name == CONTROLLER)
            if program.restarts - before >= 3 or time.monotonic() > deadline:
                _refuse_full_disk(settings.home)
                raise why_it_ended(read_lines(Path(program.log_path)))
            time.sleep(0.01)


def _supervisor_answers(settings: Settings) -> bool:
    try:
        with SupervisorClient(settings.supervisor_socket, timeout_s=10.0) as client:
            client.hello()
    except (SupervisorUnavailableError, TimeoutError):
        return False
    return True


def somebody_listens(path: Path) -> bool:
    """Whether somebody listens on the unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _nobody_listens(path: Path) -> bool:
    """Whether certainly nobody does; a socket that this user may not open has somebody behind it."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except OSError:
            return False
    return False


def _prepare_home(settings: Settings) -> None:
    longest = len(os.fsencode(settings.run / "supervisor.sock"))
    if longest > 100:
        raise ServeError(
            f"cannot serve from {settings.home}",
            why="a unix socket's path has at most 107 bytes",
            fix="give a shorter HAKO_HOME",
        )
    try:
        settings.run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(f"cannot make {settings.run}", why=error.strerror or str(error)) from error


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ServeError(
            "cannot start what serves",
            why="containers need root on this machine",
            fix="an administrator runs `sudo hako serve` once; members of the group hakobune use it then",
        )


def _log_path(settings: Settings) -> Path:
    return settings.run / "supervisor.log"


def _refuse_full_disk(home: Path) -> None:
    """What does not start on a full disk cannot even log why."""
    if not has_room(home):
        raise ServeError(
            "the controller does not start",
            why=f"the disk of {home} is full",
            fix=how_to_make_room(home),
        )
