"""What BuildKit makes of a Dockerfile, this makes of it: trees, configurations and histories are compared with its recorded answers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hakobune.dockerfile.build import build
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress
from hakobune.settings import Settings
from tests.contract.dockerfile_cases import CASES, Case, fill_context
from tests.dockerfile_world import described, make_base_image

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]
ANSWERS: dict[str, dict[str, object]] = json.loads(
    Path(__file__).with_name("buildkit_answers.json").read_text()
)


@dataclass(frozen=True, slots=True)
class World:
    store: Store
    settings: Settings
    base: Image


@contextmanager
def a_world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="hk-df-", dir="/tmp") as name:
        home = Path(name) / "home"
        settings = Settings.from_environment({"HAKO_HOME": str(home)}, uid=0)
        with Store(home) as store:
            yield World(store, settings, make_base_image(store, Path(name)))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with a_world() as world:
        yield world


def build_case(world: World, case: Case, folder: Path) -> Image:
    fill_context(folder / "c", case.files)
    (folder / "Dockerfile").write_bytes(case.dockerfile.encode())
    request = DockerfileRequest(
        context=folder / "c",
        dockerfile=folder / "Dockerfile",
        args=case.args,
        target=case.target,
        platform=Platform.host(),
        pull="never",
        network="none",
    )
    return build(request, world.store, world.settings, SilentProgress()).image


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_the_image_is_what_buildkit_makes(world: World, case: Case, tmp_path: Path) -> None:
    answer = ANSWERS[case.name]
    assert case.fails == ("fails" in answer)
    if case.fails:
        with pytest.raises(HakoError):
            build_case(world, case, tmp_path)
        return

    image = build_case(world, case, tmp_path)

    assert described(world.store, image, world.base) == answer


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]

    assert len(names) == len(set(names))
    assert set(names) == set(ANSWERS)
