"""A disk that is full in the middle of a build, of a deploy, or under what serves: told, and nothing half-written."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hakobune.oci.store import Store
from tests.e2e.apps import SERVER
from tests.e2e.installation import Installation, new_installation
from tests.e2e.load import Load, ask

pytestmark = pytest.mark.needs_root

FREE_BYTES = 300 << 20
IMAGE = "hako/apps/big"
MAKE_ROOM = (
    r"make room there \(\d+ MB are left\), for example with `hako image prune`, "
    r"or set HAKO_HOME to a larger disk"
)
# A buildpack whose layer is as large as the source says, of bytes that cannot be compressed.
BUILDPACK = {
    "buildpack.toml": """\
api = "0.11"
[buildpack]
id = "test/fills"
version = "1.0.0"
[[targets]]
os = "linux"
""",
    "bin/detect": "#!/bin/sh\n",
    "bin/build": """\
#!/bin/sh
set -eu
mkdir -p "$CNB_LAYERS_DIR/big"
printf '[types]\\nlaunch = true\\ncache = true\\n' >"$CNB_LAYERS_DIR/big.toml"
head -c "$(cat size)" /dev/urandom >"$CNB_LAYERS_DIR/big/file"
""",
}


@pytest.fixture(scope="module")
def small(seed_home: Path) -> Iterator[Installation]:
    """An installation on a small disk of its own, with the builder and little room."""
    parts = [str(seed_home / name) for name in ("images", "snapshots", "roots", "format")]
    with new_installation() as installation:
        disk = installation.home
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(disk)], check=True)
        try:
            subprocess.run(["cp", "-a", *parts, str(disk)], check=True)
            room = os.statvfs(disk)
            size = (room.f_blocks - room.f_bfree) * room.f_frsize + FREE_BYTES
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            yield installation
            installation.hako("serve", "--stop")
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A source and the buildpack for it."""
    for name, text in BUILDPACK.items():
        file = tmp_path / "buildpack" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    (tmp_path / "app").mkdir()
    return tmp_path / "app", tmp_path / "buildpack"


def build(
    installation: Installation, folders: tuple[Path, Path], size: str, *, code: int = 0
) -> tuple[str, list[str]]:
    """Build with a layer of *size*; what is printed on stdout, and the lines of the error."""
    source, buildpack = folders
    (source / "size").write_text(size)
    done = installation.hako(
        "build", IMAGE, "--path", str(source), "--buildpack", str(buildpack), check=False
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    _, _, error = (
        done.stderr.partition("error: build") if code == 51 else done.stderr.partition("error: ")
    )
    return done.stdout, error.splitlines()


def left_bytes(installation: Installation) -> int:
    found = os.statvfs(installation.home)
    return found.f_bavail * found.f_frsize


def fill(installation: Installation, *, but: int = 0) -> None:
    """Leave *but* bytes on the disk."""
    with (installation.home / "filling").open("wb") as file, suppress(OSError):
        while (size := min(left_bytes(installation) - but, 64 << 20)) > 0:
            file.write(bytes(size))


def make_room(installation: Installation) -> None:
    (installation.home / "filling").unlink()


def nothing_is_half(installation: Installation) -> bool:
    """No blob or snapshot is begun or damaged, nothing of a build runs."""
    with Store(installation.home) as store:
        assert store.verify() == ()
    assert list((installation.home / "images/.hako/partial").iterdir()) == []
    assert installation.pids() == set()
    return True


def test_a_buildpack_that_fills_the_disk_is_named_with_the_disk(
    small: Installation, folders: tuple[Path, Path]
) -> None:
    before, _ = build(small, folders, "1M")
    free = left_bytes(small)

    _, error = build(small, folders, "400M", code=51)

    assert error[0] == f" failed in buildpack test/fills 1.0.0: the disk of {small.home} is full"
    assert error[1].endswith(
        "it said: head: error writing 'standard output': No space left on device"
    )
    assert re.fullmatch(f"  fix: {MAKE_ROOM}", error[2])
    assert nothing_is_half(small)
    assert left_bytes(small) > free - (1 << 20)
    again, _ = build(small, folders, "1M")
    assert again == before


def test_a_disk_that_is_full_at_the_export_keeps_the_image_before(
    small: Installation, folders: tuple[Path, Path]
) -> None:
    before, _ = build(small, folders, "1M")
    free = left_bytes(small)

    _, error = build(small, folders, f"{free * 2 // 3}", code=1)

    assert error[0] == "cannot store a blob"
    assert error[1] == f"  why: No space left on device in {small.home}/images/.hako/partial"
    assert re.fullmatch(f"  fix: {MAKE_ROOM}", error[2])
    assert nothing_is_half(small)
    assert left_bytes(small) > free - (1 << 20)
    assert small.hako("image", "inspect", IMAGE).stdout
    after, _ = build(small, folders, "2M")
    assert after != before


def test_a_source_that_does_not_fit_is_told_before_anything_runs(
    small: Installation, folders: tuple[Path, Path]
) -> None:
    build(small, folders, "1M")
    huge = folders[0] / "huge"
    with huge.open("wb") as file:
        for _ in range(FREE_BYTES // (1 << 20) + 10):
            file.write(os.urandom(1 << 20))

    _, error = build(small, folders, "2M", code=1)

    assert error[:2] == [
        f"cannot store the build of {IMAGE}",
        f"  why: No space left on device in {small.home}",
    ]
    assert re.fullmatch(f"  fix: {MAKE_ROOM}", error[2])
    huge.unlink()
    build(small, folders, "2M")
    assert nothing_is_half(small)


def test_what_serves_goes_on_and_the_next_deploy_with_room_succeeds(
    small: Installation, tmp_path: Path
) -> None:
    source = tmp_path / "page"
    source.mkdir()
    (source / "main.py").write_text(SERVER.format(text="first"))
    small.deploy(source)

    with Load(small.port, "page.localhost", rate=20) as load:
        fill(small)
        (source / "main.py").write_text(SERVER.format(text="second"))
        from_source = small.hako("deploy", cwd=source, check=False)
        of_image = small.hako("deploy", "page", "--image", IMAGE, check=False)
        listed = small.hako("services", "list").stdout

    assert load.failures() == []
    assert load.bodies() == {b"first"}
    assert (from_source.returncode, of_image.returncode) == (1, 1)
    assert re.search(
        rf"^error: .*\. page-00001 keeps 100 %, caches kept\.\n  why: No space .*\n  fix: {MAKE_ROOM}$",
        from_source.stderr,
        re.MULTILINE,
    )
    assert re.search(
        rf"^error: cannot write {small.home}/serving/\S+\n  why: database or disk is full\n  fix: {MAKE_ROOM}$",
        of_image.stderr,
        re.MULTILINE,
    )
    assert "page-00001" in listed
    make_room(small)
    small.hako("deploy", cwd=source)
    assert ask(small.port, "page.localhost").body == b"second"
    small.hako("serve", "--stop")


def test_a_disk_without_any_room_is_told_by_commands_that_start_something(
    small: Installation,
) -> None:
    fill(small)
    try:
        for command in (
            ("container", "run", "--rm", "--entrypoint", "/bin/true", "hako/base-run:13"),
            ("image", "tag", "hako/base-run:13", "hako/other"),
            ("deploy", "other", "--image", "hako/base-run:13"),
        ):
            done = small.hako(*command, check=False, timeout_s=60)
            assert done.returncode == 1, command
            assert "Traceback" not in done.stderr
            assert re.search(f"^  fix: {MAKE_ROOM}$", done.stderr, re.MULTILINE), done.stderr
        assert "hako/base-run:13" in small.hako("image", "ls").stdout
        small.hako("serve", "--stop", timeout_s=60)
    finally:
        make_room(small)
    small.hako("image", "tag", "hako/base-run:13", "hako/other")
