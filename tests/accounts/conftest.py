"""Databases of both kinds, for what must be so on either."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

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
