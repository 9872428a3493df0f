"""The supervisor, seen from a process that wants containers: blocking calls over its socket.

An asyncio process speaks the same protocol itself with `hakobune.runtime.protocol` over `settings.supervisor_socket`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hakobune.runtime.container import ContainerSpec, ContainerStatus, ListeningSocket
from hakobune.runtime.event import Event
from hakobune.runtime.program_status import ProgramStatus
from hakobune.runtime.protocol import decode_reply, encode_request
from hakobune.runtime.supervisor_connection import Connection, SupervisorUnavailableError

__all__ = ["SupervisorClient", "SupervisorUnavailableError", "decode_reply", "encode_request"]


class SupervisorClient:
    """One connection, made at the first call; for one thread at a time. A context manager.

    Every call raises `ContainerError` with the supervisor's own words when it refuses, and
    `SupervisorUnavailableError` when it is not there (before the call or in the middle of it).
    """

    def __init__(self, socket_path: Path, *, timeout_s: float = 60.0) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    def __enter__(self) -> SupervisorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # containers

    def create(self, spec: ContainerSpec) -> ContainerStatus:
        """Make a container up to the point where only its program has not begun: phase `created`."""
        return ContainerStatus.from_json(self._call("create", spec=spec.to_json()))

    def create_again(self, id: str) -> ContainerStatus:
        """Make a container that has stopped anew, as it was: phase `created`."""
        return ContainerStatus.from_json(self._call("create_again", id=id))

    def execute(self, id: str, process: Mapping[str, Any]) -> None:
        """Run another process in it, described as in the runtime-spec; its output goes to the log."""
        self._call("execute", id=id, process=dict(process))

    def start(self, id: str) -> ContainerStatus:
        """Let a created container's program begin."""
        return ContainerStatus.from_json(self._call("start", id=id))

    def stop(self, id: str, *, timeout_s: float = 10.0) -> ContainerStatus:
        """Send the stop signal, kill after *timeout_s*; returns when nothing of it runs. Idempotent."""
        answer = self._call("stop", wait_s=timeout_s + self._timeout_s, id=id, timeout_s=timeout_s)
        return ContainerStatus.from_json(answer)

    def kill(self, id: str, signal: int) -> None:
        """Send *signal* to the container's first process."""
        self._call("kill", id=id, signal=int(signal))

    def remove(self, id: str, *, force: bool = False) -> None:
        """Forget a stopped container and its folder; *force* kills a running one first. Logs of its own go too."""
        self._call("remove", id=id, force=force)

    def get(self, id: str) -> ContainerStatus:
        return ContainerStatus.from_json(self._call("get", id=id))

    def list(self, labels: Mapping[str, str] | None = None) -> tuple[ContainerStatus, ...]:
        """Every container, oldest first, or those that carry all *labels*."""
        answer = self._call("list", labels=dict(labels or {}))
        return tuple(ContainerStatus.from_json(item) for item in answer)

    def wait(self, id: str, *, timeout_s: float | None = None) -> ContainerStatus:
        """Return when the container has stopped.

        Raises:
            TimeoutError: it still runs after *timeout_s*.
        """
        return ContainerStatus.from_json(self._call("wait", wait_s=timeout_s, forever=True, id=id))

    def keep(self, id: str, *, forgotten_at_end: bool) -> ContainerStatus:
        """Let it run on when its owner leaves it, whatever its specification said; it may still be forgotten at its end."""
        return ContainerStatus.from_json(
            self._call("keep", id=id, forgotten_at_end=forgotten_at_end)
        )

    def freeze(self, id: str) -> ContainerStatus:
        """Take the CPU away until `thaw`; memory stays."""
        return ContainerStatus.from_json(self._call("freeze", id=id))

    def thaw(self, id: str) -> ContainerStatus:
        return ContainerStatus.from_json(self._call("thaw", id=id))

    def sockets(self, id: str) -> tuple[ListeningSocket, ...]:
        """The TCP sockets on which the container listens, with who holds them."""
        return tuple(ListeningSocket(**item) for item in self._call("sockets", id=id))

    # programs

    def start_program(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        listen: Sequence[str] = (),
        lazily: bool = False,
    ) -> ProgramStatus:
        """Run a host program and keep it running: it is started again with back-off when it ends.

        Idempotent for the same command; another command for a running *name* replaces it. *env* is the
        whole environment; `None` is the supervisor's own. The program is given a listening socket for each address
        in *listen* (`127.0.0.1:8080`, `[::1]:8080`, `/path/of/a.sock`), as descriptors from 3 on in that order; they
        stay open while it is started again. *lazily*: it is started when somebody connects to one of them.
        """
        answer = self._call(
            "start_program",
            name=name,
            argv=list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            listen=list(listen),
            lazily=lazily,
        )
        return ProgramStatus.from_json(answer)

    def stop_program(self, name: str, *, timeout_s: float = 10.0) -> None:
        """End a program (SIGTERM, after *timeout_s* SIGKILL) and do not start it again. Idempotent."""
        self._call(
            "stop_program", wait_s=timeout_s + self._timeout_s, name=name, timeout_s=timeout_s
        )

    def programs(self) -> tuple[ProgramStatus, ...]:
        return tuple(ProgramStatus.from_json(item) for item in self._call("programs"))

    # the supervisor itself

    def hello(self) -> dict[str, Any]:
        """`pid`, `version`, `installation`, `bridge` … of the supervisor."""
        answer: dict[str, Any] = self._call("hello")
        return answer

    def upgrade(self) -> None:
        """Replace the supervisor's program by the installed one (`execve`); what it runs goes on."""
        self._call("upgrade")
        self.close()

    def shutdown(self, *, timeout_s: float = 10.0) -> None:
        """End every container and program and the supervisor; returns when it has taken all down."""
        self._call("shutdown", wait_s=timeout_s + self._timeout_s, timeout_s=timeout_s)
        self.close()

    def events(self) -> Iterator[Event]:
        """Everything that happens from now on, on a connection of its own; ends when the supervisor does.

        The subscription stands when this returns: nothing that happens afterwards is missed.
        """
        connection = Connection(self._path, self._timeout_s)
        try:
            connection.call("events", {}, self._timeout_s).result()
        except BaseException:
            connection.close()
            raise
        return _events(connection)

    def _call(
        self, verb: str, *, wait_s: float | None = None, forever: bool = False, **args: Any
    ) -> Any:
        if self._connection is None:
            self._connection = Connection(self._path, self._timeout_s)
        timeout_s = wait_s if wait_s is not None or forever else self._timeout_s
        try:
            return self._connection.call(verb, args, timeout_s).result()
        except (SupervisorUnavailableError, TimeoutError):
            self.close()  # a late answer must not be taken for the next one's
            raise


def _events(connection: Connection) -> Iterator[Event]:
    try:
        while True:
            try:
                message = connection.receive(None)
            except SupervisorUnavailableError:
                return
            if isinstance(message, Event):
                yield message
    finally:
        connection.close()
