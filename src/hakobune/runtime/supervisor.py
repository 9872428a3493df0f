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
from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import hierarchies_of, open_runtime
from hakobune.runtime.dns_forwarder import start_forwarder
from hakobune.runtime.event import Event
from hakobune.runtime.inheritance import (
    enter_own_mounts,
    hand_over,
    kept_sockets,
    open_listener,
    read_inheritance,
    take_lock,
)
from hakobune.runtime.loop import Loop
from hakobune.runtime.network import Membership, Network
from hakobune.runtime.pool import BerthPool
from hakobune.runtime.programs import Programs
from hakobune.runtime.protocol import VERSION
from hakobune.runtime.roster import Roster
from hakobune.runtime.seccomp import compiled_filter
from hakobune.runtime.server import Call, Server
from hakobune.runtime.supervisor_verbs import Verbs
from hakobune.settings import Settings

NETWORK_CHECK_S = 30.0
_MODULE = "hakobune.runtime.supervisor"


class Supervisor:
    """One supervisor. Make it in a process of its own, then `run` it."""

    def __init__(self, settings: Settings, *, inherited: Mapping[str, int]) -> None:
        self._settings = settings
        settings.run.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(settings, inherited)
        self._started_at = time.time()
        self._host_mounts = enter_own_mounts(inherited)
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
            kept=kept_sockets(inherited),
        )
        self._verbs = Verbs(self._roster, self._programs)
        self._server: Server | None = None
        self._own_verbs = {
            "hello": self._hello,
            "events": self._subscribe,
            "upgrade": self._upgrade,
            "shutdown": self._shutdown,
        }
        self._ending: list[Call] | None = None
        self._listener = open_listener(settings, inherited)

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
        verb = self._own_verbs.get(call.request.verb) or self._verbs.find(call.request.verb)
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
            verb(call, dict(call.request.args))
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
        hand_over(
            _MODULE,
            listener=self._listener.fileno(),
            lock=self._lock,
            host_mounts=self._host_mounts,
            sockets=self._programs.listeners(),
        )


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
        supervisor = Supervisor(settings, inherited=read_inheritance())
        supervisor.run({name: json.loads(words) for name, words in programs.items()}, ending=ending)
    except HakoError as error:
        _log(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
