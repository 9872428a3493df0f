"""Pid 1 of a build sandbox: builds the view, gives up its powers, then starts executables on request.

It begins as host root in a forked process, so everything it needs must be imported before; after
`pivot_root` no file of the host is there any more. One request is a memory file with JSON and the three
standard descriptors, sent over a SEQPACKET socket; the answer is `{"id": N, "status": S}`, or
`{"id": N, "error": E}` if no process could be made for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hakobune.runtime import linux
from hakobune.runtime.sandbox_plan import Plan
from hakobune.runtime.sandbox_view import build_view

NOT_FOUND, NOT_EXECUTABLE = 127, 126
READY = b"ready"

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_FREE = 3
_HIGHEST = 1 << 20  # fs.nr_open
_SOFT_OPEN_FILES = 1024  # select(2) breaks above it; a program that needs more raises it itself


def be_init(plan: Plan, peer: socket.socket) -> NoReturn:
    """Become the sandbox's pid 1; ends with the sandbox, and when the other end of *peer* is closed."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        forget_signals()
        _limit(plan)
        _hide_command_line()
        socket.sethostname(plan.hostname)
        build_view(plan)
        _give_up_powers(plan)
        # The owner's descriptors are no business of what runs here; a low number suits select(2).
        os.dup2(peer.detach(), _FIRST_FREE, inheritable=False)
        os.closerange(_FIRST_FREE + 1, _HIGHEST)
        peer = socket.socket(fileno=_FIRST_FREE)
        _limit_open_files()
        peer.send(READY)
    except BaseException as error:
        with contextlib.suppress(OSError):
            peer.send(f"{type(error).__name__}: {error}".encode()[:4096])
        os._exit(1)
    try:
        _serve(peer)
    finally:
        os._exit(70)


def forget_signals() -> None:
    """Whatever handlers, ignored and blocked signals the owner has: none of them here."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):  # the C library's own
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _limit(plan: Plan) -> None:
    """Into the cgroup, whose path is hidden from then on; memory pressure ends a build before a service."""
    if plan.cgroup is not None:
        plan.cgroup.enter()
    linux.unshare(linux.CLONE_NEWCGROUP)
    # As bytes: a codec is a module, and another thread may have been importing it when this process was forked.
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"%d" % plan.oom_score)
    with contextlib.suppress(OSError):
        linux.set_idle_io()


def _limit_open_files() -> None:
    """As an ordinary login has it; not before the owner's descriptors are closed, which may be more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = min(hard, _HIGHEST) if hard != resource.RLIM_INFINITY else _HIGHEST
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_SOFT_OPEN_FILES, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _hide_command_line() -> None:
    """/proc/1/cmdline is everybody's to read, and the owner's may hold secrets (`--env KEY=…`)."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end (proc(5): 48 and 49)
    if start and end > start:
        ctypes.memset(start, 0, end - start)


def _give_up_powers(plan: Plan) -> None:
    """Root of the sandbox's user namespace and nothing more. The order is the kernel's: each step could undo an earlier one."""
    linux.setns(plan.userns_fd, linux.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if plan.seccomp is not None and plan.powers.may_gain:
        # Takes SYS_ADMIN where new privileges are not ruled out.
        linux.install_seccomp(plan.seccomp)
    linux.drop_bounding_set(plan.powers.capabilities)  # entering the namespace has filled it again
    linux.set_capabilities(plan.powers.capabilities)
    if not plan.powers.may_gain:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # nobody inside reads this process's memory
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # cleared by the change of ids
    if plan.seccomp is not None and not plan.powers.may_gain:
        linux.install_seccomp(plan.seccomp)


def _serve(peer: socket.socket) -> NoReturn:
    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([peer.fileno(), wake_read], [], [])
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _reap(peer, running)
        if peer.fileno() in ready:
            message, fds, _, _ = socket.recv_fds(peer, 4096, 4)
            if not message:
                os._exit(0)  # the owner has closed the sandbox
            if message == b"kill":
                _kill(running)
            else:
                _answer(peer, fds, running)
                _reap(peer, running)


def _reap(peer: socket.socket, running: dict[int, int]) -> None:
    """Collect everything that has ended; tell the owner of what it started."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid in running:
            answer = {"id": running.pop(pid), "status": os.waitstatus_to_exitcode(status)}
            peer.send(json.dumps(answer).encode())


def _kill(running: dict[int, int]) -> None:
    for pid in running:
        for kill in (os.killpg, os.kill):  # it may not have its group yet
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)


def _answer(peer: socket.socket, fds: Sequence[int], running: dict[int, int]) -> None:
    """Start what is asked for. Too many processes, or no memory, are the request's fault, not the sandbox's end."""
    with open(fds[0], "rb") as file:
        request = json.loads(file.read())
    try:
        pid = os.fork()
    except OSError as error:
        peer.send(json.dumps({"id": request["id"], "error": str(error.strerror)}).encode())
    else:
        if pid == 0:
            _become(request, fds[1:])
        running[pid] = request["id"]
    for fd in fds[1:]:
        os.close(fd)


def _become(request: dict[str, Any], stdio: Sequence[int]) -> NoReturn:
    """In the child: ids, folder, descriptors, exec."""
    uid, gid, what = request["uid"], request["gid"], request["cwd"]
    try:
        signal.set_wakeup_fd(-1)  # execve(2) itself puts the one handler back
        os.setsid()
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        os.closerange(_FIRST_FREE, _HIGHEST)
        os.setgroups(request["groups"])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        os.chdir(what)
        what = _find_program(request["argv"][0], request["env"])
        os.execve(what, request["argv"], request["env"])
    except FileNotFoundError as error:
        # execve(2) says the same of a script whose interpreter is missing.
        why = "its interpreter is missing" if os.path.exists(what) else error.strerror
        _give_up(f"{what}: {why}", NOT_FOUND)
    except OSError as error:
        _give_up(f"{what}: {error.strerror}", NOT_EXECUTABLE)
    except Exception as error:  # a zero byte in an argument, for example
        _give_up(f"{what}: {error}", NOT_EXECUTABLE)
    finally:
        os._exit(NOT_EXECUTABLE)


def _find_program(name: str, env: Mapping[str, str]) -> str:
    """Where `PATH` has it; a name with a slash stands for itself."""
    if "/" in name:
        return name
    for folder in env.get("PATH", _DEFAULT_PATH).split(":"):
        path = f"{folder or '.'}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return name


def _give_up(message: str, code: int) -> NoReturn:
    os.write(2, f"{message}\n".encode(errors="replace"))
    os._exit(code)
