"""The ledger in SQLite: a change is made at once, in the event loop, as long as that takes microseconds.

A change is a handful of statements in the page cache, some fifty microseconds together. To wake a thread for it and be
woken again took longer, and SQLAlchemy's asynchronous layer, which changes threads at every statement, many times
longer. So the statements, compiled once, run where they are asked for; what they say is still written in SQLAlchemy's
terms.

What could keep everybody waiting belongs to a thread: to wait for a file that another process has locked, to copy
the write-ahead log into the file, and, for a while after one change was slow, every change.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar

from msgspec.structs import astuple
from sqlalchemy import Executable, bindparam, delete, insert, select
from sqlalchemy.dialects import sqlite

from ownstudio.store import database as settings
from ownstudio.store.database import ConflictError
from ownstudio.store.directory import StoreError
from ownstudio.store.ledger import Changes, EntryRow, FundsRow, HoldRow, Seen, Wanted
from ownstudio.store.schema import entries, funds, holds

CLOSE_S_MAX = 5.0
# A change that took longer sends those of the next while to the thread.
SLOW_S = 0.02
REST_S = 10.0
# Copying the write-ahead log waits for the disk. It is done when nothing has changed for a moment, or once the log has
# so many bytes.
IDLE_S = 0.5
LOG_BYTES_MAX = 32 * 1024**2

T = TypeVar("T")

# To change the ledger: what it means for what is seen.
Decide = Callable[[Seen], tuple[T, Changes]]


class _Locked(Exception):
    """Another connection is writing."""


class _Failure(NamedTuple):
    error: Exception


class SqliteLedgerStore:
    """The ledger in a database file that is up to date. The thread starts with the first change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._here = _Connection(path, waits=False)
        self._beside = _Connection(path, waits=True)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # How many changes the thread has still to make, and until when it makes all of them.
        self._handed_over = 0
        self._resting_until = 0.0
        # When the write-ahead log last got something that the database file has not; None where it has nothing.
        self._uncopied_since: float | None = None

    def commit(self, wanted: Wanted, decide: Decide[T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        begun = time.monotonic()
        # One after the other, in the order that they came.
        if self._handed_over or begun < self._resting_until:
            self._hand_over(wanted, decide, done, loop)
            return done
        outcome: T | _Failure
        try:
            outcome = self._here.change(wanted, decide)
        except _Locked:
            self._hand_over(wanted, decide, done, loop)
            return done
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            outcome = _Failure(error)
        if time.monotonic() - begun > SLOW_S:
            self._resting_until = time.monotonic() + REST_S
        self._note_change()
        _tell(done, outcome)
        return done

    async def close(self) -> None:
        """Let what was begun end, at most for a bounded time."""
        if self._thread is not None:
            self._jobs.put(None)
            thread, self._thread = self._thread, None
            await asyncio.get_running_loop().run_in_executor(None, thread.join, CLOSE_S_MAX)
        self._here.close()

    def _hand_over(
        self,
        wanted: Wanted,
        decide: Decide[T],
        done: asyncio.Future[T],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._handed_over += 1

        def made(outcome: T | _Failure) -> None:
            self._handed_over -= 1
            _tell(done, outcome)

        def job() -> None:
            outcome: T | _Failure
            try:
                outcome = self._beside.change(wanted, decide)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits in the loop
                outcome = _Failure(error)
            self._uncopied_since = time.monotonic()
            with suppress(RuntimeError):
                # A loop that is closed has nobody who waits.
                loop.call_soon_threadsafe(made, outcome)

        self._start()
        self._jobs.put(job)

    def _note_change(self) -> None:
        """See to it that the log is copied some time."""
        asleep = self._uncopied_since is None
        self._uncopied_since = time.monotonic()
        if asleep:
            self._start()
            self._jobs.put(_nothing)

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: a disk that never answers must not keep the process from ending.
            self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=None if self._uncopied_since is None else IDLE_S)
            except Empty:
                self._copy_log()
                continue
            if job is None:
                break
            job()
        self._beside.close()

    def _copy_log(self) -> None:
        since = self._uncopied_since
        quiet = since is None or time.monotonic() - since >= IDLE_S
        if quiet or _size(self._path.with_name(f"{self._path.name}-wal")) > LOG_BYTES_MAX:
            self._uncopied_since = None
            self._beside.copy_log()


class _Connection:
    """One connection, opened when it is needed, for one thread. `waits` for a lock, or raises _Locked."""

    def __init__(self, path: Path, *, waits: bool) -> None:
        self._path = path
        self._waits = waits
        self._connection: sqlite3.Connection | None = None

    def change(self, wanted: Wanted, decide: Decide[T]) -> T:
        """Raises StoreError, ConflictError, _Locked, and what `decide` raises. In each case nothing was written."""
        try:
            connection = self._connection or self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                result, changes = decide(_see(connection, wanted))
                _write(connection, changes)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            raise ConflictError(f"the database refused a change: {error}") from error
        except sqlite3.Error as error:
            if not self._waits and getattr(error, "sqlite_errorcode", None) in _LOCKED:
                raise _Locked from error
            # The next change finds out afresh what the file is like: room may have been made, or a lock released.
            self.close()
            raise StoreError(f"the database cannot be used: {error}") from error
        return result

    def copy_log(self) -> None:
        """Bring what the write-ahead log has into the database file: it waits for the disk, and nobody for it."""
        # What cannot be copied now stays in the log, and is copied another time.
        with suppress(sqlite3.Error):
            connection = self._connection or self._open()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        # `mode=rw`: a file that is gone is an error, and not a new database without tables.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=settings.BUSY_TIMEOUT_S if self._waits else 0,
            isolation_level=None,
        )
        # The file is in WAL mode since it was made; these hold for a connection.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection = connection
        return connection


_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _nothing() -> None:
    """Wakes the thread."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tell(done: asyncio.Future[T], outcome: T | _Failure) -> None:
    if done.done():
        return
    if isinstance(outcome, _Failure):
        done.set_exception(outcome.error)
    else:
        done.set_result(outcome)


def _see(connection: sqlite3.Connection, wanted: Wanted) -> Seen:
    execute = connection.execute
    rows: dict[str, FundsRow] = {}
    for scope in wanted.scopes:
        found = execute(_FUNDS, (scope,)).fetchone()
        rows[scope] = FundsRow(scope) if found is None else FundsRow(*found)
    open_holds: dict[str, HoldRow] = {}
    kinds: dict[str, frozenset[str]] = {}
    for receipt in wanted.receipts:
        found = execute(_HOLD, (receipt,)).fetchone()
        if found is not None:
            open_holds[receipt] = HoldRow(*found)
        else:
            kinds[receipt] = frozenset(kind for (kind,) in execute(_KINDS, (receipt,)))
    return Seen(rows, open_holds, kinds)


def _write(connection: sqlite3.Connection, changes: Changes) -> None:
    if changes.entries:
        connection.executemany(_ADD_ENTRY, map(astuple, changes.entries))
    if changes.opened:
        connection.executemany(_OPEN, map(astuple, changes.opened))
    if changes.closed:
        connection.executemany(_CLOSE, ((receipt,) for receipt in changes.closed))
    if changes.funds:
        connection.executemany(_SET_FUNDS, map(astuple, changes.funds))


def _compiled(statement: Executable, *names: str) -> str:
    """The text of a statement whose parameters are a tuple in this order."""
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))  # type: ignore[attr-defined]
    order = tuple(compiled.positiontup)
    if order != names:
        raise AssertionError(f"the parameters are {order}, not {names}")
    return str(compiled)


_FUNDS_FIELDS = FundsRow.__struct_fields__
_upsert = sqlite.insert(funds).values({name: bindparam(name) for name in _FUNDS_FIELDS})

_FUNDS = _compiled(
    select(*(funds.c[name] for name in _FUNDS_FIELDS)).where(funds.c.scope == bindparam("scope")),
    "scope",
)
_SET_FUNDS = _compiled(
    _upsert.on_conflict_do_update(
        index_elements=[funds.c.scope],
        set_={name: _upsert.excluded[name] for name in ("granted", "spent", "held")},
    ),
    *_FUNDS_FIELDS,
)
_HOLD = _compiled(
    select(*(holds.c[name] for name in HoldRow.__struct_fields__)).where(
        holds.c.receipt == bindparam("receipt")
    ),
    "receipt",
)
_OPEN = _compiled(
    insert(holds).values({name: bindparam(name) for name in HoldRow.__struct_fields__}),
    *HoldRow.__struct_fields__,
)
_CLOSE = _compiled(delete(holds).where(holds.c.receipt == bindparam("of")), "of")
_KINDS = _compiled(
    select(entries.c.kind).where(entries.c.receipt == bindparam("receipt")), "receipt"
)
_ADD_ENTRY = _compiled(
    insert(entries).values({name: bindparam(name) for name in EntryRow.__struct_fields__}),
    *EntryRow.__struct_fields__,
)
