"""`hako deploy --dockerfile`: a Dockerfile to a URL, and again after a change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerfile_world import fill
from tests.e2e.installation import ROOT, Installation
from tests.e2e.small_installation import small_installation

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Installation]:
    (tmp_path / "root").mkdir()
    with small_installation(tmp_path / "root") as installation:
        yield installation


def test_a_dockerfile_is_built_and_served(world: Installation, tmp_path: Path) -> None:
    text = 'FROM server AS base\nFROM base AS web\nARG WHO=x\nRUN echo $WHO >/who\nENTRYPOINT ["/srv"]\nFROM base AS other\nRUN false\n'
    source = fill(tmp_path / "shop", {"Dockerfile": text})

    done = world.hako(
        "deploy", "--dockerfile", str(source), "--target", "web", "--build-arg", "WHO=me"
    )

    assert done.stdout.startswith("http://")
    assert world.get(host="shop.localhost") == (200, b"ok\n")
    assert "Dockerfile · 1 layer made" in done.stderr
    again = world.hako(
        "deploy", "--dockerfile", str(source), "--target", "web", "--build-arg", "WHO=me"
    )
    assert "nothing has changed" in again.stderr

    fill(source, {"Dockerfile": text.replace("echo", "exit 9 #")})
    failed = world.hako(
        "deploy",
        "--dockerfile",
        "Dockerfile",
        "--source",
        str(source),
        "--target",
        "web",
        cwd=source,
        check=False,
    )
    assert failed.returncode == 1
    assert "Dockerfile:4: RUN exit 9" in failed.stderr
    assert world.get(host="shop.localhost") == (200, b"ok\n")


def test_a_folder_that_no_buildpack_knows_is_built_with_its_dockerfile(
    shared_installation: Installation, tmp_path: Path
) -> None:
    text = "FROM hako/base-run:13\nCOPY server.pl /srv/\nCMD exec perl /srv/server.pl $PORT\n"
    server = (ROOT / "examples/procfile-shell/server.pl").read_text()
    source = fill(tmp_path / "ledgers", {"Dockerfile": text, "server.pl": server})

    done = shared_installation.hako("deploy", "--source", str(source))

    assert "no buildpack knows this folder: its Dockerfile is used" in done.stderr
    assert shared_installation.get(host="ledgers.localhost")[0] == 200


def test_arguments_of_dockerfiles_need_one(world: Installation, tmp_path: Path) -> None:
    done = world.hako("deploy", "--build-arg", "A=1", str(tmp_path), check=False)

    assert done.returncode == 2
    assert "hako deploy --dockerfile --build-arg" in done.stderr
