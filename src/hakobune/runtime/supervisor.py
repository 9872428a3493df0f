"""`hako serve`: the process that owns every container and program which outlives a command.

Standard library only. It has a mount namespace with the cgroup view that crun accepts, is the subreaper of what it
starts, and keeps nothing in memory that is not also in `containers/ID/` or `run/`: one that was killed with -9 is
followed by another that adopts what lives. SIGTERM ends everything that was started; `upgrade` replaces the
program by `execve` and keeps pid, children, socket and lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hakobune.errors import HakoError
from hakobune.runtime import linux
from hakobune.runtime.cgroup_mounts import favour_changes
from hakobune.runtime.cgroups import Cgroups, enter_clean_view
from hakobune.runtime.container import (
    ContainerError,
    ContainerSpec,
    ContainerStatus,
    Event,
)
from hakobune.runtime.crun import hierarchies_of, open_runtime
from hakobune.runtime.dns_forwarder import start_forwarder
from hakobune.runtime.loop import Loop
from hakobune.runtime.network import Membership, Network
from hakobune.runtime.pool import BerthPool
from hakobune.runtime.programs import Programs
from hakobune.runtime.protocol import VERSION
from hakobune.runtime.roster import Roster
from hakobune.runtime.seccomp import compiled_filter
from hakobune.runtime.server import Call, Server, listen
from hakobune.settings import Settings
from hakobune.support.locks import try_exclusive

NETWORK_CHECK_S = 30.0
_MS_SLAVE = 1 << 19
_MODULE = "hakobune.runtime.supervisor"
_INHERITED = "HAKO_SUPERVISOR_INHERITED"
_SOCKET = "socket of "


class AlreadyRunningError(HakoError):
    """Another supervisor serves this `HAKO_HOME`."""


class Supervisor:
    """One supervisor. Make it in a process of its own, then `run` it."""

    def __init__(self, settings: Settings, *, inherited: Mapping[str, int]) -> None:
        self._settings = settings
        settings.run.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(settings, inherited)
        self._started_at = time.time()
        self._host_mounts = _enter_own_mounts(inherited)
        self._loop = Loop()
        self._cgroups = Cgroups.open(settings.installation, also=hierarchies_of(settings.runtime))
        if "host_mounts" not in inherited:
            favour_changes()
            enter_clean_view(self._cgroups)
        self._network = Network(settings.installation, settings.run)
        self._membership: Membership = self._network.join()
        self._forwarder: subprocess.Popen[bytes] | None = None
        self._pool = BerthPool(settings.installation, self._network)
        self._roster = Roster(
            self._loop,
            settings.home,
            crun=open_runtime(settings.runtime, settings.run / settings.runtime),
            cgroups=self._cgroups,
            pool=self._pool,
            seccomp=compiled_filter(os.uname().machine),
            resolv_conf=self._resolv_conf,
            tell=self._tell,
        )
        self._programs = Programs(
            self._loop,
            settings.run / "programs",
            self._cgroups,
            host_mounts=self._host_mounts,
            tell=self._tell,
            kept=_kept_sockets(inherited),
        )
        self._server: Server | None = None
        self._ending: list[Call] | None = None
        self._network_check: int | None = None
        self._listener = _listener(settings, inherited)

    def run(self, programs: Mapping[str, Sequence[str]], *, ending: bool = False) -> None:
        """Adopt, start *programs*, serve until told to end; *ending* is told so from the beginning."""
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        self._loop.on_termination(lambda: self._shut_down(10.0, None))
        self._roster.adopt()
        self._programs.adopt(restart=not ending)
        for name, argv in programs.items():
            self._programs.start(name, tuple(argv), None, "/")
        self._server = Server(self._loop, self._listener, self._handle)
        self._roster.wants_berths()
        self._loop.after(NETWORK_CHECK_S, self._check_network)
        if ending:
            self._shut_down(10.0, None)
        self._loop.run()

    # verbs

    def _handle(self, call: Call) -> None:
        verb = _VERBS.get(call.request.verb)
        if verb is None:
            raise ContainerError(
                f"the supervisor knows no verb {call.request.verb!r}", kind="invalid"
            )
        if self._ending is not None and call.request.verb not in ("hello", "list", "programs"):
            if call.request.verb == "shutdown":
                self._ending.append(call)
                return
            raise ContainerError("the supervisor is ending", kind="phase")
        try:
            verb(self, call, dict(call.request.args))
        except (KeyError, TypeError, ValueError) as error:
            raise ContainerError(
                f"cannot understand the request {call.request.verb!r}",
                why=f"{type(error).__name__}: {error}",
                kind="invalid",
            ) from error
        except OSError as error:
            raise ContainerError(
                f"cannot {call.request.verb.replace('_', ' ')}",
                why=error.strerror or str(error),
            ) from error

    def _hello(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(
            {
                "version": VERSION,
                "pid": os.getpid(),
                "installation": self._settings.installation,
                "home": str(self._settings.home),
                "runtime": self._settings.runtime,
                "bridge": self._network.bridge,
                "subnet": str(self._network.subnet),
                "gateway": str(self._network.gateway),
                "started_at": self._started_at,
                "ready_berths": self._pool.ready,
            }
        )

    def _create(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.create(ContainerSpec.from_json(args["spec"]), _answerer(call))

    def _create_again(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.create_again(args["id"], _answerer(call))

    def _execute(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.execute(args["id"], args["process"], _answerer(call))

    def _start(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.start(args["id"]).to_json())

    def _stop(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.stop(args["id"], float(args.get("timeout_s", 10.0)), _answerer(call))

    def _kill(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.kill(args["id"], int(args["signal"]))
        call.answer(None)

    def _remove(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.remove(
            args["id"], force=bool(args.get("force", False)), answer=_answerer(call, value=False)
        )

    def _get(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.get(args["id"]).to_json())

    def _list(self, call: Call, args: dict[str, Any]) -> None:
        call.answer([s.to_json() for s in self._roster.list(args.get("labels", {}))])

    def _wait(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.wait(args["id"], _answerer(call))

    def _keep(self, call: Call, args: dict[str, Any]) -> None:
        status = self._roster.keep(args["id"], forgotten_at_end=bool(args["forgotten_at_end"]))
        call.answer(status.to_json())

    def _freeze(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.freeze(args["id"]).to_json())

    def _thaw(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.thaw(args["id"]).to_json())

    def _sockets(self, call: Call, args: dict[str, Any]) -> None:
        call.answer([s.to_json() for s in self._roster.sockets(args["id"])])

    def _start_program(self, call: Call, args: dict[str, Any]) -> None:
        status = self._programs.start(
            args["name"],
            tuple(args["argv"]),
            args.get("env"),
            args.get("cwd", "/"),
            tuple(args.get("listen", ())),
            lazily=bool(args.get("lazily", False)),
        )
        call.answer(status.to_json())

    def _stop_program(self, call: Call, args: dict[str, Any]) -> None:
        self._programs.stop(
            args["name"], float(args.get("timeout_s", 10.0)), lambda: call.answer(None)
        )

    def _list_programs(self, call: Call, args: dict[str, Any]) -> None:
        call.answer([status.to_json() for status in self._programs.statuses()])

    def _subscribe(self, call: Call, args: dict[str, Any]) -> None:
        call.connection.subscribed = True
        call.answer(None)

    def _upgrade(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(None)
        self._loop.soon(self._replace_itself)

    def _shutdown(self, call: Call, args: dict[str, Any]) -> None:
        self._shut_down(float(args.get("timeout_s", 10.0)), call)

    # events, network

    def _tell(self, event: Event) -> None:
        if self._server is not None:
            self._server.publish(event)

    def _resolv_conf(self) -> str:
        resolv_conf = self._network.resolv_conf()
        if resolv_conf.needs_forwarder and (
            self._forwarder is None or not Path(f"/proc/{self._forwarder.pid}/exe").exists()
        ):
            self._forwarder = start_forwarder(str(self._network.gateway))
        return resolv_conf.text

    def _check_network(self) -> None:
        """Put back what a firewall's reload or docker's start took away, in a child: nft takes its time."""
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                self._network.ensure()
            except Exception as error:  # the outermost line of a child: it must not return
                _log(f"the network could not be checked: {error}")
            finally:
                os._exit(0)
        self._loop.on_child_end(pid, self._network_checked)

    def _network_checked(self, status: int) -> None:
        self._loop.after(NETWORK_CHECK_S, self._check_network)

    # the end

    def _shut_down(self, timeout_s: float, call: Call | None) -> None:
        """End programs, then containers, then what belongs to all of them."""
        if self._ending is not None:
            return
        self._ending = [] if call is None else [call]
        names = [status.name for status in self._programs.statuses()]
        self._all(
            names,
            lambda name, done: self._programs.stop(name, timeout_s, done),
            lambda: self._stop_containers(timeout_s),
        )

    def _stop_containers(self, timeout_s: float) -> None:
        def stop(id: str, done: Callable[[], None]) -> None:
            self._roster.stop(id, timeout_s, lambda _: done())

        if self._roster.is_creating:
            self._loop.after(0.02, lambda: self._stop_containers(timeout_s))
            return
        self._all(self._roster.living, stop, self._take_down)

    def _all(
        self,
        names: Sequence[str],
        begin: Callable[[str, Callable[[], None]], None],
        then: Callable[[], None],
    ) -> None:
        """Begin something for every name; go on when all are done."""
        left = set(names)

        def done(name: str) -> None:
            left.discard(name)
            if not left:
                self._loop.soon(then)

        if not left:
            self._loop.soon(then)
        for name in names:
            begin(name, lambda name=name: done(name))  # type: ignore[misc] # mypy sees no default's type

    def _take_down(self) -> None:
        self._pool.drain()
        if self._forwarder is not None and self._forwarder.stdin is not None:
            self._forwarder.stdin.close()
        self._membership.leave()
        self._await_groups(time.monotonic() + 5.0)

    def _await_groups(self, deadline: float) -> None:
        """Groups can be removed when the last process has been reaped, which takes a moment."""
        if self._cgroups.remove_all() or time.monotonic() > deadline:
            self._end()
        else:
            self._loop.after(0.02, lambda: self._await_groups(deadline))

    def _end(self) -> None:
        shutil.rmtree(self._settings.run / "programs", ignore_errors=True)
        self._settings.supervisor_socket.unlink(missing_ok=True)
        assert self._server is not None
        self._server.stop_listening()
        for call in self._ending or ():
            call.answer(None)
        self._server.close()
        self._loop.stop()

    def _replace_itself(self) -> None:
        """Become the installed program: same pid, so every child stays ours; the socket keeps its queue."""
        self._roster.pause_output()
        assert self._server is not None
        self._server.close()
        kept = {
            "listener": self._listener.fileno(),
            "lock": self._lock,
            "host_mounts": self._host_mounts,
        }
        for name, sockets in self._programs.listeners().items():
            kept |= {f"{_SOCKET}{name} {address}": fd for address, fd in sockets.items()}
        for fd in kept.values():
            os.set_inheritable(fd, True)
        env = {**os.environ, _INHERITED: json.dumps(kept)}
        os.execve(sys.executable, [sys.executable, "-I", "-m", _MODULE], env)


_Verb = Callable[[Supervisor, Call, dict[str, Any]], None]
_VERBS: dict[str, _Verb] = {
    "hello": Supervisor._hello,
    "create": Supervisor._create,
    "create_again": Supervisor._create_again,
    "execute": Supervisor._execute,
    "start": Supervisor._start,
    "stop": Supervisor._stop,
    "kill": Supervisor._kill,
    "remove": Supervisor._remove,
    "get": Supervisor._get,
    "list": Supervisor._list,
    "wait": Supervisor._wait,
    "keep": Supervisor._keep,
    "freeze": Supervisor._freeze,
    "thaw": Supervisor._thaw,
    "sockets": Supervisor._sockets,
    "start_program": Supervisor._start_program,
    "stop_program": Supervisor._stop_program,
    "programs": Supervisor._list_programs,
    "events": Supervisor._subscribe,
    "upgrade": Supervisor._upgrade,
    "shutdown": Supervisor._shutdown,
}


def _answerer(
    call: Call, *, value: bool = True
) -> Callable[[ContainerStatus | ContainerError], None]:
    def answer(result: ContainerStatus | ContainerError) -> None:
        if isinstance(result, ContainerError):
            call.fail(result)
        else:
            call.answer(result.to_json() if value else None)

    return answer


def _take_lock(settings: Settings, inherited: Mapping[str, int]) -> int:
    if "lock" in inherited:
        return inherited["lock"]
    lock = try_exclusive(settings.run / "supervisor.lock")
    if lock is None:
        raise AlreadyRunningError(
            f"a supervisor already serves {settings.home}", fix="run `hako serve --stop` first"
        )
    return lock


def _enter_own_mounts(inherited: Mapping[str, int]) -> int:
    """A mount namespace of our own that still follows the host's; the descriptor leads back to the host's."""
    if "host_mounts" in inherited:
        return inherited["host_mounts"]
    host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | _MS_SLAVE)
    return host


def _listener(settings: Settings, inherited: Mapping[str, int]) -> socket.socket:
    if "listener" in inherited:
        return socket.socket(fileno=inherited["listener"])
    return listen(settings.supervisor_socket)


def _kept_sockets(inherited: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The programs' listening sockets that an upgrade left us."""
    kept: dict[str, dict[str, int]] = {}
    for what, fd in inherited.items():
        if what.startswith(_SOCKET):
            name, address = what.removeprefix(_SOCKET).split(" ", 1)
            kept.setdefault(name, {})[address] = fd
    return kept


def _inherited() -> dict[str, int]:
    """What an upgrade left us, made private again."""
    kept: dict[str, int] = json.loads(os.environ.pop(_INHERITED, "{}"))
    for fd in kept.values():
        os.set_inheritable(fd, False)
    return kept


def _log(message: str) -> None:
    line = {"time": time.time(), "message": message}
    with contextlib.suppress(OSError):
        os.write(2, json.dumps(line).encode() + b"\n")


def main(argv: Sequence[str]) -> int:
    """Run a supervisor here.

    *argv* is `NAME=JSON-ARGV` for each program to start with, or `--end`: adopt what a dead supervisor left and end it.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o022)
    os.chdir("/")
    settings = Settings.from_environment(os.environ, uid=os.getuid())
    ending = list(argv) == ["--end"]
    programs = {} if ending else dict(item.split("=", 1) for item in argv)
    try:
        supervisor = Supervisor(settings, inherited=_inherited())
        supervisor.run({name: json.loads(words) for name, words in programs.items()}, ending=ending)
    except HakoError as error:
        _log(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
