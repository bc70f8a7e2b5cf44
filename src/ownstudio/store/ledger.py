"""All statements about the ledger, and the port through which its one writer changes it.

A change of the ledger is one transaction: it locks the funds concerned in ascending order of their scopes, reads the
holds concerned, lets `decide` say what follows from that, and writes it. Every hold claims its account's funds, so
those who change one hold meet at the same lock and see what the other did.

SQLite has a connection of its own for this (`ledger_sqlite`); this module has the way for PostgreSQL, and all reading.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import (
    ColumnElement,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.database import ConflictError, Database
from ownstudio.store.directory import StoreError
from ownstudio.store.schema import entries, funds, holds

COMMIT_S_MAX = 10.0
ROWS_AT_ONCE = 1000
SCOPES_KNOWN_MAX = 100_000
DAY_S = 86_400

T = TypeVar("T")


class EntryRow(Struct, frozen=True):
    """One entry as stored; see `store.schema.entries`."""

    receipt: str
    kind: str
    at: int
    account: str
    workspace: str = ""
    key_id: str = ""
    region: str = ""
    model: str = ""
    price_id: int | None = None
    amount: int = 0
    reserved_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    explicit_cache: bool = False
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    thinking: bool = False
    free_prompt_tokens: int = 0
    free_completion_tokens: int = 0
    ending: str = ""
    note: str = ""


class FundsRow(Struct, frozen=True):
    """What one scope was given, what was spent of it, and what open holds reserve."""

    scope: str
    granted: int = 0
    spent: int = 0
    held: int = 0


class HoldRow(Struct, frozen=True):
    """A hold that is open; `claims` is JSON."""

    receipt: str
    expires_at: int
    claims: str


class Wanted(Struct, frozen=True):
    """What a change has to see: funds by ascending scope, and what became of these receipts."""

    scopes: tuple[str, ...]
    receipts: tuple[str, ...] = ()


class Seen(Struct, frozen=True):
    """The state before a change. Scopes without a row have an empty one; `kinds` tells, for the receipts that have no
    open hold, which entries they have."""

    funds: Mapping[str, FundsRow]
    holds: Mapping[str, HoldRow]
    kinds: Mapping[str, frozenset[str]]


class Changes(Struct, frozen=True):
    """What a change writes: new entries, new values of funds, holds that begin and those that end."""

    entries: Sequence[EntryRow] = ()
    funds: Sequence[FundsRow] = ()
    opened: Sequence[HoldRow] = ()
    closed: Sequence[str] = ()


class LedgerStore(Protocol):
    """Where the ledger is kept: one change at a time, whole or not at all."""

    def commit(
        self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]
    ) -> asyncio.Future[T]:
        """Make one change; `decide` is pure and may be called from another thread.

        What the future raises: StoreError; ConflictError where it is the change that cannot be made, and not the store
        that is at fault; and what `decide` raises. In each case nothing was written, unless it is the connection that
        broke while it was told to commit.
        """
        ...

    async def close(self) -> None: ...


def ledger_store(database: Database, url: str) -> LedgerStore:
    """The store of the ledger in a database that was opened from this URL."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or address.database is None:
        return PostgresLedgerStore(database)
    # Built on the rest of this module.
    from ownstudio.store.ledger_sqlite import SqliteLedgerStore  # noqa: PLC0415

    return SqliteLedgerStore(Path(address.database))


class PostgresLedgerStore:
    """The ledger in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Rows of funds are never deleted: what was there once need not be made again.
        self._known: set[str] = set()

    def commit(
        self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]
    ) -> asyncio.Future[T]:
        return asyncio.get_running_loop().create_task(self._commit(wanted, decide))

    async def _commit(self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]) -> T:
        try:
            async with (
                asyncio.timeout(COMMIT_S_MAX),
                self._database.transaction() as connection,
            ):
                seen = await self._see(connection, wanted)
                result, changes = decide(seen)
                await _write(connection, changes)
        except TimeoutError:
            raise StoreError(
                f"the database took more than {COMMIT_S_MAX:g} s for one transaction"
            ) from None
        except StoreError as error:
            if _of_values(error):
                raise ConflictError(str(error)) from error
            raise
        if len(self._known) + len(wanted.scopes) > SCOPES_KNOWN_MAX:
            self._known.clear()
        self._known.update(wanted.scopes)
        return result

    async def close(self) -> None:
        """Its connections are the database's."""

    async def _see(self, connection: AsyncConnection, wanted: Wanted) -> Seen:
        new = [{"scope": scope} for scope in wanted.scopes if scope not in self._known]
        if new:
            # In ascending order too, and before any row is locked: so no two transactions wait for each other.
            await connection.execute(_ENSURE_FUNDS, new)
        locked = await connection.execute(_LOCK_FUNDS, {"scopes": wanted.scopes})
        rows = {row.scope: FundsRow(*row) for row in locked}
        if not wanted.receipts:
            return Seen(rows, {}, {})
        found = await connection.execute(_HOLDS, {"receipts": wanted.receipts})
        open_holds = {row.receipt: HoldRow(*row) for row in found}
        ended = [receipt for receipt in wanted.receipts if receipt not in open_holds]
        kinds: dict[str, set[str]] = {}
        if ended:
            for receipt, kind in await connection.execute(_KINDS, {"receipts": ended}):
                kinds.setdefault(receipt, set()).add(kind)
        return Seen(rows, open_holds, {key: frozenset(value) for key, value in kinds.items()})


def _of_values(error: StoreError) -> bool:
    """Whether a value was refused. SQLAlchemy has no name of its own for what asyncpg refuses by itself."""
    state = getattr(getattr(error.__cause__, "orig", None), "sqlstate", None)
    return isinstance(state, str) and state.startswith(_DATA_EXCEPTION)


async def _write(connection: AsyncConnection, changes: Changes) -> None:
    if changes.entries:
        await connection.execute(_ADD_ENTRIES, [asdict(row) for row in changes.entries])
    if changes.opened:
        await connection.execute(insert(holds), [asdict(row) for row in changes.opened])
    if changes.closed:
        await connection.execute(_CLOSE, {"receipts": changes.closed})
    if changes.funds:
        await connection.execute(
            _SET_FUNDS,
            [
                {"of": row.scope, "granted": row.granted, "spent": row.spent, "held": row.held}
                for row in changes.funds
            ],
        )


# Reading. Every one of these takes a connection of `Database.snapshot`.


class Admission(Struct, frozen=True):
    """A request that was let in at `at`, with the tokens that its limits count: what it used, none where it was
    released, and what it may use as long as neither is known."""

    receipt: str
    at: int
    account: str
    workspace: str
    key_id: str
    region: str
    model: str
    tokens: int


class UsageRow(Struct, frozen=True):
    """Sums over the settled requests of one group; `group` has one value for each thing grouped by."""

    group: tuple[str | int, ...]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    cache_creation_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    free_tokens: int
    amount: int


async def one_state(connection: AsyncConnection) -> None:
    """Let all that this snapshot reads be of one moment. To be called before its first statement."""
    if connection.dialect.name == "postgresql":
        # SQLite does so by itself; PostgreSQL would show each statement what was committed before it.
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


async def due_holds(
    connection: AsyncConnection, now: int, at_most: int
) -> list[tuple[HoldRow, EntryRow]]:
    """Open holds whose time is over, the oldest first, each with the entry that it began with."""
    begun = and_(entries.c.receipt == holds.c.receipt, entries.c.kind == "hold")
    result = await connection.execute(
        select(*_HOLD_COLUMNS, *_ENTRY_COLUMNS)
        .select_from(holds.join(entries, begun))
        .where(holds.c.expires_at <= now)
        .order_by(holds.c.expires_at)
        .limit(at_most)
    )
    width = len(_HOLD_COLUMNS)
    return [(HoldRow(*row[:width]), EntryRow(*row[width:])) for row in result]


async def all_holds(connection: AsyncConnection) -> list[HoldRow]:
    return [HoldRow(*row) for row in await connection.execute(select(*_HOLD_COLUMNS))]


async def all_funds(connection: AsyncConnection) -> AsyncIterator[FundsRow]:
    result = await connection.stream(
        select(*_FUNDS_COLUMNS).order_by(funds.c.scope).execution_options(yield_per=ROWS_AT_ONCE)
    )
    async for row in result:
        yield FundsRow(*row)


async def funds_of(connection: AsyncConnection, scopes: Iterable[str]) -> dict[str, FundsRow]:
    """The rows of these scopes that exist."""
    result = await connection.execute(
        select(*_FUNDS_COLUMNS).where(funds.c.scope.in_(list(scopes)))
    )
    return {row.scope: FundsRow(*row) for row in result}


async def count_entries(connection: AsyncConnection) -> int:
    return await connection.scalar(select(func.count()).select_from(entries)) or 0


async def entries_by_receipt(connection: AsyncConnection) -> AsyncIterator[list[EntryRow]]:
    """All entries, those of one receipt together in the order of their writing."""
    # The unique index is in this order: nothing is sorted, however many there are.
    statement = (
        select(entries.c.seq, *_ENTRY_COLUMNS)
        .order_by(entries.c.receipt, entries.c.kind)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    group: list[tuple[int, EntryRow]] = []
    async for seq, *values in await connection.stream(statement):
        row = EntryRow(*values)
        if group and group[0][1].receipt != row.receipt:
            yield _in_order(group)
            group = []
        group.append((seq, row))
    if group:
        yield _in_order(group)


async def entries_of(connection: AsyncConnection, receipt: str) -> list[EntryRow]:
    """The life of one receipt, in order."""
    result = await connection.execute(
        select(*_ENTRY_COLUMNS).where(entries.c.receipt == receipt).order_by(entries.c.seq)
    )
    return [EntryRow(*row) for row in result]


async def admissions_since(connection: AsyncConnection, since: int) -> list[Admission]:
    """Requests that were let in at `since` or later, in order."""
    held, ended = entries.alias("held"), entries.alias("ended")
    tokens = case(
        (ended.c.kind.is_(None), held.c.reserved_tokens),
        (ended.c.kind == "settle", ended.c.prompt_tokens + ended.c.completion_tokens),
        else_=0,
    )
    result = await connection.execute(
        select(
            *(held.c[name] for name in Admission.__struct_fields__ if name != "tokens"),
            tokens.label("tokens"),
        )
        .select_from(
            held.outerjoin(
                ended,
                and_(
                    ended.c.receipt == held.c.receipt,
                    ended.c.kind.in_(("settle", "release")),
                ),
            )
        )
        .where(held.c.kind == "hold", held.c.at >= since)
        # Not by their numbers alone: SQLite would read the whole ledger in their order.
        .order_by(held.c.at, held.c.seq)
    )
    return [Admission(*tuple(row)) for row in result]


async def usage(
    connection: AsyncConnection,
    by: Sequence[str],
    since: int,
    until: int,
    filters: Mapping[str, str],
) -> list[UsageRow]:
    """Sums over what was settled from `since` until before `until`, for each group that has anything; grouped by
    nothing there is one row in any case.

    `by` names columns, or "day": the day's first second. `filters` are values of columns.
    """
    group = [_group(name) for name in by]
    sums = [
        func.count(),
        *(func.coalesce(func.sum(column), 0) for column in _SUMMED),
    ]
    statement = select(*group, *sums).where(
        entries.c.kind == "settle",
        entries.c.at >= since,
        entries.c.at < until,
        *(entries.c[name] == value for name, value in filters.items()),
    )
    if group:
        statement = statement.group_by(*group).order_by(*group)
    rows = []
    for row in await connection.execute(statement):
        values = tuple(row)
        # PostgreSQL sums whole numbers to decimals.
        rows.append(UsageRow(values[: len(by)], *map(int, values[len(by) :])))
    return rows


def _group(name: str) -> ColumnElement[object]:
    if name == "day":
        # As a literal: with a parameter PostgreSQL takes what is selected and what is grouped by for two things.
        day = literal(DAY_S, Integer, literal_execute=True)
        return (entries.c.at - entries.c.at % day).label("day")
    return entries.c[name]


def _in_order(group: list[tuple[int, EntryRow]]) -> list[EntryRow]:
    return [row for _, row in sorted(group, key=lambda pair: pair[0])]


_ENTRY_COLUMNS = [entries.c[name] for name in EntryRow.__struct_fields__]
_FUNDS_COLUMNS = [funds.c[name] for name in FundsRow.__struct_fields__]
_HOLD_COLUMNS = [holds.c[name] for name in HoldRow.__struct_fields__]
_SUMMED = [
    entries.c.prompt_tokens,
    entries.c.cached_tokens,
    entries.c.cache_creation_tokens,
    entries.c.completion_tokens,
    entries.c.reasoning_tokens,
    entries.c.free_prompt_tokens + entries.c.free_completion_tokens,
    entries.c.amount,
]

# SQL's class of errors in data.
_DATA_EXCEPTION = "22"

# Nobody asks for the numbers that they get.
_ADD_ENTRIES = insert(entries).inline()
_ENSURE_FUNDS = postgresql.insert(funds).on_conflict_do_nothing()
_LOCK_FUNDS = (
    select(*_FUNDS_COLUMNS)
    .where(funds.c.scope.in_(bindparam("scopes", expanding=True)))
    .order_by(funds.c.scope)
    .with_for_update()
)
_HOLDS = select(*_HOLD_COLUMNS).where(holds.c.receipt.in_(bindparam("receipts", expanding=True)))
_KINDS = select(entries.c.receipt, entries.c.kind).where(
    entries.c.receipt.in_(bindparam("receipts", expanding=True))
)
_CLOSE = delete(holds).where(holds.c.receipt.in_(bindparam("receipts", expanding=True)))
_SET_FUNDS = (
    update(funds)
    .where(funds.c.scope == bindparam("of"))
    .values(granted=bindparam("granted"), spent=bindparam("spent"), held=bindparam("held"))
)
