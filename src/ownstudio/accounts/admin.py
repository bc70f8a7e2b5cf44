"""Who may administer, and what they did: admin tokens and the audit log.

A token is like a key in what it is made of (256 random bits, stored as their SHA-256, shown once) and unlike one in
what it opens: the admin API and nothing else. There are few, so all stand in memory, read anew every `FRESH_S`: a flood
of wrong tokens costs the database nothing more, and a revoked one is refused within a second in every process.

The audit log has a line for every change, written before the change is made and completed after it. A line that still
says `begun` is of a change that was under way when its process died.
"""

import hmac
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ownstudio.accounts.keys import EAGER_S, FRESH_S, SECRET_BYTES, SECRET_MAX, hash_secret
from ownstudio.accounts.look import SharedLook
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store import administration as table
from ownstudio.store.database import ConflictError, Database
from ownstudio.store.directory import StoreError, write_first_secret

TOKEN_PREFIX = "adm-"
# Whoever makes the first token takes this id, so that of two servers that start at once on one database one does.
FIRST_TOKEN = "token-first"
# Who acts on the command line: whoever may read the data directory needs no token.
COMMAND_LINE = "cli"

Outcome = Literal["begun", "done", "refused", "failed"]

TARGET_MAX = 128
DETAIL_MAX = 16_384

log = logging.getLogger(__name__)


class NewToken(Struct, frozen=True):
    """A token at its making, the only time that its secret is known."""

    id: str
    secret: str


class TokenInfo(Struct, frozen=True):
    """A token as it may be shown. Times are Unix seconds."""

    id: str
    created_at: int
    revoked_at: int | None


class AdminTokens:
    """All admin tokens of one database. `monotonic` and `now` are clocks in seconds, for tests to turn."""

    def __init__(
        self,
        database: Database,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._now = now
        self._held: dict[str, table.TokenRow] = {}
        self._look = SharedLook(self._take_in, monotonic, "The admin token could not be checked.")

    async def authenticate(self, secret: str) -> str:
        """The id of the token. Raises StudioError INVALID_API_KEY, STORE_UNAVAILABLE."""
        for age_max_s in (FRESH_S, EAGER_S):
            await self._look.look(age_max_s)
            found = self._find(secret)
            if found is not None:
                return found.id
        raise StudioError(ErrorKind.INVALID_API_KEY, "The admin token is not valid.")

    async def create(self) -> NewToken:
        """Make a token. Raises StoreError."""
        new = _draft(f"token-{secrets.token_hex(8)}")
        async with self._database.transaction() as connection:
            await table.insert_token(connection, self._row(new))
        return new

    async def ensure_first_token(self, path: Path) -> NewToken | None:
        """Where there never was a token, make one and write its secret to `path`, for its owner's eyes only."""
        new = _draft(FIRST_TOKEN)
        try:
            async with self._database.transaction() as connection:
                if await table.any_token(connection):
                    return None
                await table.insert_token(connection, self._row(new))
                # Before the commit: a crash between the two leaves a file that the next start replaces, and never a
                # token whose secret nobody has.
                write_first_secret(path, new.secret, "first admin token")
        except ConflictError:
            # Another server made it in the same moment, and wrote it where it could.
            return None
        return new

    async def revoke(self, token_id: str) -> bool:
        """Revoke a token; False where there is no such token, or it was revoked before."""
        async with self._database.transaction() as connection:
            return await table.revoke_token(connection, token_id, int(self._now()))

    async def list(self) -> list[TokenInfo]:
        """Every token, revoked ones too, oldest first."""
        async with self._database.snapshot() as connection:
            rows = await table.all_tokens(connection)
        return [TokenInfo(row.id, row.created_at, row.revoked_at) for row in rows]

    async def _take_in(self) -> None:
        async with self._database.snapshot() as connection:
            rows = await table.all_tokens(connection)
        self._held = {row.token_hash: row for row in rows if row.revoked_at is None}

    def _find(self, secret: str) -> table.TokenRow | None:
        if len(secret) > SECRET_MAX:
            return None
        digest = hash_secret(secret)
        row = self._held.get(digest)
        # What the dictionary compares are hashes; this is a second lock on the same door.
        if row is None or not hmac.compare_digest(row.token_hash, digest):
            return None
        return row

    def _row(self, new: NewToken) -> table.TokenRow:
        return table.TokenRow(new.id, hash_secret(new.secret), int(self._now()))


class AuditEntry(Struct, frozen=True):
    """One line of the audit log; `at` is in Unix seconds.

    `target` is the id of what was changed. `detail` is what was asked, secrets left out, and of what was refused why.
    Of what `failed` nobody can say here whether the change was made: the database went in its midst.
    """

    seq: int
    at: int
    actor: str
    action: str
    target: str
    outcome: Outcome
    detail: dict[str, Any]
    request_id: str


class Change(Struct):
    """A change under way. Whoever makes it sets `target`, and adds to `detail`, what becomes known only then."""

    target: str
    detail: dict[str, Any]


class AuditLog:
    """The audit log of one database."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    @asynccontextmanager
    async def change(
        self,
        actor: str,
        action: str,
        target: str = "",
        detail: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> AsyncGenerator[Change, None]:
        """Make a change in the block: it is logged before, and how it went after. Raises StoreError.

        `detail` must hold no secret. A block that raises ValueError, or a StudioError that is the client's to mend, has
        changed nothing.
        """
        change = Change(target, dict(detail or {}))
        row = table.AuditRow(
            seq=0,
            at=int(self._now()),
            actor=actor,
            action=action,
            target=target[:TARGET_MAX],
            detail=_written("begun", change.detail),
            request_id=request_id,
        )
        async with self._database.transaction() as connection:
            seq = await table.insert_audit(connection, row)
        try:
            yield change
        except Exception as error:
            refused = _is_refusal(error)
            change.detail["reason"] = str(error) if refused else type(error).__name__
            await self._complete(seq, change, "refused" if refused else "failed")
            raise
        await self._complete(seq, change, "done")

    async def page(self, before: int | None, limit: int) -> list[AuditEntry]:
        """At most `limit` lines, newest first; `before` continues below the line of that number."""
        async with self._database.snapshot() as connection:
            rows = await table.audit_before(connection, before, limit)
        return [_entry(row) for row in rows]

    async def _complete(self, seq: int, change: Change, outcome: Outcome) -> None:
        try:
            async with self._database.transaction() as connection:
                await table.complete_audit(
                    connection, seq, change.target[:TARGET_MAX], _written(outcome, change.detail)
                )
        except StoreError as error:
            # The change is made, and whoever asked for it must learn so: a new key's secret is told only once.
            log.error(
                "line %s of the audit log stays begun, though it is %s: %s", seq, outcome, error
            )


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, StudioError):
        return error.status < ErrorKind.INTERNAL.status
    return isinstance(error, ValueError)


def _written(outcome: Outcome, detail: dict[str, Any]) -> str:
    text = msgspec.json.encode({"outcome": outcome, "detail": detail}).decode()
    if len(text) <= DETAIL_MAX:
        return text
    return msgspec.json.encode(
        {"outcome": outcome, "detail": {"too_long": f"{len(text)} characters"}}
    ).decode()


def _entry(row: table.AuditRow) -> AuditEntry:
    written = msgspec.json.decode(row.detail)
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        target=row.target,
        outcome=written["outcome"],
        detail=written["detail"],
        request_id=row.request_id,
    )


def _draft(token_id: str) -> NewToken:
    return NewToken(token_id, TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES))
