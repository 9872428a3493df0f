"""One page of a list: filtered, ordered, cut, with a token that stands for the last item (pure).

A token holds the place, not a number of items: what is added or deleted between two pages neither repeats nor hides
anything else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key, partial
from typing import Any, Generic, TypeVar

from hakobune.api.artifacts_filter import Record, parse_filter
from hakobune.serving.errors import InvalidArgumentError

DEFAULT_PAGE = 100
MAX_PAGE = 1000
_CHUNK = 5000  # items read at once to filter or order them

T = TypeVar("T")
Key = Sequence[str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """What a list call asks for beside its parent."""

    page_size: int = 0
    page_token: str = ""
    filter: str = ""
    order_by: str = ""

    @property
    def size(self) -> int:
        """Items of a page; the server decides the largest."""
        return min(self.page_size or DEFAULT_PAGE, MAX_PAGE)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list; the token asks for those that follow, and is "" after the last."""

    items: tuple[T, ...]
    next_token: str


def read_list_request(query: Mapping[str, str]) -> ListRequest:
    """The list parameters of a query, in either spelling.

    Raises:
        InvalidArgumentError: the page size is no number.
    """
    size = parameter(query, "pageSize")
    if size and (not size.isdecimal() or len(size) > 9):
        raise InvalidArgumentError(f"{size!r} is no page size", field="pageSize")
    return ListRequest(
        page_size=int(size or 0),
        page_token=parameter(query, "pageToken"),
        filter=parameter(query, "filter"),
        order_by=parameter(query, "orderBy"),
    )


def parameter(query: Mapping[str, str], name: str) -> str:
    """A query's parameter by its JSON name or the proto's own (Terraform sends `repository_id`)."""
    return query.get(name) or query.get(_snake(name), "")


async def read_page(
    fetch: Callable[[str, int], Awaitable[Sequence[T]]],
    request: ListRequest,
    *,
    key: Callable[[T], str],
    record: Callable[[T], Record],
    filters: Collection[str],
    orders: Collection[str],
) -> Page[T]:
    """A page of what lies in a database by *key*: read as far as needed, or all of it for a filter or an order.

    Args:
        fetch: the next items after a key ("" for the first), at most so many.
    """
    if request.filter or request.order_by:
        found: list[T] = []
        while part := await fetch(key(found[-1]) if found else "", _CHUNK):
            found += part
            if len(part) < _CHUNK:
                break
        cut = partial(cut_page, found, request, record=record, filters=filters, orders=orders)
        return await asyncio.to_thread(cut)  # a hundred thousand items take seconds
    after = str(_read_token(request.page_token, _mark(request), 1)[0]) if request.page_token else ""
    items = await fetch(after, request.size + 1)
    page = tuple(items[: request.size])
    more = len(items) > request.size
    return Page(page, _write_token([key(page[-1])], request) if more else "")


def cut_page(
    items: Iterable[T],
    request: ListRequest,
    *,
    record: Callable[[T], Record],
    filters: Collection[str],
    orders: Collection[str],
) -> Page[T]:
    """The page of *items* that *request* asks for.

    Args:
        record: an item's fields by their JSON names; `name` is unique among the items.
        filters: fields of a filter. orders: fields of an order beside `name`.

    Raises:
        InvalidArgumentError: filter, order or token cannot be understood.
    """
    keep = parse_filter(request.filter, filters)
    order = _parse_order(request.order_by, ("name", *orders))
    keyed = [(_key(r, order), item) for item in items if keep(r := record(item))]
    compare = _comparison(order)
    place = cmp_to_key(compare)
    keyed.sort(key=lambda pair: place(pair[0]))
    if request.page_token:
        last = _read_token(request.page_token, _mark(request), len(order))
        keyed = [pair for pair in keyed if compare(pair[0], last) > 0]
    page = keyed[: request.size]
    more = len(keyed) > len(page)
    return Page(tuple(item for _, item in page), _write_token(page[-1][0], request) if more else "")


def _parse_order(text: str, fields: Collection[str]) -> tuple[tuple[str, bool], ...]:
    """Pairs of a field and whether it descends; the name comes last, so that no two items are equal."""
    order: list[tuple[str, bool]] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        words = part.split()
        name = _camel(words[0])
        if name not in fields or words[1:] not in ([], ["asc"], ["desc"]):
            raise InvalidArgumentError(
                f"{part!r} is no order",
                field="orderBy",
                fix=f"FIELD or `FIELD desc`, with FIELD of {', '.join(fields)}",
            )
        order.append((name, words[1:] == ["desc"]))
    return (*order, ("name", False))


def _key(record: Record, order: Sequence[tuple[str, bool]]) -> Key:
    return [_comparable(name, record.get(name, "")) for name, _ in order]


def _comparable(name: str, value: Any) -> str | int:
    """Sizes are int64, which are texts on the wire and numbers here."""
    if isinstance(value, int):
        return value
    return int(value or 0) if name.endswith("Bytes") else str(value)


def _comparison(order: Sequence[tuple[str, bool]]) -> Callable[[Key, Key], int]:
    def compare(a: Key, b: Key) -> int:
        for left, right, (_, descends) in zip(a, b, order, strict=True):
            # A token that somebody has made up may hold another type than the field.
            x, y = (left, right) if type(left) is type(right) else (str(left), str(right))
            if x != y:
                return 1 if (x > y) != descends else -1  # type: ignore[operator] # of one type
        return 0

    return compare


def _mark(request: ListRequest) -> int:
    return zlib.crc32(f"{request.filter}\0{request.order_by}".encode())


def _write_token(key: Key, request: ListRequest) -> str:
    return base64.urlsafe_b64encode(json.dumps([_mark(request), *key]).encode()).decode()


def _read_token(token: str, mark: int, length: int) -> Key:
    try:
        found, *values = json.loads(base64.urlsafe_b64decode(token))
        key: Key = values
        if found == mark and len(key) == length and all(map(_is_key, key)):
            return key
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidArgumentError(
        "the page token is not one of this list",
        field="pageToken",
        fix="ask for the next page with the filter and order of the first",
    )


def _is_key(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isprintable())


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
