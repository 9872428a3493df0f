"""Answers HAProxy's held requests: one line in (`WORD REVISION ATTEMPT`), a verdict out (`go`, or a status and words)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

BACKLOG = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that HAProxy holds.

    Args:
        revision: full name of the one it is for.
        attempt: how often it has come back because every instance of its backend was lost.
    """

    revision: str
    attempt: int


class HoldServer:
    """Listens on a unix socket; *answer* says what shall become of a held request.

    A connection that HAProxy closes (its client went away) cancels the waiting.
    """

    def __init__(self, path: Path, answer: Callable[[Question], Awaitable[str]]) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take the socket's place at once, so that an old controller's is never missed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(temporary))
        os.chmod(temporary, 0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        os.rename(temporary, self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, backlog=BACKLOG)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = parse_question(await reader.readline())
            if question is not None:
                verdict = await self._until_gone(reader, question)
                if verdict is not None:
                    writer.write(verdict.encode() + b"\n")
                    await writer.drain()
        except (OSError, ValueError):
            logger.warning("held request lost")
        finally:
            writer.close()

    async def _until_gone(self, reader: asyncio.StreamReader, question: Question) -> str | None:
        answer = asyncio.ensure_future(self._answer(question))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else None
        finally:
            for task in (answer, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


def parse_question(line: bytes) -> Question | None:
    """The question in a line; `None` for anything else."""
    match line.decode("utf-8", "replace").split():
        case ["new" | "again", revision, attempt] if attempt.isdecimal():
            return Question(revision, int(attempt))
        case _:
            return None
