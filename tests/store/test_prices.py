"""Goal: price rows come back as they went in, in the order of their ids, and an id is given once, in both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.database import ConflictError, Database, sqlite_url
from ownstudio.store.prices import PriceRow, any_entry, insert_prices, prices_since
from ownstudio.store.schema import entries
from support.servers import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "o.db")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.database()
    opened = await Database.open(url)
    yield opened
    await opened.close()


def row(price_id: int, model: str = "m") -> PriceRow:
    return PriceRow(price_id, model, "local", 2**40, "USD", '{"ü": 1}', "catalogue", 2**33)


async def test_rows_come_back_whole_and_only_those_that_are_new(database: Database):
    async with database.transaction() as connection:
        await insert_prices(connection, [row(2, "b"), row(1, "a")])
        await insert_prices(connection, [row(3, "*")])
    async with database.snapshot() as connection:
        assert await prices_since(connection, 0) == [row(1, "a"), row(2, "b"), row(3, "*")]
        assert await prices_since(connection, 2) == [row(3, "*")]
        assert await prices_since(connection, 3) == []


async def test_of_two_that_add_under_the_same_ids_one_has_a_conflict(database: Database):
    looked = asyncio.Barrier(2)

    async def add(model: str) -> str:
        async with database.snapshot() as connection:
            assert await prices_since(connection, 0) == []
        await looked.wait()
        try:
            async with database.transaction() as connection:
                await insert_prices(connection, [row(1, model), row(2, model)])
        except ConflictError:
            return "conflict"
        return model

    ends = await asyncio.gather(add("a"), add("b"))
    assert sorted(ends)[1] == "conflict"
    async with database.snapshot() as connection:
        found = await prices_since(connection, 0)
    assert [(each.id, each.model) for each in found] == [(1, sorted(ends)[0]), (2, sorted(ends)[0])]


async def test_it_is_known_whether_anything_was_booked(database: Database):
    async def book(connection: AsyncConnection) -> None:
        values = {"receipt": "r", "kind": "pay", "at": 1, "account": "default", "amount": 5}
        await connection.execute(insert(entries).values(values))

    async with database.transaction() as connection:
        assert not await any_entry(connection)
        await book(connection)
        assert await any_entry(connection)
