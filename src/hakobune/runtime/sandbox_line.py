"""The line from a sandbox's owner to its pid 1: asks for executables, passes their output on, hears how they ended.

`sandbox_init.py` is at the other end and says what the messages are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
import struct
import termios
import time
from collections.abc import Callable, Mapping

from hakobune.runtime.sandbox_error import SandboxError, died
from hakobune.runtime.sandbox_init import READY
from hakobune.runtime.sandbox_setup import FORKS

BUILD_PIDS = 8192


class _Deadline:
    """When an executable has had its time."""

    def __init__(self, timeout_s: float | None) -> None:
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def is_over(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at


class SandboxLine:
    """The owner's end; one executable at a time. Closed until `open`, and after `close`."""

    def __init__(self) -> None:
        self._peer: socket.socket | None = None
        self._number = 0

    def open(self) -> tuple[socket.socket, socket.socket]:
        """The owner's end, which stays the line's, and pid 1's, which the caller closes when it has been handed on."""
        self._peer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return self._peer, theirs

    def close(self) -> None:
        """Idempotent."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def wait_until_ready(self) -> None:
        """Wait for pid 1.

        Raises:
            SandboxError: with the step that the kernel refused.
        """
        answer = self._receive()
        if answer != READY:
            raise SandboxError(
                "cannot set up the build's sandbox",
                why=answer.decode(errors="replace") or "its first process died",
                fix="`hako doctor` tries what it needs",
            )

    def start(self, request: Mapping[str, object], output_fd: int) -> int:
        """Ask for an executable; its number, for `wait`.

        Args:
            output_fd: becomes its stdout and stderr; stays the caller's.
        """
        number = self._number = self._number + 1
        peer = self._connected()
        with FORKS:
            # Reading stdin finds its end at once; /dev/null would be the host's.
            stdin, stdin_writer = os.pipe()
            os.close(stdin_writer)
        memory = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            os.write(memory, json.dumps({"id": number, **request}).encode())
            os.lseek(memory, 0, os.SEEK_SET)
            socket.send_fds(peer, [b"run"], [memory, stdin, output_fd, output_fd])
        except OSError as error:
            raise died(error) from error
        finally:
            os.close(memory)
            os.close(stdin)
        return number

    def wait(
        self, number: int, reader: int, output: Callable[[bytes], None], timeout_s: float | None
    ) -> int:
        """Pass on what comes from *reader* until the executable has ended; its exit code, 128 + N after signal N.

        Raises:
            SandboxError: the sandbox died, or has no room for another process.
            TimeoutError: it ran longer than *timeout_s*; it has been killed.
        """
        clock = _Deadline(timeout_s)
        late = False
        status: int | None = None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(reader, selectors.EVENT_READ)
                selector.register(self._connected(), selectors.EVENT_READ)
                while status is None:
                    ready = {key.fd for key, _ in selector.select(clock.left_s())}
                    # A chatty executable always has something to read: its time is up nevertheless.
                    if clock.is_over():
                        self._kill()
                        clock, late = _Deadline(None), True
                    if reader in ready:
                        data = os.read(reader, 65536)
                        if data:
                            output(data)
                        else:
                            selector.unregister(reader)
                    if self._connected().fileno() in ready:
                        status = self._status(number)
        except BaseException:
            with contextlib.suppress(SandboxError):
                self._kill()
            raise
        _drain(reader, output)
        if late:
            raise TimeoutError(f"it ran longer than {timeout_s} s")
        return status if status >= 0 else 128 - status

    def _kill(self) -> None:
        """End what was started and is waited for."""
        try:
            self._connected().send(b"kill")
        except OSError as error:
            raise died(error) from error

    def _status(self, number: int) -> int | None:
        """How executable *number* ended; `None` if the message is about an earlier one, given up by an exception."""
        answer = self._receive()
        if not answer:
            raise died(None)
        document = json.loads(answer)
        if document["id"] != number:
            return None
        if "error" in document:
            raise SandboxError(
                "the build's sandbox cannot start another process",
                why=f"{document['error']}: what earlier executables left running uses up "
                f"its {BUILD_PIDS} processes or its memory",
            )
        return int(document["status"])

    def _receive(self) -> bytes:
        try:
            return self._connected().recv(4096)
        except ConnectionError:
            return b""

    def _connected(self) -> socket.socket:
        if self._peer is None:
            raise SandboxError("the sandbox's processes have been ended")
        return self._peer


def _drain(reader: int, output: Callable[[bytes], None]) -> None:
    """What is in the pipe now: a background process may hold its other end, and write, for ever."""
    (left,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, struct.pack("i", 0)))
    while left > 0 and (data := os.read(reader, min(left, 65536))):
        left -= len(data)
        output(data)
