"""The supervisor as the controller's loop speaks to it: overlapping calls and events on one connection.

The protocol is `hakobune.runtime.protocol`; the connection comes back by itself when the supervisor restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hakobune.runtime.container import ContainerSpec, ContainerStatus, ListeningSocket
from hakobune.runtime.event import Event
from hakobune.runtime.program_status import ProgramStatus
from hakobune.runtime.protocol import MAX_LINE_BYTES, Reply, decode_reply, encode_request
from hakobune.runtime.supervisor_client import SupervisorUnavailableError

RECONNECT_S = 0.1

logger = logging.getLogger(__name__)


class SupervisorLink:
    """One connection for the life of the controller.

    Args:
        on_event: called in the loop for each event.
        on_connect: called in the loop after each connection: what happened meanwhile must be looked up.
    """

    def __init__(
        self,
        socket_path: Path,
        *,
        on_event: Callable[[Event], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._path = socket_path
        self._on_event = on_event
        self._on_connect = on_connect
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Connect.

        Raises:
            SupervisorUnavailableError: nobody answers within *timeout_s*.
        """
        self._task = asyncio.create_task(self._stay_connected())
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError as error:
            raise SupervisorUnavailableError(
                "cannot reach the supervisor",
                why=f"nobody answers on {self._path}",
                fix="hako serve",
            ) from error

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def create(self, spec: ContainerSpec) -> ContainerStatus:
        """As `SupervisorClient.create`; the others likewise."""
        return ContainerStatus.from_json(await self._call("create", spec=spec.to_json()))

    async def start_container(self, id: str) -> ContainerStatus:
        return ContainerStatus.from_json(await self._call("start", id=id))

    async def stop_container(self, id: str, *, timeout_s: float = 10.0) -> ContainerStatus:
        return ContainerStatus.from_json(await self._call("stop", id=id, timeout_s=timeout_s))

    async def remove(self, id: str, *, force: bool = False) -> None:
        await self._call("remove", id=id, force=force)

    async def list(self, labels: Mapping[str, str]) -> tuple[ContainerStatus, ...]:
        answer = await self._call("list", labels=dict(labels))
        return tuple(ContainerStatus.from_json(item) for item in answer)

    async def freeze(self, id: str) -> None:
        await self._call("freeze", id=id)

    async def thaw(self, id: str) -> None:
        await self._call("thaw", id=id)

    async def sockets(self, id: str) -> tuple[ListeningSocket, ...]:
        return tuple(ListeningSocket(**item) for item in await self._call("sockets", id=id))

    async def start_program(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        listen: Sequence[str],
        lazily: bool = False,
    ) -> ProgramStatus:
        answer = await self._call(
            "start_program",
            name=name,
            argv=list(argv),
            env=None if env is None else dict(env),
            cwd="/",
            listen=list(listen),
            lazily=lazily,
        )
        return ProgramStatus.from_json(answer)

    async def programs(self) -> tuple[ProgramStatus, ...]:
        return tuple(ProgramStatus.from_json(item) for item in await self._call("programs"))

    async def _call(self, verb: str, **args: Any) -> Any:
        await self._connected.wait()
        assert self._writer is not None  # set before `_connected` is
        id = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[id] = answer
        self._writer.write(encode_request(id, verb, args))
        try:
            return await answer
        finally:
            self._waiting.pop(id, None)

    async def _stay_connected(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    self._path, limit=MAX_LINE_BYTES
                )
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            try:
                writer.write(encode_request(0, "events", {}))
                self._writer = writer
                self._connected.set()
                self._on_connect()
                await self._read(reader)
            except OSError:
                pass  # killed with something unread: the connection is reset, not closed
            finally:
                self._connected.clear()
                self._forget_calls()
                writer.close()
            logger.warning("supervisor went away")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            match decode_reply(line):
                case Event() as event:
                    self._on_event(event)
                case Reply() as reply:
                    answer = self._waiting.get(reply.id)
                    if answer is not None and not answer.done():
                        if reply.error is not None:
                            answer.set_exception(reply.error)
                        else:
                            answer.set_result(reply.value)

    def _forget_calls(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(
                    SupervisorUnavailableError("the supervisor ended in the middle of a call")
                )
