"""`hako dockerfile build --check`: warnings without a build, and with one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.store import Store
from tests.dockerfile_world import BASE, fill, make_base_image
from tests.e2e.installation import Installation, new_installation

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]
TEXT = f"FROM {BASE}\nENV A=$NOPE_AT_ALL\nRUN touch /ran\nCOPY gone /\nCMD cat \\\n  /ran\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with new_installation() as installation:
        with Store(installation.home) as store:
            make_base_image(store, tmp_path_factory.mktemp("base"), on_build=("ENV B=$NOR_THIS",))
        yield installation


def test_a_check_tells_everything_and_builds_nothing(world: Installation, tmp_path: Path) -> None:
    fill(tmp_path, {"Dockerfile": TEXT, ".dockerignore": "gone\n"})

    done = world.hako("dockerfile", "build", "--check", str(tmp_path), check=False)

    assert done.returncode == 1
    assert done.stdout == (
        "Dockerfile:1: $NOR_THIS is not set\n"
        f"     1 | FROM {BASE}\n"
        "       = UndefinedVar: https://docs.docker.com/go/dockerfile/rule/undefined-var/\n\n"
        "Dockerfile:2: $NOPE_AT_ALL is not set\n"
        "     2 | ENV A=$NOPE_AT_ALL\n"
        "       = UndefinedVar: https://docs.docker.com/go/dockerfile/rule/undefined-var/\n\n"
        "Dockerfile:4: COPY gone: .dockerignore:1 (gone) leaves it out\n"
        "     4 | COPY gone /\n"
        "       = CopyIgnoredFile: https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/\n\n"
        'Dockerfile:5: CMD in shell form: the program does not get the stop signal; write CMD ["program", "argument"]\n'
        "     5 | CMD cat \\\n"
        "     6 |   /ran\n"
        "       = JSONArgsRecommended: https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n\n"
        "4 warnings\n"
    )
    assert not (world.home / "dockerfile" / "steps").exists()


def test_a_check_is_json_for_programs_and_says_what_it_cannot_know(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": "FROM not-here:1\nENV A=$B\nENV A 1\n"})

    done = world.hako(
        "dockerfile", "build", "--check", "--format", "json", str(tmp_path), check=False
    )

    assert done.returncode == 1
    assert [(one["ruleName"], one["line"]) for one in json.loads(done.stdout)["warnings"]] == [
        ("LegacyKeyValueFormat", 3)
    ]
    assert "not-here:1 is not here" in done.stderr


def test_a_file_without_faults_passes_and_one_with_a_mistake_is_an_error(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": "FROM scratch\nCOPY . /\n"})
    assert world.hako("dockerfile", "build", "--check", str(tmp_path)).stdout == "no warnings\n"

    fill(tmp_path, {"Dockerfile": "FROM scratch\nCOPPY . /\n"})
    done = world.hako("dockerfile", "build", "--check", str(tmp_path), check=False)

    assert done.returncode == 1
    assert "Dockerfile:2:1: COPPY: unknown instruction" in done.stderr


def test_a_build_tells_its_warnings_after_its_steps(world: Installation, tmp_path: Path) -> None:
    text = TEXT.replace("COPY gone /\n", "")
    fill(tmp_path, {"Dockerfile": text})

    told = world.hako("dockerfile", "build", str(tmp_path)).stderr

    assert told.index("RUN touch /ran") < told.index("(UndefinedVar)")
    assert "(JSONArgsRecommended)" in told

    fill(tmp_path, {"Dockerfile": text.replace("touch /ran", "exit 3")})
    failed = world.hako("dockerfile", "build", str(tmp_path), check=False).stderr

    assert failed.index("(JSONArgsRecommended)") < failed.index("it ended with exit code 3")
