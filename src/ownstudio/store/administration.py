"""All statements about admin tokens and the audit log. The hash of a token comes in; the token never does."""

from msgspec import Struct
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.schema import admin_tokens, audit


class TokenRow(Struct, frozen=True):
    """One admin token as stored. Times are Unix seconds."""

    id: str
    token_hash: str
    created_at: int
    revoked_at: int | None = None


class AuditRow(Struct, frozen=True):
    """One line of the audit log. `detail` is JSON that only `accounts` reads."""

    seq: int
    at: int
    actor: str
    action: str
    target: str
    detail: str
    request_id: str


async def insert_token(connection: AsyncConnection, row: TokenRow) -> None:
    await connection.execute(
        insert(admin_tokens).values({name: getattr(row, name) for name in row.__struct_fields__})
    )


async def revoke_token(connection: AsyncConnection, token_id: str, now: int) -> bool:
    """Mark a token as revoked; whether there was one to mark."""
    result = await connection.execute(
        update(admin_tokens)
        .where(admin_tokens.c.id == token_id, admin_tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return result.rowcount == 1


async def all_tokens(connection: AsyncConnection) -> list[TokenRow]:
    """Every token, revoked ones too, oldest first."""
    result = await connection.execute(
        select(*_TOKEN_COLUMNS).order_by(admin_tokens.c.created_at, admin_tokens.c.id)
    )
    return [TokenRow(*row) for row in result]


async def any_token(connection: AsyncConnection) -> bool:
    return await connection.scalar(select(admin_tokens.c.id).limit(1)) is not None


async def insert_audit(connection: AsyncConnection, row: AuditRow) -> int:
    """Write a line under the next number, which is returned; `row.seq` counts for nothing."""
    values = {name: getattr(row, name) for name in row.__struct_fields__ if name != "seq"}
    result = await connection.execute(insert(audit).values(values).returning(audit.c.seq))
    seq: int = result.scalar_one()
    return seq


async def complete_audit(connection: AsyncConnection, seq: int, target: str, detail: str) -> None:
    """Write into a line how it went. Nothing else of a line ever changes."""
    await connection.execute(
        update(audit).where(audit.c.seq == seq).values(target=target, detail=detail)
    )


async def audit_before(connection: AsyncConnection, seq: int | None, limit: int) -> list[AuditRow]:
    """At most `limit` lines, newest first, from below the line `seq`."""
    statement = select(*_AUDIT_COLUMNS).order_by(audit.c.seq.desc()).limit(limit)
    if seq is not None:
        statement = statement.where(audit.c.seq < seq)
    return [AuditRow(*row) for row in await connection.execute(statement)]


_TOKEN_COLUMNS = [admin_tokens.c[name] for name in TokenRow.__struct_fields__]
_AUDIT_COLUMNS = [audit.c[name] for name in AuditRow.__struct_fields__]
