"""Keys: made, checked, revoked.

A secret is shown once and never stored. What is stored is its SHA-256: the secret carries 256 random bits, so there is
nothing to guess and a slow hash would only slow every request down. Only secrets made here exist; nobody chooses one.

The keyring holds all keys in memory and asks the database for changes every `FRESH_S`, whoever calls and with whatever
secret. So a check costs microseconds, a flood of wrong keys costs the database nothing more, and what another
process made or revoked counts within a second. An unknown secret may bring the next look
forward, to `EAGER_S` after the last: a key that was made a moment ago works at once.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store import keys as table
from ownstudio.store.database import ConflictError, Database
from ownstudio.store.directory import StoreError, write_private

FRESH_S = 0.5
EAGER_S = 0.05
TOUCH_EVERY_S = 60
CONFLICT_TRIES = 5

SECRET_PREFIX = "sk-"
SECRET_BYTES = 32
SECRET_MAX = 256
# How much of a secret people see to tell keys apart: 24 of its 256 bits.
SHOWN = 7

NAME_MAX = 128
_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

T = TypeVar("T")

log = logging.getLogger(__name__)


class Principal(Struct, frozen=True):
    """Whoever holds a key: what a request is counted and billed under."""

    key_id: str
    name: str
    workspace: str
    region: str


class NewKey(Struct, frozen=True):
    """A key at its making, the only time that its secret is known."""

    id: str
    secret: str
    name: str
    workspace: str
    region: str


class KeyInfo(Struct, frozen=True):
    """A key as it may be shown. Times are Unix seconds; `last_used_at` is up to a minute behind."""

    id: str
    name: str
    masked: str
    workspace: str
    region: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class _Held(Struct, frozen=True):
    row: table.KeyRow
    principal: Principal


class Keyring:
    """All keys of one database. `monotonic` and `now` are clocks in seconds, for tests to turn."""

    def __init__(
        self,
        database: Database,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._now = now
        self._held: dict[str, _Held] = {}
        self._revision = 0
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._used_at: dict[str, int] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for what is being written. The database must stay open until then."""
        if self._noting:
            await asyncio.wait(self._noting)

    def cached(self, secret: str) -> Principal | None:
        """The holder of a key, where that is known without a look at the database; else None: authenticate then."""
        if self._monotonic() - self._looked_at >= FRESH_S:
            return None
        held = self._find(secret)
        return None if held is None else held.principal

    async def authenticate(self, secret: str) -> Principal:
        """The holder of a key. Raises StudioError INVALID_API_KEY."""
        await self._look(FRESH_S)
        held = self._find(secret)
        if held is None:
            await self._look(EAGER_S)
            held = self._find(secret)
        if held is None:
            raise StudioError(ErrorKind.INVALID_API_KEY, "Incorrect API key provided. ")
        self._note_use_soon(held.row)
        return held.principal

    async def create(
        self,
        name: str = "",
        workspace: str = "default",
        region: str = "local",
        expires_at: int | None = None,
    ) -> NewKey:
        """Make a key. Raises ValueError for a name or scope that is empty or too long, StoreError."""
        _check(name, workspace, region)
        key = _draft(name, workspace, region)

        async def attempt() -> None:
            async with self._database.transaction() as connection:
                revision = await table.next_revision(connection)
                await table.insert_key(connection, self._row(key, revision, expires_at))

        await _retried(attempt)
        return key

    async def ensure_first_key(self, path: Path) -> NewKey | None:
        """Where there is no key at all, make one and write its secret to `path`, for its owner's eyes only."""
        key = _draft("first key", "default", "local")

        async def attempt() -> NewKey | None:
            async with self._database.transaction() as connection:
                if await table.any_key(connection):
                    return None
                await table.insert_key(connection, self._row(key, 1, None))
                # Before the commit: a crash between the two leaves a file that the next start replaces, and never a
                # key whose secret nobody has.
                _write_secret(path, key.secret)
            return key

        return await _retried(attempt)

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; False where there is no such key, or it was revoked before."""

        async def attempt() -> bool:
            async with self._database.transaction() as connection:
                revision = await table.next_revision(connection)
                return await table.revoke_key(connection, key_id, revision, int(self._now()))

        return await _retried(attempt)

    async def list(self) -> list[KeyInfo]:
        """Every key, revoked ones too, oldest first."""
        async with self._database.snapshot() as connection:
            rows = await table.all_keys(connection)
        return [_info(row) for row in rows]

    async def _look(self, age_max_s: float) -> None:
        """Take in what has changed, unless the last look was less than `age_max_s` ago."""
        if self._monotonic() - self._looked_at < age_max_s:
            return
        async with self._looking:
            # Those who waited for somebody else's look need none of their own.
            started = self._monotonic()
            if started - self._looked_at < age_max_s:
                return
            try:
                async with self._database.snapshot() as connection:
                    rows = await table.keys_since(connection, self._revision)
            except StoreError as error:
                raise StudioError(
                    ErrorKind.INTERNAL, "The API key could not be checked.", detail=str(error)
                ) from error
            for row in rows:
                self._take_in(row)
            self._looked_at = started

    def _take_in(self, row: table.KeyRow) -> None:
        self._revision = row.revision
        if row.revoked_at is not None:
            self._held.pop(row.secret_hash, None)
            self._used_at.pop(row.id, None)
            return
        principal = Principal(row.id, row.name, row.workspace, row.region)
        self._held[row.secret_hash] = _Held(row, principal)

    def _find(self, secret: str) -> _Held | None:
        if len(secret) > SECRET_MAX:
            return None
        digest = hash_secret(secret)
        held = self._held.get(digest)
        # What the dictionary compares are hashes, and how long that takes tells nothing of a secret; this is a second
        # lock on the same door.
        if held is None or not hmac.compare_digest(held.row.secret_hash, digest):
            return None
        expires_at = held.row.expires_at
        return None if expires_at is not None and self._now() >= expires_at else held

    def _note_use_soon(self, row: table.KeyRow) -> None:
        """Keep `last_used_at` right to a minute. No request waits for it, and none fails because of it."""
        now = int(self._now())
        if now - max(row.last_used_at or 0, self._used_at.get(row.id, 0)) < TOUCH_EVERY_S:
            return
        self._used_at[row.id] = now
        noting = asyncio.get_running_loop().create_task(self._note_use(row, now))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _note_use(self, row: table.KeyRow, now: int) -> None:
        try:
            async with self._database.transaction() as connection:
                await table.touch_key(connection, row.id, now)
        except StoreError as error:
            log.warning("the last use of key %s could not be noted: %s", row.id, error)

    def _row(self, key: NewKey, revision: int, expires_at: int | None) -> table.KeyRow:
        return table.KeyRow(
            id=key.id,
            name=key.name,
            prefix=key.secret[:SHOWN],
            secret_hash=hash_secret(key.secret),
            workspace=key.workspace,
            region=key.region,
            created_at=int(self._now()),
            revision=revision,
            expires_at=expires_at,
        )


def hash_secret(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hexadecimal. Any text has one, also one that is no UTF-8."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _draft(name: str, workspace: str, region: str) -> NewKey:
    return NewKey(
        id=f"key-{secrets.token_hex(8)}",
        secret=SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES),
        name=name,
        workspace=workspace,
        region=region,
    )


def _check(name: str, workspace: str, region: str) -> None:
    if len(name) > NAME_MAX or not name.isprintable():
        raise ValueError(f"a key's name is at most {NAME_MAX} printable characters")
    for word, value in (("workspace", workspace), ("region", region)):
        if not _SCOPE.fullmatch(value):
            raise ValueError(
                f"the {word} {value!r} is not 1 to 64 letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit"
            )


def _info(row: table.KeyRow) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        name=row.name,
        masked=f"{row.prefix}…",
        workspace=row.workspace,
        region=row.region,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _write_secret(path: Path, secret: str) -> None:
    try:
        write_private(path, f"{secret}\n")
    except OSError as error:
        raise StoreError(
            f"the first key cannot be written to {path}: {error.strerror or error}"
        ) from None


async def _retried(attempt: Callable[[], Awaitable[T]]) -> T:
    for _ in range(CONFLICT_TRIES - 1):
        try:
            return await attempt()
        except ConflictError:
            continue
    return await attempt()
