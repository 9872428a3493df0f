"""`hako dockerfile build` with everything real: sandboxes, overlays, the cache, failures, secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.dockerfile_world import BASE, fill, make_base_image
from tests.e2e.installation import Installation, new_installation

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with the base image; tests use names of their own."""
    with new_installation() as installation:
        with Store(installation.home) as store:
            make_base_image(store, tmp_path_factory.mktemp("base"))
        yield installation


def build(world: Installation, folder: Path, *arguments: str, check: bool = True) -> str:
    """Build *folder*; gives what was printed on stderr."""
    done = world.hako("dockerfile", "build", *arguments, str(folder), check=check, timeout_s=120)
    if not check:
        assert done.returncode != 0
    return done.stderr


def image_of(world: Installation, name: str) -> Image:
    with Store(world.home) as store:
        image = store.find_image(Reference.parse(name))
    assert image is not None
    return image


def run_in(world: Installation, name: str, *command: str) -> str:
    return world.hako("container", "run", "--rm", name, *command).stdout


def test_a_dockerfile_becomes_an_image_that_runs(world: Installation, tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "Dockerfile": f"FROM {BASE}\nARG WHO=world\nENV GREETING=hello\nWORKDIR /app\nCOPY . .\n"
            'RUN echo "$GREETING $WHO" >said\nUSER app\nCMD ["/bin/cat", "said", "sub/file"]\n',
            "sub/file": "file\n",
        },
    )

    build(world, tmp_path, "-t", "first", "--build-arg", "WHO=there")

    assert run_in(world, "first") == "hello there\nfile\n"
    image = image_of(world, "first")
    assert image.config.config.user == "app"
    assert image.config.config.working_dir == "/app"
    assert [(line.created_by, line.empty_layer) for line in image.config.history[1:]] == [
        ("ARG WHO=there", True),
        ("ENV GREETING=hello", True),
        ("WORKDIR /app", False),
        ("COPY . .", False),
        ('RUN |1 WHO=there /bin/sh -c echo "$GREETING $WHO" >said', False),
        ("USER app", True),
        ('CMD ["/bin/cat" "said" "sub/file"]', True),
    ]


def test_an_unchanged_build_gives_the_same_image_and_runs_nothing(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nCOPY file /\nRUN date +%N >/now\n", "file": "1"})
    build(world, tmp_path, "-t", "same")
    first = image_of(world, "same")

    os.utime(tmp_path / "file", (1, 1))
    told = build(world, tmp_path, "-t", "same")

    assert image_of(world, "same").digest == first.digest
    assert told.count("CACHED") == 2
    assert "nothing has changed" in told


def test_a_changed_file_runs_what_depends_on_it_and_nothing_before(
    world: Installation, tmp_path: Path
) -> None:
    text = f"FROM {BASE}\nRUN date +%N >/before\nCOPY file /\nRUN date +%N >/after\n"
    fill(tmp_path, {"Dockerfile": text, "file": "1"})
    build(world, tmp_path, "-t", "changed")
    first = image_of(world, "changed")

    fill(tmp_path, {"file": "2"})
    build(world, tmp_path, "-t", "changed")

    second = image_of(world, "changed")
    same = [a == b for a, b in zip(first.diff_ids, second.diff_ids, strict=True)]
    assert same == [True, True, False, False]
