"""What several suites are run on: a PostgreSQL, with databases of its own for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hakobune.state.migrate import migrate
from tests.postgresql_cluster import Cluster, running_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def template(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database to copy, by its name."""
    url = cluster.new_database()
    migrate(url, tmp_path_factory.mktemp("migrate") / "lock")
    return url.partition("@/")[2].partition("?")[0]
