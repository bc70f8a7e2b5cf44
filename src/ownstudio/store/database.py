"""One database: opened, brought up to date, lent out in transactions, closed.

SQLite runs in WAL mode, so that `ownstudio key create` and a running server do not wait for each other's reads. A
writing transaction takes SQLite's write lock when it begins: it waits once, at most `BUSY_TIMEOUT_S`, and cannot fail
half-way because another process wrote first. Exceptions of the driver leave this module as StoreError.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, event, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ownstudio.store.directory import DataDirectory, StoreError, create_private
from ownstudio.store.schema import SCHEMA_VERSION

BUSY_TIMEOUT_S = 5.0
# Longer a PostgreSQL that says nothing keeps nobody waiting. A step to today's schema takes as long as it takes.
CONNECT_S_MAX = 5.0
COMMAND_S_MAX = 10.0
POOL_SIZE = 4
WAL_TRIES = 40
WAL_RETRY_S = 0.05
CONFLICT_TRIES = 20

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_READ_ONLY = "ownstudio_read_only"
# What those that would migrate one PostgreSQL database agree on; nothing else has this number.
_MIGRATION_LOCK = 0x6F776E73

T = TypeVar("T")


class ConflictError(StoreError):
    """Another transaction wrote the same row or number first; the same work may be tried again."""


class Database:
    """A pool of connections to one database whose schema is up to date."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and migrate. `url` is an SQLAlchemy URL with or without a driver. Raises StoreError."""
        address = read_address(url)
        database = cls(_engine(address, COMMAND_S_MAX))
        try:
            if await database._schema_version() != SCHEMA_VERSION:
                await database._migrate(address)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def version(cls, url: str) -> str | None:
        """The schema's version as a database has it, which stays as it is; None for an empty one. Raises StoreError."""
        database = cls(_engine(read_address(url), COMMAND_S_MAX))
        try:
            return await database._schema_version()
        finally:
            await database.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection, None]:
        """A writing transaction: committed when the block ends, rolled back when it raises."""
        with _translated():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncConnection, None]:
        """A reading transaction: it sees one state of the database and waits for no writer."""
        with _translated():
            async with self._engine.connect() as connection:
                await connection.execution_options(**{_READ_ONLY: True})
                yield connection

    async def close(self) -> None:
        await self._engine.dispose()

    async def _schema_version(self) -> str | None:
        async with self.snapshot() as connection:
            return await connection.run_sync(_version)

    async def _migrate(self, address: URL) -> None:
        # Alembic costs a tenth of a second to import and more to run: only a database that needs it pays.
        from ownstudio.store.migrations import upgrade  # noqa: PLC0415

        if address.get_backend_name() == "sqlite":
            # Never through a second engine: whoever opens and closes the file beside SQLite takes its locks away.
            async with self.transaction() as connection:
                await connection.run_sync(upgrade)
            return
        unhurried = Database(_engine(address, command_s_max=None))
        try:
            async with unhurried.transaction() as connection:
                # On SQLite whoever writes is alone; here two that start at once would take the same steps.
                await connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                await connection.run_sync(upgrade)
        finally:
            await unhurried.close()


async def retried(attempt: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction, and again where another changed the same table at the same time."""
    for _ in range(CONFLICT_TRIES - 1):
        try:
            return await attempt()
        except ConflictError:
            continue
    return await attempt()


def database_url(configured: str, directory: DataDirectory) -> str:
    """The URL that the settings give, or else that of the file in the data directory."""
    return configured or sqlite_url(directory.database)


@asynccontextmanager
async def opened(configured: str, directory: DataDirectory) -> AsyncGenerator[Database, None]:
    """The database that the settings name, made where there is none. Raises StoreError."""
    directory.prepare()
    database = await Database.open(database_url(configured, directory))
    try:
        yield database
    finally:
        await database.close()


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def read_address(url: str) -> URL:
    """What `Database.open` connects to. Raises StoreError for what cannot be."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(
            "database_url is not a database URL such as postgresql://user@host/name"
        ) from None
    backend = address.get_backend_name()
    if backend not in _DRIVERS:
        raise StoreError(
            f"database_url begins with {backend}: the databases known are {', '.join(_DRIVERS)}"
        )
    if backend == "sqlite" and (not address.database or address.database == ":memory:"):
        raise StoreError("database_url names no file: a database in memory would forget every key")
    return address.set(drivername=_DRIVERS[backend])


def _engine(address: URL, command_s_max: float | None) -> AsyncEngine:
    """SQLite needs no `command_s_max`: it waits for nothing but its lock."""
    try:
        if address.get_backend_name() != "sqlite":
            return create_async_engine(
                address,
                pool_size=POOL_SIZE,
                pool_pre_ping=True,
                connect_args={"timeout": CONNECT_S_MAX, "command_timeout": command_s_max},
            )
        # SQLite gives its -wal and -shm files the mode of the database file.
        assert address.database is not None  # `read_address` lets none without pass
        create_private(Path(address.database))
        engine = create_async_engine(
            address,
            pool_size=POOL_SIZE,
            max_overflow=0,
            connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"database_url needs the Python package {error.name}, which is not installed"
        ) from None
    except OSError as error:
        raise StoreError(
            f"the database file {address.database} cannot be opened: {error.strerror or error}"
        ) from None
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    for tries_left in range(WAL_TRIES, 0, -1):
        # The first change to WAL waits for nobody: of two processes that open a new file one is told "locked".
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            break
        except Exception:
            if tries_left == 1:
                raise
            time.sleep(WAL_RETRY_S)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _version(connection: Connection) -> str | None:
    """The schema's version as the database says, or None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise ConflictError(f"the database refused a change: {error.orig}") from error
    except (SQLAlchemyError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise StoreError(f"the database cannot be used: {reason}") from error
