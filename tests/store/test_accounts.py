"""Goal: rows come back as they were written, changes come in order, and nothing is written over what another wrote."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ownstudio.store import accounts as table
from ownstudio.store import keys as key_table
from ownstudio.store.accounts import AccountRow, Revisions, WorkspaceRow
from ownstudio.store.database import ConflictError, Database, sqlite_url
from ownstudio.store.keys import KeyRow


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[Database, None]:
    url = (
        sqlite_url(tmp_path / "o.db")
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").database()
    )
    opened = await Database.open(url)
    yield opened
    await opened.close()


ACCOUNT = AccountRow("shop", 5, 2, "The shop", True, True, '["*"]', '{"models":[]}')
WORKSPACE = WorkspaceRow("web", "shop", 5, 2, "Web", '{"models":[]}')
KEY = KeyRow(
    "key-1", "n", "sk-abcd", "0" * 64, "web", "local", 5, 1, 10, None, None, 7, '{"models":[]}'
)


async def test_rows_come_back_as_they_were_written(database: Database):
    async with database.transaction() as connection:
        await table.insert_account(connection, ACCOUNT)
        await table.insert_workspace(connection, WORKSPACE)
        await key_table.insert_key(connection, KEY)
    async with database.snapshot() as connection:
        assert await table.account(connection, "shop") == ACCOUNT
        assert await table.workspace(connection, "web") == WORKSPACE
        assert await key_table.key(connection, "key-1") == KEY
        assert await table.account(connection, "no") is None
        assert await table.workspace(connection, "no") is None
        assert await key_table.key(connection, "no") is None
        assert await table.accounts_since(connection, 1) == [ACCOUNT]
        assert await table.workspaces_since(connection, 1) == [WORKSPACE]
        assert await key_table.keys_since(connection, 0) == [KEY]
        assert await table.all_workspaces(connection, "shop") == [WORKSPACE]
        assert [row.id for row in await table.all_accounts(connection)] == ["shop", "default"]


async def test_the_last_revisions_are_those_of_each_table(database: Database):
    async with database.transaction() as connection:
        assert await table.last_revisions(connection) == Revisions(0, 1, 1)
        assert await table.next_account_revision(connection) == 2
        assert await table.next_workspace_revision(connection) == 2
        await table.insert_account(connection, replace(ACCOUNT, revision=4))
        await table.insert_workspace(connection, replace(WORKSPACE, revision=3))
        await key_table.insert_key(connection, replace(KEY, revision=5))
    async with database.snapshot() as connection:
        assert await table.last_revisions(connection) == Revisions(keys=5, workspaces=3, accounts=4)


async def test_a_change_is_written_only_over_what_it_began_from(database: Database):
    async with database.transaction() as connection:
        await table.insert_account(connection, ACCOUNT)
        await table.insert_workspace(connection, WORKSPACE)
        await key_table.insert_key(connection, KEY)
        account = replace(ACCOUNT, name="x", suspended=False, free_only="[]", revision=3)
        await table.update_account(connection, account, was=2)
        workspace = replace(WORKSPACE, name="x", rules="{}", revision=3)
        await table.update_workspace(connection, workspace, was=2)
        key = replace(KEY, name="x", revoked_at=9, disabled_at=None, rules="{}", revision=2)
        await key_table.update_key(connection, key, was=1)
        for change in (
            table.update_account(connection, replace(account, revision=4), was=2),
            table.update_workspace(connection, replace(workspace, revision=4), was=2),
            key_table.update_key(connection, replace(key, revision=3), was=1),
        ):
            with pytest.raises(ConflictError, match="was changed by another"):
                await change
        assert await table.account(connection, "shop") == account
        assert await table.workspace(connection, "web") == workspace
        assert await key_table.key(connection, "key-1") == key


async def test_a_workspace_of_no_account_is_refused(database: Database):
    with pytest.raises(ConflictError):
        async with database.transaction() as connection:
            await table.insert_workspace(connection, replace(WORKSPACE, account="no"))


async def test_a_workspace_is_made_once_and_left_as_it_is(database: Database):
    async with database.transaction() as connection:
        assert await table.ensure_workspace(connection, "web", "default", 7)
        assert not await table.ensure_workspace(connection, "web", "default", 8)
        assert not await table.ensure_workspace(connection, "default", "default", 8)
        assert await table.workspace(connection, "web") == WorkspaceRow("web", "default", 7, 2)
