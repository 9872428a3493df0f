"""One installation for the whole run, since the base images and the builder take a while to make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, Installation, new_installation


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
