"""Keys: made, checked, changed, revoked.

A secret is shown once and never stored. What is stored is its SHA-256: the secret carries 256 random bits, so there is
nothing to guess and a slow hash would only slow every request down. Only secrets made here exist; nobody chooses one.

The keyring knows the holders of all keys and asks the database for changes every `FRESH_S`, whoever calls and with
whatever secret. So a check costs microseconds, a flood of wrong keys costs the database nothing more, and what another
process made, changed or revoked (a key, a workspace, an account) counts within a second. An unknown secret may bring
the next look forward, to `EAGER_S` after the last: a key that was made a moment ago works at once.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from ownstudio.accounts.changes import (
    Missing,
    RulesChange,
    changed_rules,
    check_id,
    check_name,
    read_rules,
    written_rules,
)
from ownstudio.accounts.holders import Held, Holders
from ownstudio.accounts.look import SharedLook
from ownstudio.accounts.principal import DEFAULT_ACCOUNT, DEFAULT_WORKSPACE, Principal
from ownstudio.accounts.rules import UNBOUND, Rules
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store import accounts as account_table
from ownstudio.store import keys as table
from ownstudio.store.database import Database, retried
from ownstudio.store.directory import StoreError, write_first_secret

FRESH_S = 0.5
EAGER_S = 0.05
TOUCH_EVERY_S = 60
OVERLAP_S_MAX = 366 * 86_400

SECRET_PREFIX = "sk-"
SECRET_BYTES = 32
SECRET_MAX = 256
# How much of a secret people see to tell keys apart: 24 of its 256 bits.
SHOWN = 7

log = logging.getLogger(__name__)


class NewKey(Struct, frozen=True):
    """A key at its making, the only time that its secret is known. `made_workspace`: its workspace was made with it."""

    id: str
    secret: str
    name: str
    workspace: str
    region: str
    expires_at: int | None = None
    disabled: bool = False
    made_workspace: bool = False


class KeyInfo(Struct, frozen=True):
    """A key as it may be shown. Times are Unix seconds; `last_used_at` is up to a minute behind."""

    id: str
    name: str
    masked: str
    workspace: str
    region: str
    created_at: int
    expires_at: int | None
    disabled_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    rules: Rules


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
        self._now = now
        self._holders = Holders()
        self._look = SharedLook(
            self._take_in,
            monotonic,
            "The API key could not be checked, please try again later.",
            retry_after=1,
        )
        self._used_at: dict[str, int] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for what is being written. The database must stay open until then."""
        if self._noting:
            await asyncio.wait(self._noting)

    def cached(self, secret: str) -> Principal | None:
        """The holder of a key, where that is known without a look at the database; else None: authenticate then."""
        if not self._look.is_fresh(FRESH_S):
            return None
        held = self._find(secret)
        if held is None or held.principal is None:
            return None
        self._note_use_soon(held.row)
        return held.principal

    async def authenticate(self, secret: str) -> Principal:
        """The holder of a key. Raises StudioError INVALID_API_KEY, STORE_UNAVAILABLE."""
        await self._look.look(FRESH_S)
        held = self._find(secret)
        if held is None or held.principal is None:
            await self._look.look(EAGER_S)
            held = self._find(secret)
        if held is not None and held.row.disabled_at is not None:
            raise StudioError(ErrorKind.BLOCKED_API_KEY, "API-key is blocked.")
        if held is None or held.principal is None:
            raise StudioError(ErrorKind.INVALID_API_KEY, "Incorrect API key provided. ")
        self._note_use_soon(held.row)
        return held.principal

    async def create(
        self,
        name: str = "",
        workspace: str = DEFAULT_WORKSPACE,
        region: str = "local",
        expires_at: int | None = None,
        rules: Rules = UNBOUND,
    ) -> NewKey:
        """Make a key. A workspace that does not exist is made with it, in the default account and without rules.

        Raises ValueError, in words, for what cannot be, and StoreError.
        """
        check_name("key", name)
        check_id("workspace", workspace)
        check_id("region", region)
        self._check_expiry(expires_at)
        secret, row = self._draft(name, workspace, region)
        row = replace(row, expires_at=expires_at, rules=written_rules(rules))

        async def attempt() -> bool:
            async with self._database.transaction() as connection:
                made = await account_table.ensure_workspace(
                    connection, workspace, DEFAULT_ACCOUNT, row.created_at
                )
                revision = await table.next_revision(connection)
                await table.insert_key(connection, replace(row, revision=revision))
            return made

        return _new(secret, row, made_workspace=await retried(attempt))

    async def ensure_first_key(self, path: Path, region: str = "local") -> NewKey | None:
        """Where there is no key at all, make one and write its secret to `path`, for its owner's eyes only."""
        secret, row = self._draft("first key", DEFAULT_WORKSPACE, region)

        async def attempt() -> NewKey | None:
            async with self._database.transaction() as connection:
                if await table.any_key(connection):
                    return None
                await account_table.ensure_workspace(
                    connection, DEFAULT_WORKSPACE, DEFAULT_ACCOUNT, row.created_at
                )
                await table.insert_key(connection, replace(row, revision=1))
                # Before the commit: a crash between the two leaves a file that the next start replaces, and never a
                # key whose secret nobody has.
                write_first_secret(path, secret, "first key")
            return _new(secret, row)

        return await retried(attempt)

    async def update(
        self,
        key_id: str,
        *,
        name: str | None = None,
        rules: RulesChange | None = None,
        disabled: bool | None = None,
        expires_at: int | UnsetType | None = UNSET,
    ) -> KeyInfo:
        """Change what is given and leave the rest. Raises ValueError, Missing for a key revoked or unknown."""
        if name is not None:
            check_name("key", name)
        if expires_at is not UNSET:
            self._check_expiry(expires_at)
        now = int(self._now())

        async def attempt() -> KeyInfo:
            async with self._database.transaction() as connection:
                row = _unrevoked(await table.key(connection, key_id), key_id)
                disabled_at = row.disabled_at
                if disabled is not None:
                    disabled_at = (disabled_at or now) if disabled else None
                new = replace(
                    row,
                    name=row.name if name is None else name,
                    rules=changed_rules(row.rules, key_id, rules),
                    disabled_at=disabled_at,
                    expires_at=row.expires_at if expires_at is UNSET else expires_at,
                    revision=await table.next_revision(connection),
                )
                await table.update_key(connection, new, was=row.revision)
            return _info(new)

        return await retried(attempt)

    async def rotate(self, key_id: str, overlap_s: int = 0) -> NewKey:
        """Make a key like this one, with a secret and an id of its own, and end this one.

        The old one is revoked at once or, given an overlap, expires after it. The new one is disabled where the old
        one is. Raises ValueError, Missing for a key that is revoked, expired or unknown.
        """
        if not 0 <= overlap_s <= OVERLAP_S_MAX:
            raise ValueError(f"an overlap is 0 to {OVERLAP_S_MAX} seconds, not {overlap_s}")

        async def attempt() -> NewKey:
            async with self._database.transaction() as connection:
                old = _unrevoked(await table.key(connection, key_id), key_id)
                secret, draft = self._draft(old.name, old.workspace, old.region)
                now = draft.created_at
                if old.expires_at is not None and old.expires_at <= now:
                    raise _no_key(key_id)
                revision = await table.next_revision(connection)
                ended = replace(old, revision=revision)
                if overlap_s:
                    ends_at = now + overlap_s
                    ended = replace(ended, expires_at=min(ends_at, old.expires_at or ends_at))
                else:
                    ended = replace(ended, revoked_at=now)
                new = replace(
                    draft,
                    expires_at=old.expires_at,
                    disabled_at=old.disabled_at,
                    rules=old.rules,
                    revision=revision + 1,
                )
                await table.update_key(connection, ended, was=old.revision)
                await table.insert_key(connection, new)
            return _new(secret, new)

        return await retried(attempt)

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; False where there is no such key, or it was revoked before."""

        async def attempt() -> bool:
            async with self._database.transaction() as connection:
                row = await table.key(connection, key_id)
                if row is None or row.revoked_at is not None:
                    return False
                revision = await table.next_revision(connection)
                revoked = replace(row, revoked_at=int(self._now()), revision=revision)
                await table.update_key(connection, revoked, was=row.revision)
            return True

        return await retried(attempt)

    async def get(self, key_id: str) -> KeyInfo:
        """A key, also one that is revoked. Raises Missing."""
        async with self._database.snapshot() as connection:
            row = await table.key(connection, key_id)
        if row is None:
            raise _no_key(key_id)
        return _info(row)

    async def list(self) -> list[KeyInfo]:
        """Every key, revoked ones too, oldest first."""
        async with self._database.snapshot() as connection:
            rows = await table.all_keys(connection)
        return [_info(row) for row in rows]

    async def _take_in(self) -> None:
        for row in await self._holders.take_in(self._database):
            if row.revoked_at is not None:
                self._used_at.pop(row.id, None)

    def _find(self, secret: str) -> Held | None:
        if len(secret) > SECRET_MAX:
            return None
        digest = hash_secret(secret)
        held = self._holders.by_hash.get(digest)
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

    def _draft(self, name: str, workspace: str, region: str) -> tuple[str, table.KeyRow]:
        """A new secret and the row of its key, to which its transaction gives a revision."""
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        return secret, table.KeyRow(
            id=f"key-{secrets.token_hex(8)}",
            name=name,
            prefix=secret[:SHOWN],
            secret_hash=hash_secret(secret),
            workspace=workspace,
            region=region,
            created_at=int(self._now()),
            revision=0,
        )

    def _check_expiry(self, expires_at: int | None) -> None:
        if expires_at is not None and expires_at <= self._now():
            raise ValueError("a key cannot expire in the past: disable or revoke it instead")


def hash_secret(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hexadecimal. Any text has one, also one that is no UTF-8."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _unrevoked(row: table.KeyRow | None, key_id: str) -> table.KeyRow:
    if row is None or row.revoked_at is not None:
        raise _no_key(key_id)
    return row


def _no_key(key_id: str) -> Missing:
    return Missing("key", f"{key_id} is no key in use")


def _new(secret: str, row: table.KeyRow, *, made_workspace: bool = False) -> NewKey:
    return NewKey(
        id=row.id,
        secret=secret,
        name=row.name,
        workspace=row.workspace,
        region=row.region,
        expires_at=row.expires_at,
        disabled=row.disabled_at is not None,
        made_workspace=made_workspace,
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
        disabled_at=row.disabled_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        rules=read_rules(row.rules, row.id),
    )
