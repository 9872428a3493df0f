"""A build is a transaction: killed or failed at any moment it leaves nothing running, nothing mounted, nothing half done."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.apps import FLASK
from tests.e2e.image_runner import ask
from tests.e2e.installation import HAKO, Installation, wait_until
from tests.mounts import tiny_disk

pytestmark = pytest.mark.needs_root


def slow_buildpack(folder: Path, build: str) -> Path:
    """A buildpack whose build runs *build* in sh."""
    files = {
        "buildpack.toml": 'api = "0.12"\n[buildpack]\nid = "slow/one"\nversion = "1.0.0"\n',
        "bin/detect": "#!/bin/sh\n",
        "bin/build": f"#!/bin/sh\n{build}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def digest(installation: Installation, name: str = "web") -> str:
    with Store(installation.home) as store:
        image = store.find_image(Reference.parse(name))
    return str(image.digest) if image else ""


def mounts_of(installation: Installation) -> list[str]:
    """Mounts below the home in any mount namespace of the machine."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                lines = Path(f"/proc/{entry}/mountinfo").read_text().splitlines()
            except OSError:
                continue
            found |= {line for line in lines if str(installation.home) in line}
    return sorted(found)


def leftovers(
    installation: Installation, name: str = "docker.io%2Flibrary%2Fweb%3Alatest"
) -> set[str]:
    folder = installation.home / "builds" / name
    return {re.sub(r"\..*", "", p.name) for p in folder.iterdir()}


def test_a_build_killed_at_any_moment_leaves_the_last_image_and_caches_whole(
    installation: Installation, app: Path
) -> None:
    started = time.monotonic()
    installation.hako("build", "web", "--path", str(app))
    whole_s = time.monotonic() - started
    chance = random.Random(7)

    for attempt in range(10):
        (app / "main.py").write_text(FLASK.replace("one", f"attempt {attempt}"))
        (app / "requirements.txt").write_text(f"flask==3.1.{attempt % 3}\n")
        process = installation.start("build", "web", "--path", str(app))
        try:
            time.sleep(chance.uniform(0.02, whole_s))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        wait_until(lambda: not installation.pids(), timeout_s=5, what="the end of all processes")
        assert mounts_of(installation) == []
        with Store(installation.home) as store:
            image = store.find_image(Reference.parse("web"))
            assert image is not None
            assert all(store.has_blob(layer.digest) for layer in image.manifest.layers)

    (app / "main.py").write_text(FLASK.replace("one", "the end"))
    text = installation.hako("build", "web", "--path", str(app)).stderr

    assert "Installed" in text or "nothing they depend on has changed" in text
    assert "the end" in ask(installation.home, "web")
    assert leftovers(installation) == {"lock", "record", "report", "source"}
    with Store(installation.home) as store:
        assert store.verify() == ()


def test_a_failed_build_keeps_the_kept_layers_for_the_next(
    installation: Installation, app: Path, tmp_path: Path
) -> None:
    build = (
        "L=$CNB_LAYERS_DIR/l; [ -d $L ] && cat $L/count; mkdir -p $L; echo x >> $L/count\n"
        "printf '[types]\\ncache = true\\n' > $L.toml\n"
        'printf \'[[processes]]\\ntype = "web"\\ncommand = ["/bin/true"]\\n\' > $CNB_LAYERS_DIR/launch.toml\n'
        "[ ! -e fail ] || { rm -rf $L; exit 3; }"
    )
    flags = ("--path", str(app), "--buildpack", str(slow_buildpack(tmp_path / "bp", build)))
    installation.hako("build", "web", *flags)
    (app / "fail").touch()
    assert installation.hako("build", "web", *flags, check=False).returncode == 51
    (app / "fail").unlink()

    text = installation.hako("build", "web", *flags, "--rebuild").stderr

    assert "\nx\n===> EXPORTING" in text


def test_ctrl_c_ends_what_the_build_started(
    installation: Installation, app: Path, tmp_path: Path
) -> None:
    bp = slow_buildpack(tmp_path / "bp", "echo sleeping; sleep 300 & sleep 300")
    process = installation.start("build", "web", "--path", str(app), "--buildpack", str(bp))
    assert process.stderr is not None
    for line in process.stderr:
        if "sleeping" in line:
            break

    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=10)

    assert process.returncode == 130
    wait_until(lambda: not installation.pids(), timeout_s=5, what="the end of all processes")
    assert leftovers(installation) <= {"lock", "source"}


def test_builds_of_one_image_wait_for_each_other(
    installation: Installation, app: Path, tmp_path: Path
) -> None:
    build = (
        'printf \'[[processes]]\\ntype = "web"\\ncommand = ["/bin/true"]\\n\' > $CNB_LAYERS_DIR/launch.toml\n'
        "echo sleeping; sleep 2"
    )
    bp = slow_buildpack(tmp_path / "bp", build)
    arguments = ("build", "web", "--path", str(app), "--buildpack", str(bp))
    first = installation.start(*arguments)
    try:
        assert first.stderr is not None
        for line in first.stderr:
            if "sleeping" in line:
                break

        second = installation.hako(*arguments)
    finally:
        first.communicate()

    assert "waiting for another build of web" in second.stderr
    assert "nothing that goes in has changed" in second.stderr
    assert first.returncode == 0


def test_builds_of_several_images_run_side_by_side(installation: Installation, app: Path) -> None:
    processes = [
        installation.start("build", f"web{i}", "--path", str(app), "--quiet") for i in range(3)
    ]

    results = [process.communicate(timeout=120) for process in processes]

    assert [p.returncode for p in processes] == [0, 0, 0], results
    assert len({out.strip().partition("@")[2] for out, _ in results}) == 1


def test_an_edit_during_the_build_is_not_torn_and_the_next_build_sees_it(
    installation: Installation, app: Path, tmp_path: Path
) -> None:
    build = (
        'printf \'[[processes]]\\ntype = "web"\\ncommand = ["/bin/true"]\\n\' > $CNB_LAYERS_DIR/launch.toml\n'
        "echo sleeping; sleep 1; cat /workspace/main.py"
    )
    bp = slow_buildpack(tmp_path / "bp", build)
    arguments = ("build", "web", "--path", str(app), "--buildpack", str(bp))
    process = installation.start(*arguments)
    assert process.stderr is not None
    for line in process.stderr:
        if "sleeping" in line:
            break
    (app / "main.py").write_text("edited")
    _, rest = process.communicate()

    assert FLASK in rest
    assert "edited" in installation.hako(*arguments).stderr


def test_a_rebuild_with_nothing_changed_opens_no_file_of_a_kept_layer(
    installation: Installation, app: Path, tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    installation.hako("build", "web", "--path", str(app))
    record = next((installation.home / "builds").glob("*/record.json"))
    kept = json.loads(record.read_text())["kept"]
    keys = [layer["snapshot"] for b in kept["buildpacks"] for layer in b["layers"].values()]
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=openat,openat2,open", "-o", str(trace)]
    command += [HAKO, "build", "web", "--path", str(app), "--rebuild"]

    done = subprocess.run(
        command, env=installation.env, capture_output=True, text=True, timeout=300
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    opened = [
        line
        for line in trace.read_text().splitlines()
        if any(f"snapshots/{key}/tree/" in line for key in keys)
    ]
    assert opened == []


def test_a_full_disk_is_said_in_words_and_leaves_nothing(seed_home: Path, app: Path) -> None:
    with tiny_disk(30_000_000) as disk:
        installation = Installation(home=disk, port=1)

        done = installation.hako("build", "web", "--path", str(app), check=False)

        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "disk" in done.stderr or "No space" in done.stderr or "space" in done.stderr
