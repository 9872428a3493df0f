"""What all parts of `registry.metadata` have in common: the database, the clock, the generation and how statements take many values."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

from hakobune.registry.errors import RegistryError
from hakobune.registry.generation import Generation
from hakobune.registry.repository import Repository
from hakobune.state.audit import record
from hakobune.state.sql import Sql, Transaction

T = TypeVar("T")
Clock = Callable[[], int]

DEFAULT_GRACE_S: Final = 24 * 3600
SECOND: Final = 1_000_000  # in the unit of every time here
_SIZES: Final = (1, 4, 16, 64, 256)


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Rows:
    """The base of the parts; see `Metadata`."""

    def __init__(
        self,
        sql: Sql,
        generation: Generation,
        clock: Clock = now_us,
        *,
        grace_s: float = DEFAULT_GRACE_S,
    ) -> None:
        self.sql = sql
        self.generation = generation
        self.clock = clock
        self.grace_us = int(grace_s * SECOND)

    async def transact(
        self, work: Callable[[Transaction], Coroutine[Any, Any, tuple[T, bool]]]
    ) -> T:
        """Run *work*, which also says whether anything that is cached has changed, and tell all caches if so."""

        async def announced(transaction: Transaction) -> tuple[T, bool]:
            result, changed = await work(transaction)
            if changed:
                await transaction.announce()
            return result, changed

        result, changed = await self.sql.transact(announced)
        if changed:
            self.generation.bump()
        return result

    async def audit(self, actor: str, verb: str, resource: str, detail: str = "") -> None:
        """Note an act that changes nothing else in the database."""

        async def work(transaction: Transaction) -> None:
            await record(transaction, self.clock(), actor, verb, resource, detail)

        await self.sql.transact(work)


def image_resource(repository: Repository, image: str) -> str:
    """The package of an image, as the audit trail names it (a / in its name is %2F there)."""
    return f"{repository.resource}/packages/{image.replace('/', '%2F')}"


def name_unknown(repository: Repository, image: str = "") -> RegistryError:
    name = f"{repository.path}/{image}" if image else repository.path
    return RegistryError("NAME_UNKNOWN", f"{name} is not known to this registry", {"name": name})


def manifest_unknown(repository: Repository, image: str, reference: str) -> RegistryError:
    return RegistryError(
        "MANIFEST_UNKNOWN",
        f"{repository.path}/{image} has no {'manifest' if ':' in reference else 'tag'} {reference}",
        {"name": f"{repository.path}/{image}", "reference": reference},
    )


def padded(values: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """*values* in groups of a few fixed sizes, the last value repeated, so that there are few statements to prepare."""
    rest = list(values)
    while rest:
        size = next((s for s in _SIZES if s >= len(rest)), _SIZES[-1])
        group, rest = rest[:size], rest[size:]
        yield tuple(group + group[-1:] * (size - len(group)))


def places(first: int, count: int) -> str:
    """`$3, $4, $5` for 3, 3."""
    return ", ".join(f"${n}" for n in range(first, first + count))
