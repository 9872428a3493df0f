"""`hako container cp` and `wait`, as somebody who knows docker's uses them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import container, detached, foreground, names
from tests.e2e.installation import HAKO, Installation
from tests.e2e.small_installation import small_installation
from tests.supervised import wait_for

pytestmark = pytest.mark.needs_root

SLEEP = ("small", "/bin/sleep", "1000")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with small_installation(tmp_path_factory.mktemp("small")) as installation:
        yield installation
        container(installation, "rm", "-f", "box")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of this machine that is somebody else's."""
    made = tmp_path / "folder"
    (made / "below").mkdir(parents=True)
    (made / "file").write_text("text\n")
    (made / "below" / "deep").write_text("deep\n")
    (made / "link").symlink_to("file")
    for path in (made, *made.rglob("*")):
        os.chown(path, 1002, 1000, follow_symlinks=False)
    return made


def inside(here: Installation, name: str, *command: str) -> str:
    done = container(here, "exec", "-u", "root", name, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("owner", ["supervisor", "command"])
def test_a_folder_goes_in_and_comes_out_of_a_running_container(
    here: Installation, folder: Path, owner: str
) -> None:
    keep = foreground if owner == "command" else detached
    with keep(here, "box", *SLEEP):
        assert container(here, "cp", str(folder), "box:/tmp/new").returncode == 0
        assert inside(here, "box", "cat", "/tmp/new/below/deep", "/tmp/new/link") == "deep\ntext\n"
        assert inside(here, "box", "stat", "-c", "%u", "/tmp/new/file") == "0\n"

        assert container(here, "cp", "box:/tmp/new", str(folder.parent)).returncode == 0

    assert (folder.parent / "new/below/deep").read_text() == "deep\n"
    assert os.readlink(folder.parent / "new/link") == "file"


def test_with_a_owners_are_kept_both_ways(here: Installation, folder: Path) -> None:
    with detached(here, "box", *SLEEP):
        container(here, "cp", "-a", str(folder), "box:/tmp")
        assert inside(here, "box", "stat", "-c", "%u:%g", "/tmp/folder/file") == "1002:1000\n"

        container(here, "cp", "-a", "box:/tmp/folder/file", str(folder.parent / "out"))
        container(here, "cp", "box:/tmp/folder/file", str(folder.parent / "ours"))

    assert (folder.parent / "out").stat().st_uid == 1002
    assert (folder.parent / "ours").stat().st_uid == os.geteuid()


def test_a_stopped_container_has_its_files_and_volumes_and_is_started_with_what_came(
    here: Installation, folder: Path
) -> None:
    with detached(here, "box", "-v", f"{folder}:/vol", *SLEEP):
        container(here, "stop", "-t", "0", "box")

        assert container(here, "cp", str(folder / "file"), "box:/tmp/came").returncode == 0
        assert container(here, "cp", str(folder / "file"), "box:/vol/came").returncode == 0
        assert container(here, "cp", "box:/vol/below", str(folder.parent / "out")).returncode == 0

        container(here, "start", "box")
        assert inside(here, "box", "cat", "/tmp/came") == "text\n"
    assert (folder / "came").read_text() == "text\n"
    assert (folder.parent / "out/deep").read_text() == "deep\n"


def test_tar_streams_go_both_ways(here: Installation, folder: Path) -> None:
    with detached(here, "box", *SLEEP):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            archive.add(folder, "streamed")
        done = subprocess.run(
            [HAKO, "container", "cp", "-", "box:/tmp"],
            env=here.env,
            input=out.getvalue(),
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert inside(here, "box", "stat", "-c", "%u", "/tmp/streamed/file") == "1002\n"

        back = subprocess.run(
            [HAKO, "container", "cp", "box:/tmp/streamed", "-"],
            env=here.env,
            capture_output=True,
            timeout=60,
        )

    with tarfile.open(fileobj=io.BytesIO(back.stdout)) as archive:
        assert archive.getnames() == [
            "streamed",
            "streamed/below",
            "streamed/below/deep",
            "streamed/file",
            "streamed/link",
        ]
        assert archive.getmember("streamed/file").uid == 1002


def test_links_of_a_container_lead_nowhere_but_into_it(
    here: Installation, folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host\n")
    up = "../" * 12 + str(secret).lstrip("/")
    with detached(here, "box", *SLEEP):
        inside(here, "box", "ln", "-s", str(tmp_path), "/tmp/absolute")
        inside(here, "box", "ln", "-s", up, "/tmp/relative")
        inside(here, "box", "ln", "-s", "/etc", "/tmp/etc")

        into = container(here, "cp", str(folder / "file"), "box:/tmp/absolute/written")
        over = container(here, "cp", str(folder / "file"), "box:/tmp/relative")
        out = container(here, "cp", "-L", "box:/tmp/relative", str(tmp_path / "stolen"))
        below = container(here, "cp", str(folder / "file"), "box:/tmp/etc/")

        assert [done.returncode for done in (into, over, out, below)] == [1, 1, 1, 0]
        assert inside(here, "box", "cat", "/etc/file") == "text\n"
    assert secret.read_text() == "of the host\n"
    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "stolen").exists()


def test_a_tar_stream_follows_links_inside_only(here: Installation) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("up")
        link.type, link.linkname = tarfile.SYMTYPE, "/"
        archive.addfile(link)
        file = tarfile.TarInfo("up/hk-escaped")
        file.size = 2
        archive.addfile(file, io.BytesIO(b"x\n"))
    with detached(here, "box", *SLEEP):
        subprocess.run(
            [HAKO, "container", "cp", "-", "box:/tmp"],
            env=here.env,
            input=out.getvalue(),
            check=True,
            timeout=60,
        )
        assert inside(here, "box", "cat", "/hk-escaped") == "x\n"
    assert not Path("/hk-escaped").exists()


def test_what_is_mounted_in_a_container_stays_mounted(here: Installation, folder: Path) -> None:
    with detached(here, "box", *SLEEP):
        done = container(here, "cp", str(folder / "file"), "box:/etc/hostname")

        assert done.returncode == 1
        assert "something is mounted where it shall go" in done.stderr
        assert inside(here, "box", "cat", "/etc/hostname") == "box\n"


def test_all_of_a_container_is_its_files_without_processes_and_devices(
    here: Installation, tmp_path: Path
) -> None:
    with detached(here, "box", *SLEEP):
        done = container(here, "cp", "box:/", str(tmp_path / "all"))

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "all/bin/sh").exists()
    for name in ("proc", "sys", "dev"):
        assert list((tmp_path / "all" / name).iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{f}/nope", "box:/tmp"), 1, "there is no "),
        (("box:/nope", "{f}"), 1, "there is no box:/nope"),
        (("{f}/file", "box:/no/such/place"), 1, "box:/no/such is not there"),
        (("{f}/file", "box:/etc/passwd/x"), 1, "box:/etc/passwd is no folder"),
        (("{f}/file", "box:/new/"), 1, "there is no such folder"),
        (("{f}", "box:/etc/passwd"), 1, "there is a file of that name"),
        (("box:/etc/passwd/", "{f}"), 1, "it is a file"),
        (("box:/etc", "{f}/file"), 1, "there is a file of that name"),
        (("{f}/file", "nobody:/tmp"), 1, "there is no container 'nobody'"),
        (("box:/etc/passwd", "{f}/fifo"), 1, "a FIFO has its name"),
        (("-", "box:/new"), 1, "there is no such folder"),
        (("-", "box:/etc/passwd"), 1, "it is a file"),
        (("-", "box:/tmp"), 1, "no whole tar stream"),
        (("{f}/file", "{f}/other"), 2, "neither path is a container's"),
        (("box:/etc", "box:/tmp"), 2, "from one container to another"),
        (("box:", "{f}"), 2, "names no path"),
        (("", "box:/tmp"), 2, "a path is empty"),
        (("-", "-"), 2, "neither path is a container's"),
        (("box:/etc",), 2, "TO"),
    ],
)
def test_what_cannot_be_copied_is_said_in_words(
    here: Installation, folder: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    if "box" not in names(here):
        container(here, "run", "-d", "--name", "box", *SLEEP)
    os.mkfifo(folder / "fifo")

    done = container(here, "cp", *(a.format(f=folder) for a in arguments), stdin="junk\n" * 200)

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")


# wait


def test_waiting_gives_exit_codes_in_the_order_of_the_names(here: Installation) -> None:
    with (
        detached(here, "slow", "small", "/bin/sh", "-c", "sleep 0.5; exit 5"),
        detached(here, "fast", "small", "/bin/sh", "-c", "exit 6"),
        detached(here, "killed", *SLEEP),
    ):
        container(here, "kill", "killed")

        done = container(here, "wait", "slow", "fast", "killed")

    assert (done.stdout, done.stderr, done.returncode) == ("5\n6\n137\n", "", 0)


def test_one_that_is_not_there_does_not_keep_from_waiting_for_others(here: Installation) -> None:
    with detached(here, "fast", "small", "/bin/sh", "-c", "exit 6"):
        done = container(here, "wait", "nobody", "fast")

    assert (done.stdout, done.returncode) == ("6\n", 1)
    assert "there is no container 'nobody'" in done.stderr


def test_a_container_of_a_command_is_waited_for_too(here: Installation) -> None:
    script = ("/bin/sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    with foreground(here, "front", "small", *script) as process:
        waiting = here.start("container", "wait", "front")
        try:
            assert process.stdout
            process.stdout.readline()
            wait_for(lambda: _has_pidfd(waiting.pid), "it waits")
            process.terminate()
            out, errors = waiting.communicate(timeout=20)
            process.communicate(timeout=20)
        finally:
            waiting.kill()
            waiting.communicate(timeout=20)

    assert process.returncode == 4
    assert out == "4\n" or "is not known" in errors


def _has_pidfd(pid: int) -> bool:
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "\nPid:" in info.read_text():
                return True
    return False


def test_a_container_is_not_started_while_its_files_are_copied(
    here: Installation, tmp_path: Path
) -> None:
    with detached(here, "busy", *SLEEP):
        container(here, "stop", "-t", "0", "busy")
        copying = subprocess.Popen(
            [HAKO, "container", "cp", "-", "busy:/tmp"],
            env=here.env,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            lock = here.home / "containers" / "busy" / "root.lock"
            wait_for(lambda: lock.exists() and not _is_free(lock), "it copies")
            refused = container(here, "start", "busy")
            copying.communicate(timeout=20)
            started = container(here, "start", "busy")
        finally:
            copying.kill()
            copying.communicate(timeout=20)

    assert "files are being copied" in refused.stderr
    assert (copying.returncode, started.returncode) == (0, 0)


def _is_free(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
