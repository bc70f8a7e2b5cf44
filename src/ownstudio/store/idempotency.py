"""All statements about idempotency keys: claimed by the first request, given its answer, or freed again.

A row without a status is a request under way, or one whose process died: `expires_at` says when it no longer counts.
`created_at` tells one claim of a key from the next: a claim is only ever taken over once it has expired, so the next
one's is later. Whoever has lost its claim changes nothing any more.
"""

from msgspec import Struct
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.schema import idempotency


class AnswerRow(Struct, frozen=True):
    """What is known of one key. Times are Unix seconds; `headers` is JSON.

    With a status and no body, the answer was too large to keep.
    """

    id: str
    fingerprint: str
    created_at: int
    expires_at: int
    status: int | None = None
    headers: str = "[]"
    body: bytes | None = None


async def claim_key(connection: AsyncConnection, row: AnswerRow) -> None:
    """Take a key that nobody has, or whose row has expired; ConflictError leaves the transaction where it is taken."""
    await connection.execute(
        delete(idempotency).where(
            idempotency.c.id == row.id, idempotency.c.expires_at <= row.created_at
        )
    )
    await connection.execute(
        insert(idempotency).values({name: getattr(row, name) for name in row.__struct_fields__})
    )


async def find_key(connection: AsyncConnection, key: str, now: int) -> AnswerRow | None:
    """The row of a key, unless it has expired."""
    result = await connection.execute(
        select(*_COLUMNS).where(idempotency.c.id == key, idempotency.c.expires_at > now)
    )
    found = result.first()
    return None if found is None else AnswerRow(*found)


async def complete_key(connection: AsyncConnection, row: AnswerRow) -> bool:
    """Store the answer with the claim it was made under; whether that claim still holds."""
    result = await connection.execute(
        update(idempotency)
        .where(*_claimed(row.id, row.created_at))
        .values(expires_at=row.expires_at, status=row.status, headers=row.headers, body=row.body)
    )
    return result.rowcount == 1


async def free_key(connection: AsyncConnection, key: str, created_at: int) -> None:
    """Give a claim back: the next request with its key runs."""
    await connection.execute(delete(idempotency).where(*_claimed(key, created_at)))


async def purge_keys(connection: AsyncConnection, now: int, rows_max: int) -> int:
    """Delete what has expired, at most `rows_max` rows; how many it was."""
    expired = (
        select(idempotency.c.id)
        .where(idempotency.c.expires_at <= now)
        .order_by(idempotency.c.expires_at)
        .limit(rows_max)
    )
    # Once more in the outer statement: a row may be claimed anew after the inner one has read it.
    result = await connection.execute(
        delete(idempotency).where(idempotency.c.id.in_(expired), idempotency.c.expires_at <= now)
    )
    return result.rowcount


def _claimed(key: str, created_at: int) -> tuple[ColumnElement[bool], ...]:
    return (
        idempotency.c.id == key,
        idempotency.c.created_at == created_at,
        idempotency.c.status.is_(None),
    )


_COLUMNS = [idempotency.c[name] for name in AnswerRow.__struct_fields__]
