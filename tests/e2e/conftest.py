"""Installations for tests; one serves the whole run, since the base images and the builder take a while to make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.store import Store
from tests.dockerfile_world import make_base_image
from tests.e2e.apps import FLASK
from tests.e2e.installation import ROOT, Installation, new_installation
from tests.e2e.small_installation import small_installation
from tests.supervised import shared_root


@pytest.fixture(scope="session")
def shared_installation() -> Iterator[Installation]:
    """An installation that tests share: each uses services and images of its own names."""
    with new_installation() as installation:
        yield installation


@pytest.fixture(scope="session")
def seed_home(shared_installation: Installation) -> Path:
    """A home that holds the default builder; fresh installations take it over by hard links."""
    shared_installation.hako(
        "build", "hako/apps/seed", "--path", str(ROOT / "examples" / "python-web")
    )
    return shared_installation.home


@pytest.fixture
def installation(seed_home: Path) -> Iterator[Installation]:
    """An installation of the test's own, with the default builder ready."""
    with new_installation(seed_home) as installation:
        yield installation


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A small Flask app that may be edited."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "main.py").write_text(FLASK)
    (folder / "requirements.txt").write_text("flask==3.1.2\n")
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    """A home without a builder: images alone start nothing."""
    return Installation(home=tmp_path / "home", port=1, extra_env={"HOME": str(tmp_path)})


@pytest.fixture(scope="module", params=["crun", "runc"])
def each(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A home whose store has `small` and `server`, with each runtime."""
    folder = tmp_path_factory.mktemp("small")
    with small_installation(folder, HAKO_RUNTIME=request.param) as installation:
        yield installation


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with the base image of Dockerfiles; tests use names of their own."""
    with new_installation() as installation:
        with Store(installation.home) as store:
            make_base_image(store, tmp_path_factory.mktemp("base"))
        yield installation


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small root file system of a supervisor's containers."""
    return shared_root(tmp_path_factory.mktemp("small"))
