from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.builds.history import KEPT, BuildHistory
from hakobune.errors import HakoError
from hakobune.progress import RecordedProgress, SilentProgress


def a_build(history: BuildHistory, *lines: str, image: str = "shop", error: str = "") -> None:
    try:
        with history.recording(image, "/src", SilentProgress()) as recording:
            for line in lines:
                recording.output(line)
            if error:
                raise HakoError(error, why="it is so")
            recording.digest = "sha256:1"
    except HakoError:
        pass


def test_what_a_build_told_is_kept_and_passed_on(tmp_path: Path) -> None:
    history, seen = BuildHistory(tmp_path), RecordedProgress()

    with history.recording("shop", "/src", seen) as recording:
        recording.phase("BUILDING", "2 buildpacks")
        recording.step("keeps venv")
        recording.output("Resolved 3 packages")
        recording.note("no lock file", warning=True)
        recording.digest = "sha256:1"

    assert history.lines(1) == (
        "===> BUILDING 2 buildpacks",
        "keeps venv",
        "Resolved 3 packages",
        "warning: no lock file",
    )
    assert [kind for kind, _ in seen.events] == ["phase", "step", "output", "warning"]
    build = history.last("shop")
    assert build is not None
    assert (build.number, build.state, build.digest, build.error) == (
        1,
        "succeeded",
        "sha256:1",
        "",
    )


def test_a_failed_build_says_what_failed(tmp_path: Path) -> None:
    history = BuildHistory(tmp_path)

    a_build(history, "one", error="build failed in buildpack hako/python")

    assert [(b.state, b.error) for b in history.builds()] == [
        ("failed", "build failed in buildpack hako/python")
    ]
    assert history.lines(1) == ("one", "error: build failed in buildpack hako/python")


def test_a_build_that_tells_nothing_leaves_no_trace(tmp_path: Path) -> None:
    history = BuildHistory(tmp_path)

    a_build(history)

    assert history.builds() == ()
    assert list(tmp_path.iterdir()) == []


def test_a_build_without_an_end_runs_as_long_as_its_log_is_locked(tmp_path: Path) -> None:
    history = BuildHistory(tmp_path)

    number, log = history.begin("shop", "/src")
    with log:
        running = history.find(number)
    killed = history.find(number)

    assert running is not None
    assert running.state == "running"
    assert killed is not None
    assert killed.state == "killed"


def test_builds_are_numbered_for_good_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    history = BuildHistory(tmp_path)

    for _ in range(KEPT + 2):
        a_build(history, "x")

    numbers = [build.number for build in history.builds()]
    assert numbers == list(range(KEPT + 2, 2, -1))
    assert len(list((tmp_path / "builds/logs").iterdir())) == 2 * KEPT
    with pytest.raises(FileNotFoundError):
        history.lines(1)


def test_the_last_build_of_an_image_is_found_among_others(tmp_path: Path) -> None:
    history = BuildHistory(tmp_path)

    a_build(history, "x", image="shop")
    a_build(history, "y", image="blog")

    found = history.last("shop")
    assert found is not None
    assert history.lines(found.number) == ("x",)
    assert history.last("wiki") is None


def test_a_log_that_cannot_be_written_does_not_end_the_build(tmp_path: Path) -> None:
    (tmp_path / "builds").write_text("in the way")
    history, seen = BuildHistory(tmp_path), RecordedProgress()

    with history.recording("shop", "/src", seen) as recording:
        recording.output("goes on")

    assert seen.texts("output") == ("goes on",)
