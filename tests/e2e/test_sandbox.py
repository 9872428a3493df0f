"""The build sandbox on the real kernel: what is inside, what cannot get out, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hakobune.runtime import mount
from hakobune.runtime.cgroup_limits import Limits
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.mount import RootFs, TmpfsTop
from hakobune.runtime.mount_method import OverlayMethod, TmpfsIds
from hakobune.runtime.room import build_sandbox
from hakobune.runtime.sandbox import Sandbox
from hakobune.runtime.sandbox_error import SandboxError
from tests.small_root import PROGRAMS, make_small_root

pytestmark = pytest.mark.needs_root

UID, GID = 1001, 1000
_EXTRA = ("unshare", "mount", "mknod", "mkfifo", "mv", "rm", "yes", "readlink", "setpriv")


@dataclass(frozen=True, slots=True)
class Place:
    """A lower, and tops beside it on the same disk."""

    folder: Path
    installation: str

    @property
    def lower(self) -> Path:
        return self.folder / "lower"

    def rootfs(self, top: Path, *, redirect_dir: bool = True) -> RootFs:
        return RootFs(lowers=(self.lower,), top=top, redirect_dir=redirect_dir)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    folder.chmod(0o755)
    make_small_root(folder / "lower", programs=(*PROGRAMS, *_EXTRA))
    (folder / "lower/kept").mkdir()
    (folder / "lower/kept/old").write_text("old\n")
    place = Place(folder, "hk" + folder.name[-8:].lower().replace("_", "x"))
    try:
        yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.closing(Cgroups.open(place.installation)) as cgroups:
            cgroups.remove_all()


@pytest.fixture
def top(place: Place) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="top-", dir=place.folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def box(place: Place, top: Path) -> Iterator[Sandbox]:
    with open_box(place, top) as sandbox:
        yield sandbox


@contextlib.contextmanager
def open_box(
    place: Place,
    top: Path,
    *,
    network: bool = False,
    memory_bytes: int | None = None,
    redirect_dir: bool = True,
) -> Iterator[Sandbox]:
    with build_sandbox(
        place.rootfs(top, redirect_dir=redirect_dir),
        installation=place.installation,
        run=place.folder / "run",
        network=network,
        memory_bytes=memory_bytes,
    ) as sandbox:
        yield sandbox


def run(
    box: Sandbox,
    script: str,
    *,
    uid: int = UID,
    env: dict[str, str] | None = None,
    timeout_s: float | None = 20.0,
) -> tuple[int, str]:
    said = bytearray()
    code = box.run(
        ["/bin/sh", "-c", script],
        env={"PATH": "/bin", **(env or {})},
        cwd="/tmp",
        uid=uid,
        gid=GID if uid else 0,
        output=said.extend,
        timeout_s=timeout_s,
    )
    return code, said.decode(errors="replace")


# what is inside


def test_an_executable_gets_exactly_its_environment_folder_and_ids(box: Sandbox) -> None:
    code, said = run(box, "/bin/env; pwd; /bin/id -u; /bin/id -G", env={"A": "b c"})

    lines = said.splitlines()
    assert code == 0
    assert lines[-3:] == ["/tmp", "1001", "1000"]
    assert set(lines[:-3]) <= {"A=b c", "PATH=/bin", "PWD=/tmp", "SHLVL=0", "_=/bin/env"}
    assert "A=b c" in lines


def test_stdin_is_at_its_end_and_no_other_descriptor_is_open(box: Sandbox) -> None:
    code, said = run(box, "/bin/cat; for fd in /proc/self/fd/*; do echo ${fd##*/}; done")

    # The shell itself opens the directory to list it.
    assert (code, set(said.split()) - {"3"}) == (0, {"0", "1", "2"})


def test_the_owners_open_files_above_a_thousand_do_not_reach_an_executable(
    place: Place, top: Path
) -> None:
    secret = os.open(place.lower / "etc/passwd", os.O_RDONLY)
    high = 1500
    os.dup2(secret, high, inheritable=True)
    try:
        with open_box(place, top) as box:
            assert run(box, f"[ -e /proc/self/fd/{high} ] || echo closed") == (0, "closed\n")
    finally:
        os.close(high)
        os.close(secret)


def test_limits_and_signals_are_an_ordinary_programs(box: Sandbox) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        code, said = run(
            box, "ulimit -Sn; ulimit -Hc; /bin/cat /proc/self/status /proc/self/oom_score_adj"
        )
    finally:
        signal.signal(signal.SIGXFSZ, before)

    lines = said.split("\n")
    assert code == 0
    assert lines[:2] == ["1024", "0"]
    for wanted in ("SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000"):
        assert wanted in lines
    for wanted in ("Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "700"):
        assert wanted in lines


def test_an_environment_far_above_a_pipes_size_arrives(box: Sandbox) -> None:
    env = {f"VARIABLE_{i}": "x" * 100_000 for i in range(15)}

    code, said = run(box, 'echo "${#VARIABLE_0} ${#VARIABLE_14}"', env=env)

    assert (code, said) == (0, "100000 100000\n")


def test_an_environment_too_large_for_the_kernel_is_an_exit_code_in_words(box: Sandbox) -> None:
    code, said = run(box, "true", env={"HUGE": "x" * 300_000})

    assert (code, said) == (126, "/bin/sh: Argument list too long\n")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["/bin/sh", "-c", "exit 42"], 42, ""),
        (["/bin/sh", "-c", "kill -9 $$"], 137, ""),
        (["/bin/sh", "-c", "kill -TERM $$"], 143, ""),
        (["/no/such"], 127, "/no/such: No such file or directory\n"),
        (["/etc/passwd"], 126, "/etc/passwd: Permission denied\n"),
        (["/tmp/lost"], 127, "/tmp/lost: its interpreter is missing\n"),
        (["/bin/sh", "a\0b"], 126, "/bin/sh: embedded null byte\n"),
    ],
)
def test_exit_codes_are_those_of_a_shell(
    box: Sandbox, argv: list[str], code: int, said: str
) -> None:
    box.write_file("/tmp/lost", b"#!/no/interpreter\n", mode=0o755, uid=UID, gid=GID)
    heard = bytearray()

    got = box.run(argv, env={}, cwd="/tmp", uid=UID, gid=GID, output=heard.extend)

    assert (got, heard.decode()) == (code, said)


def test_root_inside_owns_files_as_root_and_cannot_raise_itself(box: Sandbox) -> None:
    code, said = run(
        box,
        """
        /bin/id -u
        /bin/unshare -m /bin/true 2>&1 | { read line && echo "unshare: refused"; }
        /bin/unshare -U /bin/true 2>&1 | { read line && echo "userns: refused"; }
        /bin/mount -t tmpfs tmpfs /tmp 2>&1 | { read line && echo "mount: refused"; }
        /bin/mknod /tmp/disk b 8 0 2>&1 | { read line && echo "mknod: refused"; }
        for file in environ mem maps root fd/0; do
            /bin/cat /proc/1/$file >/dev/null 2>&1 || echo "$file: refused"
        done
        echo x 2>/dev/null >/proc/sys/kernel/hostname || echo "sysctl: refused"
        echo x 2>/dev/null >/proc/sysrq-trigger || echo "sysrq: refused"
        """,
        uid=0,
    )

    assert code == 0
    assert said.splitlines() == [
        "0",
        "unshare: refused",
        "userns: refused",
        "mount: refused",
        "mknod: refused",
        "environ: refused",
        "mem: refused",
        "maps: refused",
        "root: refused",
        "fd/0: refused",
        "sysctl: refused",
        "sysrq: refused",
    ]


def test_the_owners_command_line_is_hidden_and_only_own_processes_are_seen(box: Sandbox) -> None:
    code, said = run(box, "/bin/cat /proc/1/cmdline; cd /proc; echo [0-9]*", uid=0)

    assert code == 0
    assert "pytest" not in said
    assert said.strip("\0\n").split()[0] == "1"
    assert len(said.strip("\0\n").split()) <= 3


def test_the_kernels_dangerous_files_are_masked_and_sys_is_read_only(box: Sandbox) -> None:
    _, said = run(
        box,
        """
        [ -s /proc/kcore ] && [ -f /proc/kcore ] && echo kcore
        [ -s /proc/keys ] && /bin/cat /proc/keys
        /bin/ls /sys/firmware
        /bin/mkdir /sys/fs/cgroup/mine 2>/dev/null && echo cgroup
        /bin/touch /sys/kernel/uevent_seqnum 2>/dev/null && echo sys
        [ -d /sys/class/net/lo ] && /bin/ls /sys/class/net
        """,
        uid=0,
    )

    assert said == "lo\n"


@pytest.mark.parametrize("uid", [0, UID])
def test_devices_are_there_and_a_script_may_open_its_own_output(box: Sandbox, uid: int) -> None:
    code, said = run(
        box,
        "echo x >/dev/null && /bin/dd if=/dev/zero of=/dev/full bs=1 count=1 2>&1 | /bin/cat; "
        "/bin/stat -c '%U %a' /dev/null; echo hello >/dev/stdout; echo y >/dev/shm/x",
        uid=uid,
    )

    assert code == 0
    assert "No space left on device" in said
    assert said.endswith("root 666\nhello\n")


def test_a_signal_to_pid_1_from_root_inside_does_nothing(box: Sandbox) -> None:
    run(box, "kill -INT 1; kill -TERM 1; kill -USR1 1; kill -KILL 1", uid=0)

    assert run(box, "echo alive") == (0, "alive\n")


# older kernels


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("method", list(OverlayMethod), ids=lambda m: m.name.lower())
def test_a_sandbox_works_the_same_however_old_the_kernel_is(
    place: Place,
    top: Path,
    method: OverlayMethod,
    in_memory: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ways that this kernel also has are forced: strings, attached layers, shifted tmpfs, no clone of a clone."""
    monkeypatch.setattr(mount, "choose_overlay_method", lambda _: method)
    if method is OverlayMethod.ATTACHED:
        monkeypatch.setattr(mount, "choose_tmpfs_ids", lambda _: TmpfsIds.SHIFTED)
    monkeypatch.setattr(mount, "duplicate", mount._duplicate_attached)
    rootfs = RootFs(lowers=(place.lower,), top=TmpfsTop(4 << 20) if in_memory else top / "t")

    with build_sandbox(
        rootfs, installation=place.installation, run=place.folder / "run", network=False
    ) as box:
        code, said = run(
            box, "/bin/rm /kept/old; echo new >/kept/new; /bin/stat -c %u:%g /kept /kept/new", uid=0
        )
        assert (code, said) == (0, "0:0\n0:0\n")
        assert run(box, "echo mine >/tmp/mine; /bin/stat -c %u:%g /tmp/mine") == (0, "1001:1000\n")
        box.kill_processes()
        assert box.read_file("/kept/new") == b"new\n"
        assert box.read_file("/kept/old") is None

    if not in_memory:
        assert (top / "t/up/tmp/mine").stat().st_uid == UID


# what lies on disk


def test_what_is_written_lies_on_disk_with_real_ids_modes_and_whiteouts(
    place: Place, top: Path
) -> None:
    with open_box(place, top, redirect_dir=False) as box:
        code, said = run(
            box,
            "echo r >/tmp/root; /bin/chmod 4755 /tmp/root; /bin/mkfifo /tmp/fifo; "
            "/bin/rm /kept/old; /bin/rm -r /root; /bin/mkdir /root",
            uid=0,
        )
        assert (code, said) == (0, "")
        assert run(box, "echo u >/tmp/user") == (0, "")

    up = top / "up"
    root, user = (up / "tmp/root").stat(), (up / "tmp/user").stat()
    whiteout = (up / "kept/old").stat()
    assert (root.st_uid, root.st_gid, stat.S_IMODE(root.st_mode)) == (0, 0, 0o4755)
    assert (user.st_uid, user.st_gid) == (UID, GID)
    assert stat.S_ISFIFO((up / "tmp/fifo").stat().st_mode)
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.getxattr(up / "root", "trusted.overlay.opaque") == b"y"
    assert (place.lower / "kept/old").read_text() == "old\n"


def test_a_directory_from_below_is_renamed_in_place_only_with_redirects(
    place: Place, top: Path
) -> None:
    with open_box(place, top) as box:
        box.rename("/kept", "/moved")

        assert box.read_file("/moved/old") == b"old\n"
        assert box.read_file("/kept/old") is None

    assert os.getxattr(top / "up/moved", "trusted.overlay.redirect") == b"kept"


# output, background processes, time


def test_a_background_child_that_keeps_the_pipe_open_does_not_hold_the_end_back(
    box: Sandbox,
) -> None:
    begun = time.monotonic()

    code, said = run(box, "/bin/sleep 60 & echo done")

    assert (code, said) == (0, "done\n")
    assert time.monotonic() - begun < 5


def test_a_background_child_that_writes_for_ever_neither_blocks_nor_mixes_into_the_next(
    box: Sandbox,
) -> None:
    code, _ = run(box, "/bin/yes noise & echo started")

    assert code == 0
    for _ in range(5):
        assert run(box, "echo quiet") == (0, "quiet\n")


def test_all_output_written_before_the_end_arrives(box: Sandbox) -> None:
    code, said = run(box, "/bin/dd if=/dev/zero bs=1000 count=3000 2>/dev/null; echo end")

    assert code == 0
    assert len(said) == 3_000_004
    assert said.endswith("end\n")


@pytest.mark.parametrize("script", ["/bin/sleep 60", "/bin/yes", "trap '' TERM; /bin/yes & wait"])
def test_silent_and_chatty_executables_are_ended_when_their_time_is_up(
    box: Sandbox, script: str
) -> None:
    begun = time.monotonic()

    with pytest.raises(TimeoutError, match=r"0\.3 s"):
        run(box, script, timeout_s=0.3)

    assert time.monotonic() - begun < 5
    assert run(box, "echo next") == (0, "next\n")


def test_an_output_that_raises_ends_the_executable_and_the_next_gets_its_own_status(
    box: Sandbox,
) -> None:
    def refuse(_: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        box.run(
            ["/bin/sh", "-c", "echo x; /bin/sleep 60; exit 3"],
            env={},
            cwd="/",
            uid=UID,
            gid=GID,
            output=refuse,
        )

    assert run(box, "exit 5") == (5, "")


def test_ended_children_of_the_background_leave_no_zombies(box: Sandbox) -> None:
    run(box, "for i in 1 2 3 4 5; do (/bin/sleep 0.01 &) ; done; /bin/sleep 0.3")

    _, said = run(box, "/bin/cat /proc/[0-9]*/stat 2>/dev/null")

    assert ") Z " not in said


# greed


def test_a_memory_hog_is_killed_and_the_output_says_why(place: Place, top: Path) -> None:
    # The kernel kills the largest process: pid 1 inside is a fork of this test run, which may be large itself.
    with open_box(place, top, memory_bytes=512 << 20) as box:
        code, said = run(box, "/bin/dd if=/dev/zero of=/dev/null bs=2G count=1")

        assert code == 137
        assert said.endswith("out of memory: the kernel killed a process of this build\n")
        assert run(box, "echo alive") == (0, "alive\n")


def test_a_fork_storm_is_contained_and_the_refusal_is_in_words(place: Place, top: Path) -> None:
    with open_box(place, top) as box:
        assert box._cgroup is not None
        box._cgroup.limit(Limits(pids=30))
        _, said = run(box, "while :; do /bin/sleep 60 & done")
        assert "Cannot fork" in said
        assert run(box, "echo alive") == (0, "alive\n")

        box._cgroup.limit(Limits(pids=1))
        with pytest.raises(SandboxError, match="cannot start another process"):
            run(box, "true")

        box._cgroup.limit(Limits(pids=100))
        assert run(box, "echo again") == (0, "again\n")


# the owner's own files


@pytest.fixture
def hostile(box: Sandbox, tmp_path: Path) -> Iterator[tuple[Sandbox, Path]]:
    """A tree full of links to a host file, and that file."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("host\n")
    up = "/.." * 12
    code, said = run(
        box,
        f"cd /tmp; /bin/ln -s {victim} absolute; /bin/ln -s ../../../../..{victim} relative; "
        f"/bin/ln -s {up}{victim} dots; /bin/ln -s loop loop; /bin/ln -s {victim}/file file; "
        "/bin/ln -s /proc/1/root magic; /bin/mkfifo fifo",
    )
    assert (code, said) == (0, "")
    yield box, victim
    assert sorted(os.listdir(victim)) == ["file"]
    assert (victim / "file").read_text() == "host\n"


@pytest.mark.parametrize("link", ["absolute", "relative", "dots", "magic", "loop"])
def test_links_do_not_lead_the_owner_out(hostile: tuple[Sandbox, Path], link: str) -> None:
    box, _ = hostile
    through = f"/tmp/{link}"

    assert box.read_file(f"{through}/file") is None
    assert box.list_directory(f"{through}/x") is None
    box.remove(f"{through}/file") if link != "loop" else None
    with pytest.raises(OSError, match=r"."):
        box.write_file(f"{through}/new", b"x", mode=0o644, uid=0, gid=0)
    with pytest.raises(OSError, match=r"."):
        os.close(box.open_directory(f"{through}/y"))
    with pytest.raises(OSError, match=r"."):
        box.rename("/kept/old", f"{through}/stolen")
    with pytest.raises(OSError, match=r"."):
        box.rename(f"{through}/file", "/tmp/stolen")
    assert box.read_file("/kept/old") == b"old\n"


def test_writing_and_removing_replace_the_link_and_not_what_it_points_to(
    hostile: tuple[Sandbox, Path],
) -> None:
    box, _ = hostile

    box.write_file("/tmp/file", b"ours", mode=0o600, uid=UID, gid=GID)
    box.remove("/tmp/absolute")
    box.rename("/tmp/relative", "/tmp/other")

    assert box.read_file("/tmp/file") == b"ours"
    assert {"absolute", "relative"} & {e.name for e in box.list_directory("/tmp") or ()} == set()


def test_links_inside_are_followed_as_the_sandbox_sees_them(box: Sandbox) -> None:
    run(box, "/bin/ln -s /kept/old /tmp/link")

    assert box.read_file("/tmp/link") == b"old\n"
    assert not next(e for e in box.list_directory("/tmp") or () if e.name == "link").is_directory


def test_a_fifo_or_a_folder_is_no_file_and_a_vast_file_is_refused(
    hostile: tuple[Sandbox, Path],
) -> None:
    box, _ = hostile
    run(box, "/bin/dd if=/dev/zero of=/tmp/vast bs=1 count=0 seek=100G 2>/dev/null")

    assert box.read_file("/tmp/fifo") is None
    assert box.read_file("/tmp") is None
    with pytest.raises(SandboxError, match="/tmp/vast"):
        box.read_file("/tmp/vast")


def test_made_files_and_directories_have_the_owner_and_mode_asked_for(box: Sandbox) -> None:
    box.make_directory("/srv/a/b", mode=0o750, uid=UID, gid=GID)
    box.make_directory("/srv", mode=0o700, uid=0, gid=0)
    box.write_file("/srv/a/b/f", b"x", mode=0o640, uid=UID, gid=GID)

    _, said = run(box, "cd /srv; /bin/stat -c '%n %u:%g %a' . a a/b a/b/f", uid=0)

    assert said.splitlines() == [
        ". 1001:1000 750",
        "a 1001:1000 750",
        "a/b 1001:1000 750",
        "a/b/f 1001:1000 640",
    ]
    with pytest.raises(NotADirectoryError):
        box.make_directory("/srv/a/b/f", mode=0o755, uid=0, gid=0)


def test_renaming_what_is_not_there_leaves_the_target_alone(box: Sandbox) -> None:
    with pytest.raises(FileNotFoundError):
        box.rename("/kept/none", "/kept/old")
    box.rename("/kept/old", "/kept/old")

    assert box.read_file("/kept/old") == b"old\n"


def test_names_that_are_no_entries_are_refused(box: Sandbox) -> None:
    for path in ("/", "/tmp/..", "/tmp/.", "/.."):
        with pytest.raises(ValueError, match="no entry"):
            box.remove(path)


def test_an_image_whose_proc_is_a_link_is_refused_in_words(place: Place, top: Path) -> None:
    lower = top / "hostile"
    make_small_root(lower, programs=("sh",))
    (lower / "proc").rmdir()
    (lower / "proc").symlink_to("/etc")
    rootfs = RootFs(lowers=(lower,), top=top / "t")

    with pytest.raises(SandboxError) as caught:
        with build_sandbox(
            rootfs, installation=place.installation, run=place.folder / "run", network=False
        ):
            pass

    assert "/proc of the image is not a directory" in str(caught.value)
    assert groups(place) == ()


# the end


def test_after_the_processes_are_ended_files_are_read_and_written_but_nothing_runs(
    box: Sandbox,
) -> None:
    fd = box.open_directory("/kept")
    run(box, "/bin/sleep 60 &")
    inside = pids_of(box)

    box.kill_processes()
    box.kill_processes()

    assert not any(is_alive(pid) for pid in inside)
    box.write_file("/kept/new", b"n", mode=0o644, uid=0, gid=0)
    assert sorted(os.listdir(fd)) == ["new", "old"]
    os.close(fd)
    with pytest.raises(SandboxError, match="have been ended"):
        run(box, "true")


def test_a_sandbox_whose_pid_1_is_killed_says_so_and_leaves_nothing(
    place: Place, top: Path
) -> None:
    with open_box(place, top) as box:
        inside = pids_of(box)
        os.kill(inside[0], signal.SIGKILL)

        with pytest.raises(SandboxError, match="the build's sandbox died"):
            run(box, "/bin/sleep 5")
        with pytest.raises(SandboxError, match="the build's sandbox died"):
            run(box, "true")
        assert box.read_file("/kept/old") == b"old\n"

    assert groups(place) == ()


def test_a_sandbox_whose_setup_process_is_killed_takes_everything_along(
    place: Place, top: Path
) -> None:
    with open_box(place, top) as box:
        run(box, "/bin/sleep 60 &")
        inside = pids_of(box)
        os.kill(box._setup_pid, signal.SIGKILL)

        assert await_true(lambda: not any(is_alive(pid) for pid in inside))
        with pytest.raises(SandboxError, match="the build's sandbox died"):
            run(box, "true")

    assert groups(place) == ()


def test_mounts_and_descriptors_are_given_back(place: Place, top: Path) -> None:
    with open_box(place, top / "first"):
        pass
    mounts, fds = mount_lines(), len(os.listdir("/proc/self/fd"))

    for number in range(3):
        with open_box(place, top / str(number)) as box:
            run(box, "true")

    assert mount_lines() == mounts
    assert len(os.listdir("/proc/self/fd")) == fds
    assert groups(place) == ()


def test_the_host_sees_no_mount_while_a_sandbox_lives(place: Place, top: Path) -> None:
    before = mount_lines()

    with open_box(place, top) as box:
        run(box, "true")
        assert mount_lines() == before


_OWNER = """
import sys
from pathlib import Path
from hakobune.runtime.mount import RootFs
from hakobune.runtime.room import build_sandbox
folder, top, installation = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
print("begin", flush=True)
with build_sandbox(
    RootFs(lowers=(folder / "lower",), top=top, redirect_dir=True),
    installation=installation, run=folder / "run", network=True,
) as box:
    while True:
        box.run(["/bin/sh", "-c", "for i in 1 2 3; do echo x >/tmp/$$-$i; /bin/sleep 30 & done"],
                env={}, cwd="/", uid=1001, gid=1000, output=lambda _: None)
"""


def test_kill_9_of_the_owner_at_any_moment_leaves_nothing_and_a_readable_top(
    place: Place, top: Path
) -> None:
    mounts = mount_lines()
    chance = random.Random(20261125)
    try:
        for number in range(10):
            folder = top / f"killed-{number}"
            owner = subprocess.Popen(
                [sys.executable, "-c", _OWNER, place.folder, folder, place.installation],
                stdout=subprocess.PIPE,
            )
            assert owner.stdout is not None
            owner.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.15))
            owner.kill()
            owner.wait()
            owner.stdout.close()

            assert await_true(lambda: our_processes(place) == []), our_processes(place)
            assert await_true(lambda: groups(place) == ()), groups(place)
            assert await_true(lambda: cables(place) == []), cables(place)
            assert mount_lines() == mounts
            for _, _, files in os.walk(folder):
                assert isinstance(files, list)
            shutil.rmtree(folder, ignore_errors=False) if folder.exists() else None
    finally:
        with open_box(place, top / "last", network=True) as box:
            assert run(box, "echo works") == (0, "works\n")
    assert await_true(lambda: interfaces(place) == []), interfaces(place)


def test_groups_of_builds_that_were_killed_with_everything_are_swept(
    place: Place, top: Path
) -> None:
    with contextlib.closing(Cgroups.open(place.installation)) as cgroups:
        cgroups.create("builds/70010000")
        strange = cgroups.create("builds/strange")

        with open_box(place, top):
            assert "70010000" not in groups(place)

        assert groups(place) == ("strange",)
        assert strange.remove()


def test_the_network_is_closed_unless_asked_for(box: Sandbox) -> None:
    code, said = run(box, "/bin/ls /sys/class/net; /bin/cat /proc/net/route")

    assert code == 0
    assert said.splitlines()[0] == "lo"
    assert len(said.splitlines()) == 2  # the header of an empty routing table


def test_two_sandboxes_do_not_see_each_other(place: Place, top: Path) -> None:
    with open_box(place, top / "a") as a, open_box(place, top / "b") as b:
        run(a, "/bin/sleep 61 & echo a >/tmp/mine")

        assert b.read_file("/tmp/mine") is None
        _, said = run(b, "/bin/cat /proc/[0-9]*/cmdline", uid=0)
        assert "61" not in said
        assert len({stat_ids(pid) for pid in (pids_of(a)[0], pids_of(b)[0])}) == 2


# looking from outside


def pids_of(box: Sandbox) -> list[int]:
    """The host's pids of what runs inside: the setup process's descendants, pid 1 first (pids wrap around)."""
    found, waiting = [], [box._setup_pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            found += map(int, children)
            waiting += map(int, children)
    return found


def stat_ids(pid: int) -> str:
    return Path(f"/proc/{pid}/uid_map").read_text()


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def groups(place: Place) -> tuple[str, ...]:
    with contextlib.closing(Cgroups.open(place.installation)) as cgroups:
        return cgroups.names("builds")


def interfaces(place: Place) -> list[str]:
    """The installation's bridge and cables: their names begin with its own."""
    return [n for n in os.listdir("/sys/class/net") if n.startswith(place.installation)]


def cables(place: Place) -> list[str]:
    """What leads into a sandbox; the bridge alone may wait for the next one."""
    return [n for n in interfaces(place) if not n.endswith("br")]


def our_processes(place: Place) -> list[str]:
    """Command lines on the host that name the place, and processes whose root is one of its tops."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes()
                if str(place.folder).encode() in words or b"sleep\x0030" in words:
                    found.append(f"{name} {words!r}")
    return found


def mount_lines() -> int:
    return len(Path("/proc/self/mountinfo").read_text().splitlines())


def await_true(fact: object, timeout_s: float = 5.0) -> bool:
    assert callable(fact)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if fact():
            return True
        time.sleep(0.005)
    return bool(fact())
