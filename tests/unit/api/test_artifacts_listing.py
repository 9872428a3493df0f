"""Pages, orders and tokens of Artifact Registry's lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.api.artifacts_listing import (
    MAX_PAGE,
    ListRequest,
    Page,
    cut_page,
    parameter,
    read_list_request,
)
from hakobune.serving.errors import InvalidArgumentError

ITEMS = [
    {"name": "b", "updateTime": "2", "sizeBytes": "10"},
    {"name": "a", "updateTime": "3", "sizeBytes": "9"},
    {"name": "c", "updateTime": "3", "sizeBytes": "100"},
]


def page(items=ITEMS, **request) -> Page:
    return cut_page(
        items,
        ListRequest(**request),
        record=lambda item: item,
        filters=("name",),
        orders=("updateTime", "sizeBytes"),
    )


def names(page: Page) -> list[str]:
    return [item["name"] for item in page.items]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("", "abc"),
        ("name desc", "cba"),
        ("update_time", "bac"),
        ("updateTime desc", "acb"),
        ("size_bytes", "abc"),
        ("update_time desc, name desc", "cab"),
    ],
)
def test_items_come_in_the_order_that_is_asked_for(order, expected):
    assert "".join(names(page(order_by=order))) == expected


@pytest.mark.parametrize("order", ["colour", "name down", "name desc extra", "name asc,colour"])
def test_an_unknown_order_is_refused(order):
    with pytest.raises(InvalidArgumentError, match="is no order"):
        page(order_by=order)


@given(st.lists(st.text("ab1", min_size=1), unique=True), st.integers(1, 5), st.sampled_from(["", "name desc", "update_time desc"]))  # fmt: skip
def test_pages_put_together_are_the_list(found, size, order):
    items = [{"name": name, "updateTime": str(len(name))} for name in found]
    whole = names(page(items, order_by=order, page_size=1000))

    seen, token = [], ""
    while True:
        part = page(items, order_by=order, page_size=size, page_token=token)
        seen += names(part)
        token = part.next_token
        if not token:
            break

    assert seen == whole
    assert sorted(seen) == sorted(found)


def test_what_is_deleted_between_pages_hides_nothing_else():
    first = page(page_size=2)

    second = page(ITEMS[:1] + ITEMS[2:], page_size=2, page_token=first.next_token)

    assert names(first) == ["a", "b"]
    assert names(second) == ["c"]


@pytest.mark.parametrize("token", ["x", "bm90IGpzb24=", "WzEsMl0=", "ITEMS"])
def test_a_foreign_token_is_refused(token):
    with pytest.raises(InvalidArgumentError, match="page token"):
        page(page_token=token)


def test_a_token_of_another_order_is_refused():
    first = page(page_size=1, order_by="update_time")

    with pytest.raises(InvalidArgumentError, match="page token"):
        page(page_size=1, page_token=first.next_token)


def test_parameters_are_read_in_both_spellings():
    query = {"page_size": "5000", "orderBy": "name", "repository_id": "web"}

    request = read_list_request(query)

    assert (request.size, request.order_by) == (MAX_PAGE, "name")
    assert parameter(query, "repositoryId") == "web"
    with pytest.raises(InvalidArgumentError, match="no page size"):
        read_list_request({"pageSize": "-1"})
