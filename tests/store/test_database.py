"""Goal: a database is brought up to date by whoever comes first, shared between processes, and never half-written."""

import asyncio
import socket
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from ownstudio.store import database as module
from ownstudio.store import migrations
from ownstudio.store.database import ConflictError, Database, sqlite_url
from ownstudio.store.directory import StoreError
from ownstudio.store.keys import KeyRow, insert_key, next_revision
from ownstudio.store.migrations import head
from ownstudio.store.schema import SCHEMA_VERSION, metadata
from support.servers import Postgres


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "o.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def either_url(request: pytest.FixtureRequest, url: str) -> str:
    if request.param == "sqlite":
        return url
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


def row(revision: int) -> KeyRow:
    return KeyRow(f"key-{revision}", "", "sk-", f"{revision:064}", "default", "local", 1, revision)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def count(database: Database) -> int:
    async with database.snapshot() as connection:
        return await connection.scalar(text("SELECT count(*) FROM keys")) or 0


def test_the_version_named_in_the_schema_is_the_last_step():
    assert head() == SCHEMA_VERSION


async def test_the_steps_lead_to_the_tables_that_the_schema_declares(url: str):
    def described(connection: Connection) -> dict[str, object]:
        found = inspect(connection)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)],
                sorted(
                    (i["name"], i["unique"], i["column_names"]) for i in found.get_indexes(table)
                ),
                sorted((u["name"], u["column_names"]) for u in found.get_unique_constraints(table)),
                found.get_pk_constraint(table)["constrained_columns"],
            )
            for table in metadata.tables
        }

    database = await Database.open(url)
    async with database.transaction() as connection:
        stepped = await connection.run_sync(described)
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        assert stepped == await connection.run_sync(described)
    await database.close()


async def test_an_up_to_date_database_opens_without_the_migration_machinery(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    await (await Database.open(url)).close()
    monkeypatch.setattr(Database, "transaction", None)
    await (await Database.open(url)).close()


async def test_those_that_open_a_new_database_at_once_all_get_one(either_url: str):
    opened = await asyncio.gather(*(Database.open(either_url) for _ in range(4)))
    for database in opened:
        assert await count(database) == 0
        await database.close()


async def test_a_server_that_says_nothing_is_no_database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CONNECT_S_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        async with asyncio.timeout(5):
            with pytest.raises(StoreError, match="cannot be used"):
                await Database.open(url)


async def test_a_command_that_takes_too_long_is_given_up(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "COMMAND_S_MAX", 0.2)
    database = await Database.open(postgres.database())

    async def wait() -> None:
        async with database.snapshot() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))

    async with asyncio.timeout(5):
        with pytest.raises(StoreError, match="cannot be used"):
            await wait()
    assert await count(database) == 0
    await database.close()


async def test_a_step_to_todays_schema_may_take_longer_than_a_command(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "COMMAND_S_MAX", 0.5)
    upgrade = migrations.upgrade

    def slow(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(1)"))
        upgrade(connection)

    monkeypatch.setattr(migrations, "upgrade", slow)
    database = await Database.open(postgres.database())
    assert await count(database) == 0
    await database.close()


async def test_a_database_of_a_newer_release_is_refused(url: str, tmp_path: Path):
    await (await Database.open(url)).close()
    with sqlite3.connect(tmp_path / "o.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="newer Ownstudio"):
        await Database.open(url)


async def test_the_file_is_its_owners_alone_and_in_wal_mode(url: str, tmp_path: Path):
    database = await Database.open(url)
    async with database.transaction() as connection:
        await insert_key(connection, row(1))
        assert modes(tmp_path) == {"o.db": 0o600, "o.db-wal": 0o600, "o.db-shm": 0o600}
        assert await connection.scalar(text("PRAGMA foreign_keys")) == 1
    await database.close()


async def test_a_block_that_raises_leaves_nothing(url: str):
    database = await Database.open(url)

    async def fail() -> None:
        async with database.transaction() as connection:
            await insert_key(connection, row(1))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await count(database) == 0
    await database.close()


async def test_a_reader_does_not_wait_for_a_writer_and_sees_one_state(url: str):
    database = await Database.open(url)
    async with database.snapshot() as reading:
        assert await reading.scalar(text("SELECT count(*) FROM keys")) == 0
        async with database.transaction() as writing:
            await insert_key(writing, row(1))
            assert await count(database) == 0
        assert await reading.scalar(text("SELECT count(*) FROM keys")) == 0
    assert await count(database) == 1
    await database.close()


async def test_writers_take_turns(url: str):
    database = await Database.open(url)

    async def write() -> None:
        async with database.transaction() as connection:
            await insert_key(connection, row(await next_revision(connection)))

    await asyncio.gather(*(write() for _ in range(12)))
    assert await count(database) == 12
    await database.close()


async def test_one_number_for_two_changes_is_a_conflict(url: str):
    database = await Database.open(url)
    async with database.transaction() as connection:
        await insert_key(connection, row(1))
    with pytest.raises(ConflictError):
        async with database.transaction() as connection:
            await insert_key(connection, row(1))
    await database.close()


async def test_a_locked_database_is_a_store_error_after_a_bounded_wait(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    database = await Database.open(url)
    other = sqlite3.connect(tmp_path / "o.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        async with database.transaction():
            pytest.fail("the lock was ignored")
    other.rollback()
    other.close()
    await database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "not a database URL"),
        ("mysql://h/d", "begins with mysql: the databases known are sqlite, postgresql"),
        ("sqlite://", "would forget every key"),
        ("sqlite:////nowhere/at/all.db", "cannot be opened: No such file"),
    ],
)
async def test_a_url_that_cannot_work_is_refused_in_words(url: str, message: str):
    with pytest.raises(StoreError, match=message):
        await Database.open(url)


async def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path):
    (tmp_path / "o.db").write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="not a database") as refusal:
        await Database.open(sqlite_url(tmp_path / "o.db"))
    assert isinstance(refusal.value.__cause__, SQLAlchemyError)
