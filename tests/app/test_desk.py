"""The desk as settings build it: prices that are in no currency of this server's are named at the start."""

from pathlib import Path

import pytest

from ownstudio.app.desk import opened_book
from ownstudio.catalog import load_catalog
from ownstudio.catalog.routing import DeploymentRoutes
from ownstudio.settings import load_settings
from ownstudio.store.database import Database, sqlite_url


@pytest.mark.parametrize(
    ("currency", "region", "warned"),
    [("USD", "singapore", False), ("CNY", "singapore", True), ("CNY", "local", False)],
)
async def test_models_that_would_be_free_for_their_currency_alone_are_named(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    currency: str,
    region: str,
    warned: bool,
) -> None:
    settings = load_settings(
        environ={"HOME": str(tmp_path)}, overrides={"billing.currency": currency}
    ).settings
    catalog = load_catalog([DeploymentRoutes("tiny", ("*",), 4096, 0)])
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    try:
        async with opened_book(settings, database, catalog.models(), {region}):
            pass
    finally:
        await database.close()
    assert ("qwen-plus" in caplog.text) == warned
    assert ("not in CNY" in caplog.text) == warned
