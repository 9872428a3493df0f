"""A connection to the supervisor: lines out, lines in, and the error when nobody is at the other end."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hakobune.errors import HakoError
from hakobune.runtime.event import Event
from hakobune.runtime.protocol import Reply, decode_reply, encode_request


class SupervisorUnavailableError(HakoError):
    """Nobody answers on the supervisor's socket."""


class Connection:
    """A connection to the supervisor's socket, for one thread at a time; requests may overlap.

    Every call raises `SupervisorUnavailableError` when nobody is there, or no more.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._buffer = bytearray()
        self._ids = itertools.count(1)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise SupervisorUnavailableError(
                "cannot reach the supervisor",
                why=f"{path}: {error.strerror or error}",
                fix="start it with `hako serve`",
            ) from error

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(self, verb: str, args: Mapping[str, Any]) -> int:
        """Send a request; the id that its reply will have."""
        id = next(self._ids)
        try:
            self._socket.sendall(encode_request(id, verb, args))
        except TimeoutError:
            raise
        except OSError as error:
            raise _lost(error) from error
        return id

    def call(self, verb: str, args: Mapping[str, Any], timeout_s: float | None) -> Reply:
        """Send a request and wait for its reply.

        Raises:
            TimeoutError: it does not come in time.
        """
        id = self.ask(verb, args)
        while True:
            message = self.receive(timeout_s)
            if isinstance(message, Reply) and message.id == id:
                return message

    def receive(self, timeout_s: float | None) -> Reply | Event:
        """The next message.

        Raises:
            TimeoutError: none comes in time.
        """
        self._socket.settimeout(timeout_s)
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as error:
                raise _lost(error) from error
            if not data:
                raise _lost(None)
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return decode_reply(line)


def _lost(error: OSError | None) -> SupervisorUnavailableError:
    return SupervisorUnavailableError(
        "the supervisor ended in the middle of a call",
        why=str(error) if error else "it closed the connection",
        fix="start it with `hako serve`; what it ran goes on and is found again",
    )
