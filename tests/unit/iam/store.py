"""A small IAM over a fresh SQLite database, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from hakobune.iam.authenticate import Authenticator
from hakobune.iam.master_key import load_master_key
from hakobune.iam.store import IamStore
from hakobune.registry.authorize import Authorizer
from hakobune.registry.generation import Generation
from hakobune.state.migrate import migrate
from hakobune.state.sql import open_sql

T = TypeVar("T")
START_S = 1_800_000_000
OWNER_TOKEN = "hako-" + "t" * 43
_template: list[bytes] = []


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.s = float(START_S)

    def microseconds(self) -> int:
        return int(self.s * 1_000_000)

    def seconds(self) -> float:
        return self.s


class Iam:
    """The store and what stands around it in a worker."""

    def __init__(self, store: IamStore, generation: Generation, clock: Clock) -> None:
        self.store = store
        self.generation = generation
        self.clock = clock
        self.authenticator = Authenticator(store, owner_token=lambda: OWNER_TOKEN)
        self.authorizer = Authorizer(store, self.authenticator, generation, clock=clock.seconds)


@asynccontextmanager
async def an_iam(home: Path, clock: Clock | None = None, *, url: str = "") -> AsyncIterator[Iam]:
    """One process's IAM; call it twice with one *home* and there are two. *url* is of another database than SQLite."""
    path = home / "meta.db"
    if not url and not path.exists():
        path.write_bytes(_migrated(home))
    clock = clock or Clock()
    generation = Generation(home / "generation")
    sql = await open_sql(url or f"sqlite:///{path}")
    try:
        yield Iam(
            IamStore(
                sql,
                master=load_master_key(home / "master.key"),
                changed=generation.bump,
                clock=clock.microseconds,
                monotonic=clock.seconds,
            ),
            generation,
            clock,
        )
    finally:
        await sql.close()
        generation.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one test's coroutine on a loop of its own."""
    return asyncio.run(work)


def _migrated(home: Path) -> bytes:
    """An empty database; made once a test session, since Alembic takes longer than a test."""
    if not _template:
        path = home / "template.db"
        migrate(f"sqlite:///{path}", home / "migrate.lock")
        _template.append(path.read_bytes())
    return _template[0]
