"""Databases of both kinds, for what must be so on either."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.accounts import look
from ownstudio.store.database import Database, sqlite_url


class Clock:
    """Both clocks of a keyring, turned by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Database, None]:
    """A new database, once of each kind."""
    url = (
        sqlite_url(tmp_path / "either.db")
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").database()
    )
    opened = await Database.open(url)
    yield opened
    await opened.close()


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Until this is set, no database says anything to whoever reads; nobody waits for that longer than a moment."""
    over = asyncio.Event()
    snapshot = Database.snapshot

    @asynccontextmanager
    async def silent(database: Database) -> AsyncGenerator[AsyncConnection, None]:
        await over.wait()
        async with snapshot(database) as connection:
            yield connection

    monkeypatch.setattr(Database, "snapshot", silent)
    monkeypatch.setattr(look, "LOOK_S_MAX", 0.1)
    return over
