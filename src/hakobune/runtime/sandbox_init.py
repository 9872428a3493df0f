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
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hakobune.runtime import linux, mount
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.masks import MASKED_PATHS, READ_ONLY_PATHS

NOT_FOUND, NOT_EXECUTABLE = 127, 126
READY = b"ready"

# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT (linux/capability.h)
_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18})
# the same, and NET_RAW MKNOD AUDIT_WRITE SETFCAP: docker's default set
_DOCKER_CAPABILITIES = _CAPABILITIES | {13, 27, 29, 31}
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STAGING = "/dev/.hakobune"  # of mounts on their way to their places; gone before anything runs
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}  # fmt: skip
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_INSIDE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
_FIRST_FREE = 3
_HIGHEST = 1 << 20  # fs.nr_open
_SOFT_OPEN_FILES = 1024  # select(2) breaks above it; a program that needs more raises it itself
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What root inside may do.

    Attributes:
        may_gain: setuid programs and file capabilities have effect (within the id range, as everything).
    """

    capabilities: frozenset[int]
    may_gain: bool


BUILDPACK_POWERS = Powers(capabilities=_CAPABILITIES, may_gain=False)
# A Dockerfile's RUN may use sudo and setcap.
DOCKERFILE_POWERS = Powers(capabilities=_DOCKER_CAPABILITIES, may_gain=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenMount:
    """A detached mount, or a part of it, shown somewhere inside.

    Attributes:
        target: an absolute path inside; links in it are followed inside. A missing place is made and taken away again.
        fd: of the mount; it must have the ids of the sandbox's range, and stays the caller's.
        source: what of it is shown, links followed inside of it; empty: all.
    """

    target: str
    fd: int
    source: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFile:
    """A file in memory, shown at *target*; it never lies on a disk."""

    target: str
    data: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the init builds and becomes."""

    root_fd: int  # a detached mount that is nobody else's
    userns_fd: int
    base: int
    hostname: str
    seccomp: bytes | None
    cgroup: Cgroup | None
    oom_score: int
    powers: Powers
    mounts: Sequence[GivenMount]
    files: Sequence[GivenFile]


def be_init(plan: Plan, peer: socket.socket) -> NoReturn:
    """Become the sandbox's pid 1; ends with the sandbox, and when the other end of *peer* is closed."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        forget_signals()
        _limit(plan)
        _hide_command_line()
        _build_view(plan)
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


def _build_view(plan: Plan) -> None:
    root = mount.ATTACH_POINT
    mount.attach(plan.root_fd, root)
    os.umask(0)
    with linux.filesystem_ids(plan.base, plan.base):
        for name in ("proc", "sys", "dev"):
            _require_directory(f"{root}/{name}", name)
    linux.mount("proc", f"{root}/proc", "proc", _QUIET)
    linux.mount("sysfs", f"{root}/sys", "sysfs", _QUIET | linux.MS_RDONLY)
    _make_devices(root, plan.base)
    for path in MASKED_PATHS:
        place = root + path
        if os.path.isdir(place):
            linux.mount("tmpfs", place, "tmpfs", linux.MS_RDONLY)
        elif os.path.exists(place):
            linux.mount(f"{root}/dev/null", place, None, linux.MS_BIND)
    for path in READ_ONLY_PATHS:
        place = root + path
        if os.path.exists(place):
            linux.mount(place, place, None, linux.MS_BIND | linux.MS_REC)
            flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | _QUIET
            linux.mount(None, place, None, flags)
    _show_given(root, plan)
    socket.sethostname(plan.hostname)
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    os.umask(0o022)


def _show_given(root: str, plan: Plan) -> None:
    """Mounts and files that the owner gives, parents first: a later one may lie in an earlier one."""
    if not plan.mounts and not plan.files:
        return
    staging = root + _STAGING
    os.mkdir(staging, 0o700)
    # Not noexec: a heredoc may be a script.
    linux.mount("tmpfs", staging, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=700")
    inside = os.open(root, os.O_PATH | os.O_DIRECTORY)
    both: list[GivenMount | GivenFile] = [*plan.mounts, *plan.files]
    given = sorted(both, key=lambda item: item.target.count("/"))
    for number, item in enumerate(given):
        place = f"{staging}/{number}"
        if item.target.startswith("/dev/"):
            _make_place(root + item.target, is_file=isinstance(item, GivenFile))
        if isinstance(item, GivenFile):
            _write_given(place, item, plan.base)
            _bind(place, inside, item.target)
        else:
            os.mkdir(place)
            mount.attach(item.fd, place)
            _bind_part(place, inside, item)
    os.close(inside)
    linux.umount(staging, linux.MNT_DETACH)
    os.rmdir(staging)


def _make_place(path: str, *, is_file: bool) -> None:
    """In /dev, which is made here and has no links to elsewhere; other places are made in the top by the owner."""
    os.makedirs(os.path.dirname(path) if is_file else path, exist_ok=True)
    if is_file:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _write_given(path: str, given: GivenFile, base: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(given.data)
        os.fchown(file.fileno(), base + given.uid, base + given.gid)
        os.fchmod(file.fileno(), given.mode)


def _bind_part(place: str, inside: int, given: GivenMount) -> None:
    whole = os.open(place, os.O_PATH | os.O_DIRECTORY)
    part = linux.openat2(whole, given.source.strip("/") or ".", os.O_PATH, resolve=_INSIDE)
    _bind(f"/proc/self/fd/{part}", inside, given.target)
    if given.read_only:
        # Asked for anew: what was opened before is what lies under the mount.
        shown = linux.openat2(inside, given.target.strip("/") or ".", os.O_PATH, resolve=_INSIDE)
        flags = (
            linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
        )
        linux.mount(None, f"/proc/self/fd/{shown}", None, flags)
        os.close(shown)
    os.close(part)
    os.close(whole)


def _bind(source: str, inside: int, target: str) -> None:
    """By descriptor: a link in the image must not lead to a place of the host."""
    place = linux.openat2(inside, target.strip("/") or ".", os.O_PATH, resolve=_INSIDE)
    linux.mount(source, f"/proc/self/fd/{place}", None, linux.MS_BIND)
    os.close(place)


def _require_directory(path: str, name: str) -> None:
    """A link would be followed from the host's root: the image must not choose where we mount."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(f"/{name} of the image is not a directory")


def _make_devices(root: str, base: int) -> None:
    options = f"mode=755,size=64k,uid={base},gid={base}"
    linux.mount("tmpfs", f"{root}/dev", "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, options)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"{root}/dev/{name}", 0o20666, os.makedev(major, minor))
        os.chown(f"{root}/dev/{name}", base, base)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{root}/dev/{name}")
    linux.mount(
        "devpts",
        f"{root}/dev/pts",
        "devpts",
        linux.MS_NOSUID | linux.MS_NOEXEC,
        f"newinstance,ptmxmode=0666,mode=0620,gid={base + 5}",
    )
    linux.mount("shm", f"{root}/dev/shm", "tmpfs", _QUIET, "mode=1777,size=64m")
    linux.mount("mqueue", f"{root}/dev/mqueue", "mqueue", _QUIET)
    for name, target in _LINKS:
        os.symlink(target, f"{root}/dev/{name}")


def _give_up_powers(plan: Plan) -> None:
    """Root of the sandbox's user namespace and nothing more. The order is the kernel's: each step could undo an earlier one."""
    linux.setns(plan.userns_fd, linux.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if plan.seccomp is not None and plan.powers.may_gain:
        linux.install_seccomp(
            plan.seccomp
        )  # takes SYS_ADMIN where new privileges are not ruled out
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
