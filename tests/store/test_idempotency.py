"""Goal: of all that claim an idempotency key one gets it, in both databases, until it is freed or expires."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ownstudio.store.database import ConflictError, Database, sqlite_url
from ownstudio.store.idempotency import (
    AnswerRow,
    claim_key,
    complete_key,
    find_key,
    free_key,
    purge_keys,
)
from support.servers import Postgres

KEY = "k" * 64


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "o.db")
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await Database.open(url)
    yield opened
    await opened.close()


def row(at: int, *, lasts: int = 100, key: str = KEY, fingerprint: str = "f" * 64) -> AnswerRow:
    return AnswerRow(key, fingerprint, at, at + lasts)


def answered(claim: AnswerRow, body: bytes | None, *, lasts: int = 1000) -> AnswerRow:
    expires_at = claim.created_at + lasts
    return AnswerRow(claim.id, claim.fingerprint, claim.created_at, expires_at, 200, "[1]", body)


async def claim(database: Database, wanted: AnswerRow) -> bool:
    try:
        async with database.transaction() as connection:
            await claim_key(connection, wanted)
    except ConflictError:
        return False
    return True


async def complete(database: Database, wanted: AnswerRow) -> bool:
    async with database.transaction() as connection:
        return await complete_key(connection, wanted)


async def find(database: Database, now: int) -> AnswerRow | None:
    async with database.snapshot() as connection:
        return await find_key(connection, KEY, now)


async def test_of_those_who_claim_a_key_at_once_one_gets_it(database: Database, url: str) -> None:
    other = await Database.open(url)
    claims = [claim(here, row(1)) for here in (database, other) for _ in range(4)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]
    await other.close()


async def test_of_those_who_claim_an_expired_key_at_once_one_gets_it(
    database: Database, url: str
) -> None:
    assert await claim(database, row(1))
    other = await Database.open(url)
    claims = [claim(here, row(101)) for here in (database, other) for _ in range(4)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]
    await other.close()


async def test_a_claimed_key_is_a_row_without_an_answer(database: Database) -> None:
    await claim(database, row(1))
    assert await find(database, 2) == row(1)


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xe4\xbd\xa0" * 1000, None])
async def test_an_answer_comes_back_byte_for_byte(database: Database, body: bytes | None) -> None:
    await claim(database, row(1))
    assert await complete(database, answered(row(1), body))
    assert await find(database, 1000) == answered(row(1), body)
    assert not await claim(database, row(1000))


async def test_an_expired_answer_is_not_found_and_its_key_is_free(database: Database) -> None:
    await claim(database, row(1))
    await complete(database, answered(row(1), b"old"))
    assert await find(database, 1001) is None
    assert await claim(database, row(1001))


async def test_a_freed_key_is_free(database: Database) -> None:
    await claim(database, row(1))
    async with database.transaction() as connection:
        await free_key(connection, KEY, 1)
    assert await find(database, 2) is None
    assert await claim(database, row(2))


async def test_whoever_lost_its_claim_neither_answers_nor_frees_the_next_one(
    database: Database,
) -> None:
    await claim(database, row(1, fingerprint="a" * 64))
    await claim(database, row(101, fingerprint="b" * 64))
    assert not await complete(database, answered(row(1), b"late"))
    async with database.transaction() as connection:
        await free_key(connection, KEY, 1)
    assert await find(database, 102) == row(101, fingerprint="b" * 64)


async def test_an_answer_is_neither_replaced_nor_freed(database: Database) -> None:
    await claim(database, row(1))
    await complete(database, answered(row(1), b"first"))
    assert not await complete(database, answered(row(1), b"second"))
    async with database.transaction() as connection:
        await free_key(connection, KEY, 1)
    assert await find(database, 2) == answered(row(1), b"first")


async def test_a_purge_deletes_what_has_expired_and_no_more_rows_than_it_may(
    database: Database,
) -> None:
    for number in range(5):
        await claim(database, row(number, key=f"old-{number}"))
    await claim(database, row(50))
    async with database.transaction() as connection:
        assert await purge_keys(connection, 110, 3) == 3
        assert await purge_keys(connection, 110, 3) == 2
        assert await purge_keys(connection, 110, 3) == 0
    assert await find(database, 110) == row(50)
