"""All statements about accounts and workspaces. `rules` and `free_only` are JSON that only `accounts` reads.

A change gives its row the next revision of its table, as with keys, and is made only where the row still has the
revision that the change began from: of two at once, one gets a ConflictError instead of undoing the other.
"""

from msgspec import Struct
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.database import ConflictError
from ownstudio.store.schema import accounts, keys, workspaces


class AccountRow(Struct, frozen=True):
    """One account as stored. `created_at` is in Unix seconds."""

    id: str
    created_at: int
    revision: int
    name: str = ""
    prepaid: bool = False
    suspended: bool = False
    free_only: str = "[]"
    rules: str = "{}"


class WorkspaceRow(Struct, frozen=True):
    """One workspace as stored."""

    id: str
    account: str
    created_at: int
    revision: int
    name: str = ""
    rules: str = "{}"


class Revisions(Struct, frozen=True):
    """The last change of each table that a check of a key depends on."""

    keys: int = 0
    workspaces: int = 0
    accounts: int = 0


async def last_revisions(connection: AsyncConnection) -> Revisions:
    """In one statement: it is asked twice a second, and nearly always nothing has changed."""
    result = await connection.execute(
        select(
            *(
                select(func.coalesce(func.max(table.c.revision), 0)).scalar_subquery()
                for table in (keys, workspaces, accounts)
            )
        )
    )
    return Revisions(*result.one())


async def insert_account(connection: AsyncConnection, row: AccountRow) -> None:
    await connection.execute(
        insert(accounts).values({name: getattr(row, name) for name in row.__struct_fields__})
    )


async def update_account(connection: AsyncConnection, row: AccountRow, was: int) -> None:
    """Write what may change of an account whose revision `was` so. Raises ConflictError where it is not any more."""
    result = await connection.execute(
        update(accounts)
        .where(accounts.c.id == row.id, accounts.c.revision == was)
        .values(
            name=row.name,
            prepaid=row.prepaid,
            suspended=row.suspended,
            free_only=row.free_only,
            rules=row.rules,
            revision=row.revision,
        )
    )
    if result.rowcount != 1:
        raise ConflictError(f"the account {row.id} was changed by another at the same time")


async def next_account_revision(connection: AsyncConnection) -> int:
    """The number for a change of an account in this transaction; see `keys.next_revision`."""
    return (await connection.scalar(select(func.max(accounts.c.revision))) or 0) + 1


async def account(connection: AsyncConnection, account_id: str) -> AccountRow | None:
    result = await connection.execute(select(*_ACCOUNT_COLUMNS).where(accounts.c.id == account_id))
    row = result.first()
    return None if row is None else AccountRow(*row)


async def all_accounts(connection: AsyncConnection) -> list[AccountRow]:
    """Every account, oldest first."""
    result = await connection.execute(
        select(*_ACCOUNT_COLUMNS).order_by(accounts.c.created_at, accounts.c.id)
    )
    return [AccountRow(*row) for row in result]


async def accounts_since(connection: AsyncConnection, revision: int) -> list[AccountRow]:
    """Accounts that were made or changed after `revision`, oldest change first."""
    result = await connection.execute(
        select(*_ACCOUNT_COLUMNS)
        .where(accounts.c.revision > revision)
        .order_by(accounts.c.revision)
    )
    return [AccountRow(*row) for row in result]


async def insert_workspace(connection: AsyncConnection, row: WorkspaceRow) -> None:
    await connection.execute(
        insert(workspaces).values({name: getattr(row, name) for name in row.__struct_fields__})
    )


async def ensure_workspace(
    connection: AsyncConnection, workspace_id: str, account_id: str, now: int
) -> bool:
    """Make a workspace of this account unless there is one of this id; whether it was made."""
    if await workspace(connection, workspace_id) is not None:
        return False
    revision = await next_workspace_revision(connection)
    await insert_workspace(connection, WorkspaceRow(workspace_id, account_id, now, revision))
    return True


async def update_workspace(connection: AsyncConnection, row: WorkspaceRow, was: int) -> None:
    """Write what may change of a workspace whose revision `was` so. Raises ConflictError where it is not any more."""
    result = await connection.execute(
        update(workspaces)
        .where(workspaces.c.id == row.id, workspaces.c.revision == was)
        .values(name=row.name, rules=row.rules, revision=row.revision)
    )
    if result.rowcount != 1:
        raise ConflictError(f"the workspace {row.id} was changed by another at the same time")


async def next_workspace_revision(connection: AsyncConnection) -> int:
    """The number for a change of a workspace in this transaction; see `keys.next_revision`."""
    return (await connection.scalar(select(func.max(workspaces.c.revision))) or 0) + 1


async def workspace(connection: AsyncConnection, workspace_id: str) -> WorkspaceRow | None:
    result = await connection.execute(
        select(*_WORKSPACE_COLUMNS).where(workspaces.c.id == workspace_id)
    )
    row = result.first()
    return None if row is None else WorkspaceRow(*row)


async def all_workspaces(
    connection: AsyncConnection, account_id: str | None = None
) -> list[WorkspaceRow]:
    """Every workspace, or those of one account, oldest first."""
    statement = select(*_WORKSPACE_COLUMNS).order_by(workspaces.c.created_at, workspaces.c.id)
    if account_id is not None:
        statement = statement.where(workspaces.c.account == account_id)
    return [WorkspaceRow(*row) for row in await connection.execute(statement)]


async def workspaces_since(connection: AsyncConnection, revision: int) -> list[WorkspaceRow]:
    """Workspaces that were made or changed after `revision`, oldest change first."""
    result = await connection.execute(
        select(*_WORKSPACE_COLUMNS)
        .where(workspaces.c.revision > revision)
        .order_by(workspaces.c.revision)
    )
    return [WorkspaceRow(*row) for row in result]


_ACCOUNT_COLUMNS = [accounts.c[name] for name in AccountRow.__struct_fields__]
_WORKSPACE_COLUMNS = [workspaces.c[name] for name in WorkspaceRow.__struct_fields__]
