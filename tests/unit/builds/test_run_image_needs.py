from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.buildpack.launch import Label
from hakobune.builds.run_image_needs import Needs, check_needs, missing_needs, read_needs
from hakobune.errors import HakoError
from hakobune.oci.reference import Reference

TINY = Reference.parse("hako/base-tiny:13")


def a_label(value: str, name: str = "python") -> Label:
    return Label(key=f"com.hakobune.run-image.needs.{name}", value=value)


def a_run_image(folder: Path, *files: str) -> list[Path]:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return [folder]


def test_needs_of_several_buildpacks_come_together_once() -> None:
    labels = (
        a_label('{"commands": ["bash"], "libraries": ["libpq.so.5"]}'),
        a_label('{"commands": ["bash", "git"]}', "procfile"),
        Label(key="maintainer", value="{}"),
        a_label("not JSON", "other"),
    )

    assert read_needs(labels) == Needs(commands=("bash", "git"), libraries=("libpq.so.5",))


def test_commands_are_looked_for_on_the_path_of_the_run_image() -> None:
    there = {"/opt/bin/bash", "/usr/bin/git", "/usr/lib/libz.so.1"}
    needs = Needs(commands=("bash", "git"), libraries=("libz.so.1", "libpq.so.5"))

    assert missing_needs(needs, path="", exists=there.__contains__) == Needs(
        commands=("bash",), libraries=("libpq.so.5",)
    )
    assert missing_needs(needs, path="/opt/bin", exists=there.__contains__).commands == ("git",)


def test_a_missing_command_stops_the_build_and_a_missing_library_is_said(tmp_path: Path) -> None:
    trees = a_run_image(tmp_path, "usr/bin/git")

    with pytest.raises(HakoError) as raised:
        check_needs(read_needs([a_label('{"commands": ["bash", "git", "sed"]}')]), trees, {}, TINY)
    said = check_needs(read_needs([a_label('{"libraries": ["libpq.so.5"]}')]), trees, {}, TINY)

    assert raised.value.what == "the app cannot run on hako/base-tiny:13"
    assert "needs bash and sed, which" in raised.value.why
    assert said == "hako/base-tiny:13 lacks libpq.so.5: add the packages in a run.Dockerfile"


def test_what_is_there_is_not_mentioned(tmp_path: Path) -> None:
    trees = a_run_image(tmp_path, "bin/bash", "usr/lib/x86_64-linux-gnu/libpq.so.5")
    label = a_label('{"commands": ["bash"], "libraries": ["libpq.so.5"]}')

    assert check_needs(read_needs([label]), trees, {"PATH": "/bin"}, TINY) == ""
