"""What is asked of a registry, as a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Body = Callable[[], bytes | Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send. `body` is called again for every try."""

    method: str
    url: str
    what: str  # for the error: "cannot pull registry.test/web:v2"
    headers: Mapping[str, str]
    expected: frozenset[int]
    body: Body | None = None
    scopes: tuple[str, ...] = ()
    anonymous: bool = False  # a foreign layer's URL gets no credentials
    again: bool = True  # sending it twice does no harm
    secret: bool = False  # no redirect takes it to another host
    read_limit: int | None = None  # read the body up to one byte more, and close the answer


def plain_scopes(repository: str, actions: str, also: Sequence[str] = ()) -> tuple[str, ...]:
    """The scopes of a token for *repository*, and for pulling from the repositories *also* (mounts)."""
    if not actions:
        return ()
    return (
        f"repository:{repository}:{actions}",
        *(f"repository:{other}:pull" for other in also),
    )
