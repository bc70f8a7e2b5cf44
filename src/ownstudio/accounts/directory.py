"""The directory: accounts and their workspaces, made, changed and listed. A change counts everywhere within a second.

None is ever deleted: the ledger names them. An account is suspended instead, and a workspace is given no model.
"""

import time
from collections.abc import Callable

from msgspec.structs import replace

from ownstudio.accounts.changes import (
    Missing,
    RulesChange,
    Taken,
    changed_rules,
    check_id,
    check_name,
    read_models,
    read_rules,
    written_models,
    written_rules,
)
from ownstudio.accounts.principal import DEFAULT_ACCOUNT, Account, Workspace
from ownstudio.accounts.rules import UNBOUND, Rules
from ownstudio.store import accounts as table
from ownstudio.store.database import Database, retried


class Directory:
    """All accounts and workspaces of one database.

    What makes or changes one raises ValueError, in words, for what cannot be, and Missing for what is not there.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    async def create_account(
        self,
        account_id: str,
        *,
        name: str = "",
        prepaid: bool = False,
        free_only: frozenset[str] = frozenset(),
        rules: Rules = UNBOUND,
    ) -> Account:
        """Make an account; its free quotas begin now. Raises Taken."""
        check_id("account", account_id)
        check_name("account", name)
        row = table.AccountRow(
            id=account_id,
            created_at=int(self._now()),
            revision=0,
            name=name,
            prepaid=prepaid,
            free_only=written_models(free_only),
            rules=written_rules(rules),
        )

        async def attempt() -> None:
            async with self._database.transaction() as connection:
                if await table.account(connection, account_id):
                    raise Taken(f"the account {account_id} exists already")
                revision = await table.next_account_revision(connection)
                await table.insert_account(connection, replace(row, revision=revision))

        await retried(attempt)
        return account_of(row)

    async def update_account(
        self,
        account_id: str,
        *,
        name: str | None = None,
        prepaid: bool | None = None,
        suspended: bool | None = None,
        free_only: frozenset[str] | None = None,
        rules: RulesChange | None = None,
    ) -> Account:
        """Change what is given and leave the rest."""
        if name is not None:
            check_name("account", name)

        async def attempt() -> Account:
            async with self._database.transaction() as connection:
                row = await table.account(connection, account_id)
                if row is None:
                    raise _no_account(account_id)
                new = replace(
                    row,
                    name=row.name if name is None else name,
                    prepaid=row.prepaid if prepaid is None else prepaid,
                    suspended=row.suspended if suspended is None else suspended,
                    free_only=row.free_only if free_only is None else written_models(free_only),
                    rules=changed_rules(row.rules, f"account {account_id}", rules),
                    revision=await table.next_account_revision(connection),
                )
                await table.update_account(connection, new, was=row.revision)
            return account_of(new)

        return await retried(attempt)

    async def account(self, account_id: str) -> Account:
        """Raises Missing."""
        async with self._database.snapshot() as connection:
            row = await table.account(connection, account_id)
        if row is None:
            raise _no_account(account_id)
        return account_of(row)

    async def accounts(self) -> list[Account]:
        """Every account, oldest first."""
        async with self._database.snapshot() as connection:
            rows = await table.all_accounts(connection)
        return [account_of(row) for row in rows]

    async def create_workspace(
        self,
        workspace_id: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        name: str = "",
        rules: Rules = UNBOUND,
    ) -> Workspace:
        """Make a workspace in an account, where it stays; no two share an id, whatever their accounts. Raises Taken."""
        check_id("workspace", workspace_id)
        check_name("workspace", name)
        row = table.WorkspaceRow(
            id=workspace_id,
            account=account,
            created_at=int(self._now()),
            revision=0,
            name=name,
            rules=written_rules(rules),
        )

        async def attempt() -> None:
            async with self._database.transaction() as connection:
                if await table.account(connection, account) is None:
                    raise _no_account(account)
                if await table.workspace(connection, workspace_id):
                    raise Taken(f"the workspace {workspace_id} exists already")
                revision = await table.next_workspace_revision(connection)
                await table.insert_workspace(connection, replace(row, revision=revision))

        await retried(attempt)
        return workspace_of(row)

    async def update_workspace(
        self, workspace_id: str, *, name: str | None = None, rules: RulesChange | None = None
    ) -> Workspace:
        """Change what is given and leave the rest."""
        if name is not None:
            check_name("workspace", name)

        async def attempt() -> Workspace:
            async with self._database.transaction() as connection:
                row = await table.workspace(connection, workspace_id)
                if row is None:
                    raise _no_workspace(workspace_id)
                new = replace(
                    row,
                    name=row.name if name is None else name,
                    rules=changed_rules(row.rules, f"workspace {workspace_id}", rules),
                    revision=await table.next_workspace_revision(connection),
                )
                await table.update_workspace(connection, new, was=row.revision)
            return workspace_of(new)

        return await retried(attempt)

    async def workspace(self, workspace_id: str) -> Workspace:
        """Raises Missing."""
        async with self._database.snapshot() as connection:
            row = await table.workspace(connection, workspace_id)
        if row is None:
            raise _no_workspace(workspace_id)
        return workspace_of(row)

    async def workspaces(self, account: str | None = None) -> list[Workspace]:
        """Every workspace, or those of one account, oldest first."""
        async with self._database.snapshot() as connection:
            rows = await table.all_workspaces(connection, account)
        return [workspace_of(row) for row in rows]


def account_of(row: table.AccountRow) -> Account:
    """An account from its row."""
    return Account(
        id=row.id,
        name=row.name,
        activated_at=row.created_at,
        prepaid=row.prepaid,
        suspended=row.suspended,
        free_only=read_models(row.free_only, f"account {row.id}"),
        rules=read_rules(row.rules, f"account {row.id}"),
    )


def workspace_of(row: table.WorkspaceRow) -> Workspace:
    """A workspace from its row."""
    return Workspace(
        id=row.id,
        account=row.account,
        name=row.name,
        rules=read_rules(row.rules, f"workspace {row.id}"),
    )


def _no_account(account_id: str) -> Missing:
    return Missing("account", f"there is no account {account_id!r}")


def _no_workspace(workspace_id: str) -> Missing:
    return Missing("workspace", f"there is no workspace {workspace_id!r}")
