import asyncio
from pathlib import Path

import pytest

from hakobune.state.errors import DatabaseError
from hakobune.state.sql_on_demand import SqlOnDemand


def test_nothing_is_made_before_the_first_statement_and_then_all_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        sql = SqlOnDemand(f"sqlite:///{tmp_path}/r/meta.db", lock=tmp_path / "r" / "lock")
        await sql.listen(lambda: None)
        assert not sql.is_open
        assert list(tmp_path.iterdir()) == []

        try:
            answers = await asyncio.gather(
                *(sql.fetch_row("SELECT count(*) FROM repository") for _ in range(3))
            )
        finally:
            await sql.close()

        assert answers == [(0,)] * 3

    asyncio.run(story())


def test_one_that_was_never_needed_is_closed_at_no_cost(tmp_path: Path) -> None:
    sql = SqlOnDemand(f"sqlite:///{tmp_path}/meta.db", lock=tmp_path / "lock")

    asyncio.run(sql.close())

    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_opened_is_told_of_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "meta.db").mkdir()

    async def story() -> None:
        sql = SqlOnDemand(f"sqlite:///{tmp_path}/meta.db", lock=tmp_path / "lock")
        with pytest.raises(DatabaseError, match="cannot open the registry's database") as refused:
            await sql.fetch("SELECT 1")
        assert refused.value.why
        (tmp_path / "meta.db").rmdir()

        try:
            assert await sql.fetch("SELECT 1") == [(1,)]
        finally:
            await sql.close()

    asyncio.run(story())
