"""`RUN --mount=type=ssh`: the caller's ssh agent, lent to one command.

The command gets a socket of its own, since an agent answers nobody but its user. It may list keys and have something signed;
what would change the agent (add, remove, lock, extensions) is answered with a failure, as BuildKit does
(draft-miller-ssh-agent section 5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final

SOCKET: Final = "agent"
_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_ALLOWED: Final = frozenset({_REQUEST_IDENTITIES, _SIGN_REQUEST})
_FAILURE: Final = struct.pack(">IB", 1, 5)
_LENGTH: Final = struct.Struct(">I")
# What OpenSSH's agent takes as the longest message.
_LONGEST: Final = 256 * 1024


def may_pass(message: bytes) -> bool:
    """Whether a request only asks (pure); *message* is without its length."""
    return bool(message) and message[0] in _ALLOWED


@contextmanager
def lent_agent(agent: Path, folder: Path, *, owner: tuple[int, int], mode: int) -> Iterator[None]:
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


def _accept(listener: socket.socket, agent: Path) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        Thread(target=_serve, args=(client, agent), name="ssh agent client", daemon=True).start()


def _serve(client: socket.socket, agent: Path) -> None:
    """One connection, until either side ends it."""
    with client, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as upstream:
        upstream.connect(str(agent))
        while (message := _read_message(client)) is not None:
            if not may_pass(message):
                client.sendall(_FAILURE)
                continue
            upstream.sendall(_LENGTH.pack(len(message)) + message)
            answer = _read_message(upstream)
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
