"""`RUN --mount=type=ssh`: an ssh agent, lent to one command.

The command gets a socket of its own, since an agent answers nobody but its user. It may list keys and have something signed;
what would change the agent (add, remove, lock, extensions) is answered with a failure, as BuildKit does
(draft-miller-ssh-agent section 5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Final, Protocol

SOCKET: Final = "agent"
REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE: Final = b"\5"
_ALLOWED: Final = frozenset({REQUEST_IDENTITIES, SIGN_REQUEST})
_LENGTH: Final = struct.Struct(">I")
# What OpenSSH's agent takes as the longest message.
_LONGEST: Final = 256 * 1024


class Agent(Protocol):
    """Who answers."""

    def connect(self) -> AbstractContextManager[Callable[[bytes], bytes | None]]:
        """A conversation: each message gets its answer, both without their length; `None`: the agent has ended it.

        Raises:
            OSError: there is no agent any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class SocketAgent:
    """The agent behind a socket."""

    path: Path

    @contextmanager
    def connect(self) -> Iterator[Callable[[bytes], bytes | None]]:
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(self.path))

            def ask(message: bytes) -> bytes | None:
                upstream.sendall(_LENGTH.pack(len(message)) + message)
                return _read_message(upstream)

            yield ask


def may_pass(message: bytes) -> bool:
    """Whether a request only asks (pure); *message* is without its length."""
    return bool(message) and message[0] in _ALLOWED


@contextmanager
def lent_agent(agent: Agent, folder: Path, *, owner: tuple[int, int], mode: int) -> Iterator[None]:
    """A socket `agent` in the new folder *folder* that asks *agent*, while the block lasts.

    Args:
        owner: who may connect, with *mode*.
    """
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as undo:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, directory)
        listener = undo.enter_context(socket.socket(socket.AF_UNIX))
        # By the descriptor: the path to a step's folder is longer than a socket's may be.
        listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
        os.chmod(SOCKET, mode, dir_fd=directory)
        os.chown(SOCKET, *owner, dir_fd=directory)
        os.chown(folder, *owner)
        listener.listen(16)
        thread = Thread(target=_accept, args=(listener, agent), name="ssh agent", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends accept
            thread.join()


def _accept(listener: socket.socket, agent: Agent) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        Thread(target=_serve, args=(client, agent), name="ssh agent client", daemon=True).start()


def _serve(client: socket.socket, agent: Agent) -> None:
    """One connection, until either side ends it."""
    with client, contextlib.suppress(OSError), agent.connect() as ask:
        while (message := _read_message(client)) is not None:
            answer = ask(message) if may_pass(message) else FAILURE
            if answer is None:
                return
            client.sendall(_LENGTH.pack(len(answer)) + answer)


def _read_message(stream: socket.socket) -> bytes | None:
    """The next message; `None` at the end, or if it cannot be one."""
    head = _read_exactly(stream, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    return _read_exactly(stream, length) if 0 < length <= _LONGEST else None


def _read_exactly(stream: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
