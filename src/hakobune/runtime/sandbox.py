"""A process tree and its files that die with their owner: where buildpacks and Dockerfile steps run.

No crun: the first executable starts after about 8 ms, each further one after 2. Root inside is an id of its
own on the host, sees only its own processes and network, and has a system call filter; killing the owner, in
any way and at any moment, leaves no process, no mount and a top that can be read or thrown away.

The owner reads and writes files through the detached mount of the same overlay, never outside of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import posixpath
import selectors
import shutil
import signal
import socket
import stat
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import NoReturn

from hakobune.errors import HakoError
from hakobune.runtime import linux, mount
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.mount import RootFs
from hakobune.runtime.sandbox_init import (
    BUILDPACK_POWERS,
    READY,
    GivenFile,
    GivenMount,
    Plan,
    Powers,
    be_init,
    forget_signals,
)
from hakobune.runtime.seccomp import MACHINES, compiled_filter
from hakobune.runtime.slot import Slot

# A sandbox made in one thread must not inherit the end of a pipe that another thread is about to close.
_FORKS = Lock()

BUILD_PIDS = 8192
_LINKS = 40  # as many as the kernel follows (path_resolution(7))
LARGEST_FILE_BYTES = 64 << 20
_OOM_SCORE = 700  # a build dies before a service does
_END = (
    signal.SIGUSR1
)  # to the setup process: from `kill_processes`, or from the kernel when the owner is gone
_OUT_OF_MEMORY = b"hakobune: out of memory: the kernel killed a process of this build\n"
_INSIDE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS


class SandboxError(HakoError):
    """The sandbox cannot be made, or has died."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory of the sandbox; a link to a directory is not one."""

    name: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class _Stub:
    """A place made for a mount, with the times that its folder had before and after."""

    path: str
    is_directory: bool
    before_ns: int
    after_ns: int


class _Deadline:
    """When an executable has had its time."""

    def __init__(self, timeout_s: float | None) -> None:
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def is_over(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at


class Sandbox:
    """One sandbox. Use it from the thread that made it; close it, or end.

    Ids given and seen are those inside; on disk lie the same.
    """

    def __init__(
        self,
        rootfs: RootFs,
        *,
        slot: Slot,
        hostname: str = "build",
        cgroup: Cgroup | None = None,
        powers: Powers = BUILDPACK_POWERS,
        mounts: Sequence[GivenMount] = (),
        files: Sequence[GivenFile] = (),
        at_start: Callable[[], None] = lambda: None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Mount the root file system and start pid 1.

        Args:
            mounts, files: what is shown inside beside the root file system; nothing of it remains in the top once
                `remove_stubs` has been called.
            cgroup: where everything inside lives; removed with the last of it, also when the owner is killed.
            at_start: called before anything runs, in the process that will remove the cgroup: made there, it cannot
                be left behind.
            at_end: called when everything that ran inside has been ended.

        Raises:
            SandboxError: with the step that the kernel refused.
        """
        self._base = slot.base
        self._at_end = at_end
        self._number = 0
        self._setup_pid = 0
        self._peer: socket.socket | None = None
        self._cgroup = cgroup
        self._stubs: list[_Stub] = []
        try:
            self._view = mount.overlay(rootfs, slot)
        except OSError as error:
            raise SandboxError(
                "cannot mount the build's root file system", why=error.strerror or str(error)
            ) from error
        try:
            self._make_stubs(mounts, files)
            self._start(slot, hostname, cgroup, powers, mounts, files, at_start)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        uid: int,
        gid: int,
        output: Callable[[bytes], None],
        timeout_s: float | None = None,
        groups: Sequence[int] = (),
    ) -> int:
        """Run an executable with exactly *env* and wait; its exit code, 128 + N after signal N, 127 if it is missing.

        A name without a slash is looked for in the `PATH` of *env*.

        *output* receives stdout and stderr together, as they come, and a last line if the kernel killed something
        because the memory limit was reached. What the executable leaves running in the background lives until
        `kill_processes`, but its output goes nowhere. If *output* raises, the executable is killed.

        Raises:
            SandboxError: the sandbox died meanwhile, or has no room for another process.
            TimeoutError: it ran longer than *timeout_s*; it has been killed.
        """
        number = self._number = self._number + 1
        request = {
            "id": number,
            "argv": list(argv),
            "env": dict(env),
            "cwd": cwd,
            "uid": uid,
            "gid": gid,
            "groups": list(groups),
        }
        reader, writer = os.pipe()
        try:
            kills = self._oom_kills()
            os.fchown(
                writer, self._base + uid, self._base + gid
            )  # to open /dev/stderr, as scripts do
            self._send(json.dumps(request).encode(), writer)
            os.close(writer)
            writer = -1
            code = self._wait(number, reader, output, timeout_s)
            if self._oom_kills() > kills:
                output(_OUT_OF_MEMORY)
            return code
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)

    def read_file(self, path: str) -> bytes | None:
        """A regular file's contents; `None` if there is none at *path*.

        Raises:
            SandboxError: it is larger than any document that buildpacks write; memory is not theirs to fill.
        """
        try:
            fd = self._open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise
        with self._closing(fd):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            if status.st_size > LARGEST_FILE_BYTES:
                raise SandboxError(
                    f"{path} is too large to be read", why=f"it has {status.st_size} bytes"
                )
            with open(fd, "rb", closefd=False) as file:
                return file.read(LARGEST_FILE_BYTES)

    def write_file(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        """Put a file at *path*, in a directory that exists; what was there is replaced, not followed."""
        parent, name = self._open_parent(path)
        with self._closing(parent), self._as(uid, gid):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)

    def make_directory(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Make a directory and its missing parents; one that is there stays as it is."""
        made = ""
        for part in path.strip("/").split("/"):
            parent = self._open(made or "/", os.O_PATH | os.O_DIRECTORY)
            with self._closing(parent), self._as(uid, gid):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=parent)
                    # By descriptor: whoever puts a link here meanwhile must not choose whose mode changes.
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    directory = os.open(part, flags, dir_fd=parent)
                    with self._closing(directory):
                        os.fchmod(directory, mode)
            made = f"{made}/{part}"
        os.close(self._open(made, os.O_PATH | os.O_DIRECTORY))  # a file in its place is an error

    def list_directory(self, path: str) -> tuple[Entry, ...] | None:
        """What is in a directory, sorted by name; `None` if there is no directory at *path*."""
        try:
            fd = self.open_directory(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        with self._closing(fd), os.scandir(fd) as entries:
            found = [Entry(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        return tuple(sorted(found, key=lambda entry: entry.name))

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all that is in it; nothing there is fine."""
        try:
            parent, name = self._open_parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        with self._closing(parent), self._as(0, 0):
            try:
                mode = os.lstat(name, dir_fd=parent).st_mode
            except FileNotFoundError:
                return
            if stat.S_ISDIR(mode):
                shutil.rmtree(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)

    def rename(self, old: str, new: str) -> None:
        """Rename within the sandbox; what was at *new* is gone.

        Raises:
            FileNotFoundError: nothing is at *old*; *new* is as it was.
        """
        if old.rstrip("/") == new.rstrip("/"):
            return
        old_parent, old_name = self._open_parent(old)
        with self._closing(old_parent):
            os.lstat(old_name, dir_fd=old_parent)
            self.remove(new)
            new_parent, new_name = self._open_parent(new)
            with self._closing(new_parent), self._as(0, 0):
                os.rename(old_name, new_name, src_dir_fd=old_parent, dst_dir_fd=new_parent)

    def open_directory(self, path: str) -> int:
        """A descriptor of a directory, good until `close`, also after `kill_processes`; the caller closes it."""
        return self._open(path, os.O_RDONLY | os.O_DIRECTORY)

    def interrupt(self) -> None:
        """End everything inside; for another thread than the one that waits in `run`, which gets a `SandboxError`."""
        with contextlib.suppress(ProcessLookupError):
            if pid := self._setup_pid:
                os.kill(pid, _END)

    def kill_processes(self) -> None:
        """End everything that runs inside. Files can be read and written until `close`. Idempotent."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        if self._setup_pid:
            # The setup process ends pid 1, whose end is the end of everything in its namespace, and waits for it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._setup_pid, _END)
            os.waitpid(self._setup_pid, 0)
            self._setup_pid = 0
            self._at_end()

    def close(self) -> None:
        """End everything and give the mount up. Idempotent."""
        self.kill_processes()
        if self._view >= 0:
            os.close(self._view)
            self._view = -1

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def remove_stubs(self) -> None:
        """After `kill_processes`: take away the empty places that were made for mounts and files."""
        for stub in reversed(self._stubs):
            with contextlib.suppress(
                OSError
            ):  # it is in use by now: a file with content, a folder with files
                parent, name = self._open_parent(stub.path)
                with self._closing(parent), self._as(0, 0):
                    found_ns = os.stat(f"/proc/self/fd/{parent}").st_mtime_ns
                    if stub.is_directory:
                        os.rmdir(name, dir_fd=parent)
                    elif not os.lstat(name, dir_fd=parent).st_size:
                        os.unlink(name, dir_fd=parent)
                    was_ns = stub.before_ns if found_ns == stub.after_ns else found_ns
                    os.utime(f"/proc/self/fd/{parent}", ns=(was_ns, was_ns))
        self._stubs.clear()

    def _make_stubs(self, mounts: Sequence[GivenMount], files: Sequence[GivenFile]) -> None:
        for name in ("/proc", "/sys", "/dev"):
            self._make_stub(name, is_directory=True)
        for given in mounts:
            self._make_stub(given.target, is_directory=_shows_directory(given))
        for file in files:
            self._make_stub(file.target, is_directory=False)

    def _make_stub(self, path: str, *, is_directory: bool, links: int = 0) -> None:
        """Make what is missing of *path*: folders, and at its end a folder or an empty file.

        A link that leads nowhere yet is followed, inside the root.
        """
        if path.startswith("/dev/"):
            return  # in a file system of its own, which pid 1 makes
        parts = path.strip("/").split("/")
        for number in range(1, len(parts) + 1):
            here = "/" + "/".join(parts[:number])
            try:
                os.close(self._open(here, os.O_PATH))
                continue
            except FileNotFoundError:
                pass
            folder = is_directory or number < len(parts)
            parent, name = self._open_parent(here)
            with self._closing(parent), self._as(0, 0):
                target = _link_target(parent, name)
                if target is not None:
                    if links == _LINKS:
                        raise SandboxError(f"{path} cannot be made", why="its links have no end")
                    place = posixpath.join(posixpath.dirname(here), target, *parts[number:])
                    place = posixpath.normpath(place)
                    self._make_stub(place, is_directory=is_directory, links=links + 1)
                    return
                before = os.stat(f"/proc/self/fd/{parent}").st_mtime_ns
                if folder:
                    os.mkdir(name, 0o755, dir_fd=parent)
                else:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=parent))
                after = os.stat(f"/proc/self/fd/{parent}").st_mtime_ns
                self._stubs.append(_Stub(here, folder, before, after))

    def _start(
        self,
        slot: Slot,
        hostname: str,
        cgroup: Cgroup | None,
        powers: Powers,
        mounts: Sequence[GivenMount],
        files: Sequence[GivenFile],
        at_start: Callable[[], None],
    ) -> None:
        machine = os.uname().machine
        plan = Plan(
            root_fd=mount.duplicate(self._view),
            userns_fd=slot.userns_fd,
            base=slot.base,
            hostname=hostname,
            seccomp=compiled_filter(machine) if machine in MACHINES else None,
            cgroup=cgroup,
            oom_score=_OOM_SCORE,
            powers=powers,
            mounts=mounts,
            files=files,
        )
        self._peer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        owner = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        with _FORKS:
            self._setup_pid = os.fork()
        if self._setup_pid == 0:
            self._peer.close()
            _set_up(plan, theirs, slot.netns_fd, owner, at_start)
        theirs.close()
        os.close(plan.root_fd)
        answer = self._receive()
        if answer != READY:
            raise SandboxError(
                "cannot set up the build's sandbox",
                why=answer.decode(errors="replace") or "its first process died",
                fix="`hako doctor` tries what it needs",
            )

    def _send(self, request: bytes, writer: int) -> None:
        peer = self._connected()
        with _FORKS:
            stdin, stdin_writer = os.pipe()
            os.close(
                stdin_writer
            )  # reading stdin finds its end at once; /dev/null would be the host's
        memory = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            os.write(memory, request)
            os.lseek(memory, 0, os.SEEK_SET)
            socket.send_fds(peer, [b"run"], [memory, stdin, writer, writer])
        except OSError as error:
            raise _died(error) from error
        finally:
            os.close(memory)
            os.close(stdin)

    def _wait(
        self, number: int, reader: int, output: Callable[[bytes], None], timeout_s: float | None
    ) -> int:
        """Pass the output on until the executable has ended."""
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
        """End what `run` started and waits for."""
        try:
            self._connected().send(b"kill")
        except OSError as error:
            raise _died(error) from error

    def _status(self, number: int) -> int | None:
        """How executable *number* ended; `None` if the message is about an earlier one, given up by an exception."""
        answer = self._receive()
        if not answer:
            raise _died(None)
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

    def _oom_kills(self) -> int:
        return self._cgroup.oom_kills() if self._cgroup is not None else 0

    def _open(self, path: str, flags: int) -> int:
        relative = path.strip("/") or "."
        return linux.openat2(self._view, relative, flags, resolve=_INSIDE)

    def _open_parent(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise ValueError(f"{path!r} names no entry of a directory")
        return self._open(parent or "/", os.O_PATH | os.O_DIRECTORY), name

    def _as(self, uid: int, gid: int) -> contextlib.AbstractContextManager[None]:
        return linux.filesystem_ids(self._base + uid, self._base + gid)

    @contextmanager
    def _closing(self, fd: int) -> Iterator[None]:
        try:
            yield
        finally:
            os.close(fd)


def remove_cgroup(cgroup: Cgroup) -> None:
    """The kernel lets the group go a moment after its last process."""
    deadline = time.monotonic() + 1.0
    while not cgroup.remove() and time.monotonic() < deadline:
        time.sleep(0.001)


def _set_up(
    plan: Plan, peer: socket.socket, netns_fd: int, owner: int, at_start: Callable[[], None]
) -> NoReturn:
    """In the first child: namespaces, then pid 1; end it when the owner says so or is gone. Does not return.

    This process stays outside of the cgroup and of the pid namespace, so that it can clean up: neither the
    build's limits nor anything inside reaches it. If it is killed itself, pid 1 has a death signal.
    """
    try:
        forget_signals()
        signal.pthread_sigmask(signal.SIG_BLOCK, (_END, signal.SIGCHLD))
        linux.prctl(linux.PR_SET_PDEATHSIG, _END)
        if os.getppid() != owner:
            os._exit(1)  # the owner died before the signal was set
        os.setsid()  # Ctrl-C is the owner's
        at_start()
        linux.setns(netns_fd, linux.CLONE_NEWNET)
        linux.unshare(
            linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
        )
        mount.make_mounts_private()
        init = os.fork()
        if init == 0:
            be_init(plan, peer)
        peer.close()
        os.close(plan.root_fd)
        while os.waitpid(init, os.WNOHANG) == (0, 0):
            if signal.sigwait((_END, signal.SIGCHLD)) == _END:
                os.kill(init, signal.SIGKILL)
        if plan.cgroup is not None:
            remove_cgroup(plan.cgroup)
    except BaseException as error:
        with contextlib.suppress(OSError):
            peer.send(f"{type(error).__name__}: {error}".encode()[:4096])
    finally:
        os._exit(0)


def _link_target(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None  # no link, or nothing at all


def _shows_directory(given: GivenMount) -> bool:
    shown = linux.openat2(given.fd, given.source.strip("/") or ".", os.O_PATH, resolve=_INSIDE)
    try:
        return stat.S_ISDIR(os.fstat(shown).st_mode)
    finally:
        os.close(shown)


def _drain(reader: int, output: Callable[[bytes], None]) -> None:
    """What is in the pipe now: a background process may hold its other end, and write, for ever."""
    (left,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, struct.pack("i", 0)))
    while left > 0 and (data := os.read(reader, min(left, 65536))):
        left -= len(data)
        output(data)


def _died(error: OSError | None) -> SandboxError:
    return SandboxError(
        "the build's sandbox died",
        why=str(error) if error else "its first process was killed (out of memory?)",
        fix="build again; `dmesg` has the reason if the kernel killed it",
    )
