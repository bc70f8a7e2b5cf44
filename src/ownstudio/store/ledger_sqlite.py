"""The ledger in SQLite: one thread with a connection of its own, and one hop to it for each change.

SQLAlchemy's asynchronous layer changes threads at every statement, which for a handful of statements takes longer than
they do. So here the statements, compiled once, run one after the other in the one thread; what they say is still
written in SQLAlchemy's terms.
"""

import asyncio
import sqlite3
import threading
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
# Copying the write-ahead log waits for the disk. It is done when there is nothing else to do, or once the log has so
# many pages (of 4 KiB): rarely enough that one request in hundreds waits for it.
IDLE_S = 0.5
LOG_PAGES = 8000

T = TypeVar("T")


class _Failure(NamedTuple):
    error: Exception


class SqliteLedgerStore:
    """The ledger in a database file that is up to date. The thread starts with the first change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        # Whether the write-ahead log may have something that the database file has not.
        self._uncopied = False

    def commit(
        self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]
    ) -> asyncio.Future[T]:
        if self._thread is None:
            # A daemon: a disk that never answers must not keep the process from ending.
            self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            outcome: T | _Failure
            try:
                outcome = self._change(wanted, decide)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits in the loop
                outcome = _Failure(error)
            with suppress(RuntimeError):
                # A loop that is closed has nobody who waits.
                loop.call_soon_threadsafe(_tell, done, outcome)

        self._jobs.put(job)
        return done

    async def close(self) -> None:
        """Let what was begun end, at most for a bounded time."""
        if self._thread is None:
            return
        self._jobs.put(None)
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(None, thread.join, CLOSE_S_MAX)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S if self._uncopied else None)
            except Empty:
                self._copy_log()
                continue
            if job is None:
                break
            job()
        self._disconnect()

    def _copy_log(self) -> None:
        """Bring what the write-ahead log has into the database file: it waits for the disk, and nobody for it."""
        self._uncopied = False
        if self._connection is not None:
            # What cannot be copied now stays in the log, and is copied another time.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _change(self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]) -> T:
        try:
            connection = self._connection or self._connect()
            try:
                connection.execute("BEGIN IMMEDIATE")
                result, changes = decide(_see(connection, wanted))
                _write(connection, changes)
                connection.execute("COMMIT")
                self._uncopied = True
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            raise ConflictError(f"the database refused a change: {error}") from error
        except sqlite3.Error as error:
            # The next change finds out afresh what the file is like: room may have been made, or a lock released.
            self._disconnect()
            raise StoreError(f"the database cannot be used: {error}") from error
        return result

    def _connect(self) -> sqlite3.Connection:
        # `mode=rw`: a file that is gone is an error, and not a new database without tables.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=settings.BUSY_TIMEOUT_S,
            isolation_level=None,
        )
        # The file is in WAL mode since it was made; these hold for a connection.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


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
