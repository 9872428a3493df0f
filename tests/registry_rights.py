"""Rights in a registry that runs, given as its API gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hakobune.iam.opened import open_iam
from hakobune.iam.policy import Binding, make_policy
from hakobune.iam.principal import user
from hakobune.iam.store import IamStore
from hakobune.registry.generation import Generation
from hakobune.state.sql import open_sql
from tests.registry_server import HakoRegistry

READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"
T = TypeVar("T")


def set_policy(registry: HakoRegistry, resource: str, *bindings: tuple[str, str]) -> None:
    """Make `(role, member)` pairs all the rights on `projects/P` or `projects/P/locations/L/repositories/R`."""

    async def change(iam: IamStore) -> None:
        policy = make_policy(tuple(Binding(role, (member,)) for role, member in bindings))
        await iam.policies.set(resource, policy, etag="", actor="owner")

    _with_iam(registry, change)


def access_token(registry: HakoRegistry, email: str) -> str:
    """An access token of a person."""

    async def issue(iam: IamStore) -> str:
        return (await iam.issue_access_token(user(email)))[0]

    return _with_iam(registry, issue)


def _with_iam(registry: HakoRegistry, work: Callable[[IamStore], Awaitable[T]]) -> T:
    async def run() -> T:
        sql = await open_sql(f"sqlite:///{registry.home}/registry/meta.db")
        generation = Generation(registry.home / "registry/generation")
        try:
            return await work(open_iam(registry.home, sql, changed=generation.bump).store)
        finally:
            await sql.close()
            generation.close()

    return asyncio.run(run())
