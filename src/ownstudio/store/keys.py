"""All statements about keys. The hash of a secret comes in and goes out; the secret never does."""

from msgspec import Struct
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.database import ConflictError
from ownstudio.store.schema import keys


class KeyRow(Struct, frozen=True):
    """One key as stored. Times are Unix seconds; `revision` is the number of its last change.

    `rules` is JSON that only `accounts` reads.
    """

    id: str
    name: str
    prefix: str
    secret_hash: str
    workspace: str
    region: str
    created_at: int
    revision: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None
    disabled_at: int | None = None
    rules: str = "{}"


async def insert_key(connection: AsyncConnection, row: KeyRow) -> None:
    await connection.execute(
        insert(keys).values({name: getattr(row, name) for name in row.__struct_fields__})
    )


async def update_key(connection: AsyncConnection, row: KeyRow, was: int) -> None:
    """Write what may change of a key whose revision `was` so.

    Raises ConflictError where it is not any more: on PostgreSQL another may have changed the row since it was read, and
    under the very number that this change was given.
    """
    result = await connection.execute(
        update(keys)
        .where(keys.c.id == row.id, keys.c.revision == was)
        .values(
            name=row.name,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            disabled_at=row.disabled_at,
            rules=row.rules,
            revision=row.revision,
        )
    )
    if result.rowcount != 1:
        raise ConflictError(f"the key {row.id} was changed by another at the same time")


async def touch_key(connection: AsyncConnection, key_id: str, now: int) -> None:
    """Note a use. It is no change of the key, so the revision stays."""
    await connection.execute(update(keys).where(keys.c.id == key_id).values(last_used_at=now))


async def next_revision(connection: AsyncConnection) -> int:
    """The number for the change that this transaction makes.

    Two transactions may be given the same one; the unique index then lets the first commit and gives the second a
    ConflictError. So no number is committed after a higher one, and a reader that asks for what is new misses nothing.
    """
    highest = await connection.scalar(select(func.max(keys.c.revision)))
    return (highest or 0) + 1


async def key(connection: AsyncConnection, key_id: str) -> KeyRow | None:
    result = await connection.execute(select(*_COLUMNS).where(keys.c.id == key_id))
    row = result.first()
    return None if row is None else KeyRow(*row)


async def keys_since(connection: AsyncConnection, revision: int) -> list[KeyRow]:
    """Keys that were made or changed after `revision`, oldest change first."""
    result = await connection.execute(
        select(*_COLUMNS).where(keys.c.revision > revision).order_by(keys.c.revision)
    )
    return [KeyRow(*row) for row in result]


async def all_keys(connection: AsyncConnection) -> list[KeyRow]:
    """Every key, oldest first."""
    result = await connection.execute(select(*_COLUMNS).order_by(keys.c.created_at, keys.c.id))
    return [KeyRow(*row) for row in result]


async def any_key(connection: AsyncConnection) -> bool:
    return await connection.scalar(select(keys.c.id).limit(1)) is not None


_COLUMNS = [keys.c[name] for name in KeyRow.__struct_fields__]
