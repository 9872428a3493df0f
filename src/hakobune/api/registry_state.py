"""The registry as the APIs see it: its database, opened by the first call that needs it, and what stands on that."""

from __future__ import annotations

from dataclasses import dataclass

from hakobune.iam.opened import Iam, open_iam
from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.settings import Settings
from hakobune.state.sql_on_demand import SqlOnDemand


@dataclass(frozen=True, slots=True)
class RegistryState:
    """One a process, on its loop; the same classes as in the registry's workers, over the same database."""

    sql: SqlOnDemand
    generation: Generation
    metadata: Metadata
    iam: Iam

    async def close(self) -> None:
        await self.sql.close()
        self.generation.close()


async def open_registry_state(settings: Settings) -> RegistryState:
    """Ready for calls; nothing is read or migrated yet.

    Raises:
        MasterKeyError: the master key cannot be read.
    """
    settings.registry.mkdir(parents=True, exist_ok=True)
    sql = SqlOnDemand(settings.registry_database, lock=settings.registry / "migrate.lock")
    generation = Generation(settings.registry / "generation")
    await sql.listen(generation.bump)
    iam = open_iam(settings.home, sql, changed=generation.bump)
    return RegistryState(sql, generation, Metadata(sql, generation), iam)
