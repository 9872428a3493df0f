"""Copies a container's streams to ours, and ours to it, while a helper process reports what happens.

One thread and select(2). Neither direction waits for the other: what the container does not read yet is kept
(a block at most), and its output goes on meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from collections.abc import Callable

from hakobune.errors import HakoError

_BLOCK = 65536


class HungUpError(HakoError):
    """Our terminal has gone."""


class Relay:
    """Copies until the writers of *reports* are gone; *heard* gets each line of it.

    Descriptors may be added from within *heard*; whoever made them closes them, after `copy`.
    """

    def __init__(self, reports: int, heard: Callable[[bytes], None]) -> None:
        self._reports = reports
        self._heard = heard
        self._line = b""
        self._outputs: dict[int, int] = {}
        self._inputs: dict[int, int] = {}
        self._unwritten: dict[int, bytes] = {}
        self._at_end: dict[int, Callable[[], None]] = {}
        self._passing: dict[int, Callable[[bytes], bytes]] = {}

    def add_output(self, source: int, target: int) -> None:
        """From the container to us."""
        self._outputs[source] = target

    def add_input(
        self,
        source: int,
        sink: int,
        *,
        at_end: Callable[[], None],
        passing: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """From us to the container; *at_end* is called once when there is no more, or nobody who reads it.

        Args:
            passing: gives what goes on of what was read; it may `stop` us.
        """
        self._passing[source] = passing
        os.set_blocking(sink, False)
        self._inputs[source] = sink
        self._at_end[source] = at_end

    def stop(self) -> None:
        """End `copy` as if the last report had come; to be called from within it."""
        self._reports = -1

    def copy(self) -> None:
        """Copy until the last report, then what is left in the pipes."""
        while self._reports >= 0:
            reading = [self._reports, *self._outputs]
            reading += [s for s, sink in self._inputs.items() if sink not in self._unwritten]
            ready, writable, _ = select.select(reading, list(self._unwritten), [])
            for sink in writable:
                self._write_on(sink)
            for fd in ready:
                if fd == self._reports:
                    self._hear()
                elif fd in self._outputs:
                    self._copy_out(fd)
                elif fd in self._inputs:
                    self._copy_in(fd)
        for fd in list(self._outputs):
            os.set_blocking(fd, False)
            while fd in self._outputs and self._copy_out(fd):
                pass

    def _hear(self) -> None:
        data = os.read(self._reports, _BLOCK)
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._heard(line)
        if not data:
            self._reports = -1

    def _copy_out(self, source: int) -> bool:
        """Copy a block; says whether there was one."""
        try:
            data = os.read(source, _BLOCK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that no program has open any more
                raise
            data = b""
        if data:
            write_all(self._outputs[source], data)
        else:
            del self._outputs[source]
        return bool(data)

    def _copy_in(self, source: int) -> None:
        try:
            data = os.read(source, _BLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # our terminal was hung up
                raise
            data = b""
        if not data:
            self._end_input(source)
        elif passed := self._passing[source](data):
            self._unwritten[self._inputs[source]] = passed
            self._write_on(self._inputs[source])

    def _write_on(self, sink: int) -> None:
        data = self._unwritten[sink]
        try:
            data = data[os.write(sink, data) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it
            del self._unwritten[sink]
            for source in [s for s, to in self._inputs.items() if to == sink]:
                self._end_input(source)
            return
        if data:
            self._unwritten[sink] = data
        else:
            del self._unwritten[sink]

    def _end_input(self, source: int) -> None:
        del self._inputs[source]
        self._at_end.pop(source)()


def write_all(fd: int, data: bytes) -> None:
    """Write to *fd*; like a shell's pipe, when nobody reads any more the rest is dropped.

    Raises:
        HungUpError: it is a terminal that has gone.
        OSError: the disk is full, or fails.
    """
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:  # somebody made our own output non-blocking
                select.select([], [fd], [])
            except OSError as error:
                if error.errno == errno.EIO and stat.S_ISCHR(os.fstat(fd).st_mode):
                    raise HungUpError("the terminal was hung up") from error
                raise
