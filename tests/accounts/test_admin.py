"""Goal: admin tokens open the admin API and nothing tells them, and no change goes without its line in the log."""

import asyncio
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ownstudio.accounts.admin import FIRST_TOKEN, AdminTokens, AuditLog
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.directory import StoreError
from support.servers import Postgres


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "o.db")
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture
async def database(url: str) -> AsyncGenerator[Database, None]:
    database = await Database.open(url)
    yield database
    await database.close()


async def refusal(tokens: AdminTokens, secret: str) -> ErrorKind | None:
    try:
        await tokens.authenticate(secret)
    except StudioError as error:
        return error.kind
    return None


async def test_a_token_works_at_once_and_until_it_is_revoked(database: Database) -> None:
    clock = Clock()
    here = AdminTokens(database, monotonic=clock)
    elsewhere = AdminTokens(database, monotonic=clock)
    assert await refusal(here, "adm-x") is ErrorKind.INVALID_API_KEY
    clock.time += 0.0625
    new = await elsewhere.create()
    assert new.secret.startswith("adm-")
    assert len(new.secret) == len("adm-") + 43
    assert await here.authenticate(new.secret) == new.id
    assert await elsewhere.revoke(new.id)
    assert not await elsewhere.revoke(new.id)
    clock.time += 0.5
    assert await refusal(here, new.secret) is ErrorKind.INVALID_API_KEY


async def test_only_a_hash_is_stored(database: Database, tmp_path: Path) -> None:
    new = await AdminTokens(database).create()
    assert new.secret not in repr(await AdminTokens(database).list())
    async with database.snapshot() as connection:
        rows = await connection.exec_driver_sql("SELECT * FROM admin_tokens")
        assert new.secret not in repr(rows.all())


async def test_wrong_tokens_cost_the_database_at_most_two_looks_each_half_second(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    tokens = AdminTokens(database, monotonic=clock)
    looks = 0
    snapshot = database.snapshot

    def counted() -> object:
        nonlocal looks
        looks += 1
        return snapshot()

    monkeypatch.setattr(database, "snapshot", counted)
    for _ in range(100):
        assert await refusal(tokens, "adm-x" * 1000) is ErrorKind.INVALID_API_KEY
    assert looks == 1
    clock.time += 0.1
    await refusal(tokens, "adm-\udc80")
    assert looks == 2


async def test_the_first_token_is_written_for_its_owner_alone_and_made_once(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "admin-token"
    tokens = AdminTokens(database)
    new = await tokens.ensure_first_token(path)
    assert new is not None
    assert path.read_text() == f"{new.secret}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await tokens.authenticate(new.secret) == FIRST_TOKEN
    # Whoever revokes all of them wants none to come back by itself.
    await tokens.revoke(new.id)
    assert await tokens.ensure_first_token(path) is None
    assert [token.revoked_at is None for token in await tokens.list()] == [False]


async def test_a_first_token_that_cannot_be_written_is_not_made(
    database: Database, tmp_path: Path
) -> None:
    tokens = AdminTokens(database)
    with pytest.raises(StoreError, match="cannot be written"):
        await tokens.ensure_first_token(tmp_path / "no-such-directory" / "admin-token")
    assert await tokens.list() == []


async def test_a_database_that_is_gone_is_no_wrong_token(tmp_path: Path) -> None:
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    tokens = AdminTokens(database)
    new = await tokens.create()
    async with database.transaction() as connection:
        await connection.exec_driver_sql("DROP TABLE admin_tokens")
    assert await refusal(tokens, new.secret) is ErrorKind.STORE_UNAVAILABLE
    await database.close()


async def test_a_silent_database_is_no_wrong_token(tmp_path: Path, silence: asyncio.Event) -> None:
    # The database was brought up to date before it fell silent.
    silence.set()
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    tokens = AdminTokens(database)
    new = await tokens.create()
    silence.clear()
    async with asyncio.timeout(1):
        assert await refusal(tokens, new.secret) is ErrorKind.STORE_UNAVAILABLE
    silence.set()
    async with asyncio.timeout(5):
        while await refusal(tokens, new.secret) is not None:
            await asyncio.sleep(0.01)
    await database.close()


async def test_a_change_is_logged_with_how_it_went(database: Database) -> None:
    log = AuditLog(database, now=lambda: 1_800_000_000.0)
    async with log.change("cli", "key.create", detail={"name": "x"}, request_id="r") as change:
        (begun,) = await log.page(None, 10)
        change.target = "key-1"
    assert (begun.outcome, begun.target) == ("begun", "")
    with pytest.raises(ValueError, match="no such"):
        async with log.change("token-1", "key.revoke", "key-2"):
            raise ValueError("no such key")
    with pytest.raises(StoreError):
        async with log.change("token-1", "key.revoke", "key-3"):
            raise StoreError("the disk, and a secret")
    failed, refused, done = await log.page(None, 10)
    assert (done.seq, done.at, done.actor, done.action) == (1, 1_800_000_000, "cli", "key.create")
    assert (done.target, done.outcome, done.detail) == ("key-1", "done", {"name": "x"})
    assert done.request_id == "r"
    assert (refused.outcome, refused.detail) == ("refused", {"reason": "no such key"})
    assert (failed.outcome, failed.detail) == ("failed", {"reason": "StoreError"})


async def test_a_change_is_not_begun_where_it_cannot_be_logged(tmp_path: Path) -> None:
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    async with database.transaction() as connection:
        await connection.exec_driver_sql("DROP TABLE audit")
    changed = False
    with pytest.raises(StoreError):
        async with AuditLog(database).change("cli", "token.create"):
            changed = True
    assert not changed
    await database.close()


async def test_a_change_that_is_made_is_told_so_though_its_line_stays_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    async with AuditLog(database).change("cli", "token.create"):
        async with database.transaction() as connection:
            await connection.exec_driver_sql("DROP TABLE audit")
    assert "line 1 of the audit log stays begun" in caplog.text
    await database.close()


async def test_pages_of_the_log_go_from_the_newest_back(database: Database) -> None:
    log = AuditLog(database)
    for number in range(5):
        async with log.change("cli", "test", str(number) * 200, {"much": "x" * 20_000}):
            pass
    first = await log.page(None, 2)
    assert [entry.seq for entry in first] == [5, 4]
    assert [entry.seq for entry in await log.page(4, 10)] == [3, 2, 1]
    assert first[0].target == "4" * 128
    assert first[0].detail == {"too_long": "20039 characters"}
