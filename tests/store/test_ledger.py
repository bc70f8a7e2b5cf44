"""Goal: a change of the ledger is made whole or not at all, in both databases, whoever else writes, whatever fails."""

import asyncio
import resource
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ownstudio.store import database as database_module
from ownstudio.store import ledger as module
from ownstudio.store import ledger_sqlite
from ownstudio.store.database import ConflictError, Database, sqlite_url
from ownstudio.store.directory import StoreError
from ownstudio.store.ledger import (
    Changes,
    EntryRow,
    FundsRow,
    HoldRow,
    LedgerStore,
    Seen,
    Wanted,
    ledger_store,
)
from support.money import sql
from support.servers import Postgres

BEYOND_64_BITS = 2**63


class Place(NamedTuple):
    """A database, and as many stores of its ledger as a test asks for."""

    database: Database
    store: Callable[[], LedgerStore]


@pytest.fixture(params=["sqlite", "postgresql"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    url = sqlite_url(tmp_path / "o.db")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database()
    database = await Database.open(url)
    made: list[LedgerStore] = []

    def store() -> LedgerStore:
        made.append(ledger_store(database, url))
        return made[-1]

    yield Place(database, store)
    for one in made:
        await one.close()
    await database.close()


@pytest.fixture
def store(place: Place) -> LedgerStore:
    return place.store()


@pytest.fixture
async def file_store(tmp_path: Path) -> AsyncIterator[LedgerStore]:
    """The one in a file, for what can only happen to files."""
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    store = ledger_store(database, sqlite_url(tmp_path / "o.db"))
    yield store
    await store.close()
    await database.close()


def entry(receipt: str, kind: str = "hold", at: int = 10, **changes: object) -> EntryRow:
    return EntryRow(receipt, kind, at, "shop", **changes)  # type: ignore[arg-type]


async def write(store: LedgerStore, changes: Changes) -> Seen:
    """Make a change, and say what there was before it."""
    wanted = Wanted(
        tuple(sorted(row.scope for row in changes.funds)),
        tuple(row.receipt for row in changes.entries if row.kind != "payment"),
    )
    return await store.commit(wanted, lambda seen: (seen, changes))


async def seen(store: LedgerStore, scopes: str = "", receipts: str = "") -> Seen:
    wanted = Wanted(tuple(scopes.split()), tuple(receipts.split()))
    return await store.commit(wanted, lambda seen: (seen, Changes()))


async def entries(place: Place) -> list[EntryRow]:
    async with place.database.snapshot() as connection:
        return [row async for life in module.entries_by_receipt(connection) for row in life]


FULL = EntryRow(
    "r", "settle", 11, "shop", "till", "key-1", "local", "qwen-plus", 7, 2**62, 1, 2, 3, 4, True,
    5, 6, True, 8, 9, "stop", "a note",
)  # fmt: skip


async def test_what_is_written_is_there_for_the_next(place: Place, store: LedgerStore):
    row, funds = HoldRow("r", 99, '[["a",1]]'), FundsRow("a", 2**62, 2, 3)
    before = await write(store, Changes([entry("r")], [funds], [row]))
    assert before == Seen({"a": FundsRow("a")}, {}, {} if not before.kinds else {"r": frozenset()})
    after = await seen(store, "a b", "r")
    assert after.funds == {"a": funds, "b": FundsRow("b")}
    assert after.holds == {"r": row}
    await write(store, Changes([FULL], [FundsRow("a", 1, 1, 0)], [], ["r"]))
    last = await seen(store, "a", "r")
    assert last.funds == {"a": FundsRow("a", 1, 1, 0)}
    assert not last.holds
    assert last.kinds == {"r": frozenset({"hold", "settle"})}
    assert await entries(place) == [entry("r"), FULL]


async def test_a_change_that_cannot_be_leaves_nothing_and_the_next_is_made(
    place: Place, store: LedgerStore
):
    await write(store, Changes([entry("r")]))
    funds = FundsRow("a", 5, 0, 0)
    for poison in (
        Changes([entry("new"), entry("r")], [funds], [HoldRow("new", 1, "")]),
        Changes([entry("new", amount=BEYOND_64_BITS)], [funds]),
    ):
        with pytest.raises(ConflictError):
            await write(store, poison)
    with pytest.raises(KeyError):
        await store.commit(Wanted(("a",)), lambda seen: ({}["x"], Changes([entry("new")])))
    assert (await seen(store, "a", "new")).funds == {"a": FundsRow("a")}
    assert await entries(place) == [entry("r")]
    await write(store, Changes([entry("new")], [funds]))
    assert (await seen(store, "a")).funds == {"a": funds}


async def test_of_many_writers_none_overwrites_what_another_added(place: Place):
    stores = [place.store() for _ in range(3)]
    scopes = ("a", "b", "c")

    def add(seen: Seen) -> tuple[None, Changes]:
        rows = [FundsRow(row.scope, spent=row.spent + 1) for row in seen.funds.values()]
        return None, Changes(funds=rows)

    async def some(store: LedgerStore, wanted: tuple[str, ...]) -> None:
        for _ in range(8):
            await store.commit(Wanted(wanted), add)

    await asyncio.gather(
        *(
            some(store, wanted)
            for store in stores
            for wanted in (scopes, scopes[:1], scopes[1:], scopes[::2])
        )
    )
    after = await seen(stores[0], " ".join(scopes))
    assert [after.funds[scope].spent for scope in scopes] == [3 * 24, 3 * 16, 3 * 24]


async def test_a_change_shares_the_database_with_ordinary_transactions(
    place: Place, store: LedgerStore
):
    async def others() -> None:
        for _ in range(5):
            async with place.database.transaction() as connection:
                await module.count_entries(connection)

    async def own() -> None:
        for number in range(20):
            await write(store, Changes([entry(f"r{number}")]))

    await asyncio.gather(others(), own())
    assert len(await entries(place)) == 20


async def test_due_holds_come_with_their_entries_the_oldest_first(place: Place, store: LedgerStore):
    rows = [HoldRow(f"r{n}", 100 - n, "[]") for n in range(3)]
    begun = [entry(row.receipt, note=row.receipt) for row in rows]
    await write(store, Changes(begun, [], rows))
    async with place.database.snapshot() as connection:
        due = await module.due_holds(connection, 99, 10)
        assert await module.due_holds(connection, 99, 1) == due[:1]
        assert sorted(await module.all_holds(connection), key=lambda row: row.receipt) == rows
    assert due == [(rows[2], begun[2]), (rows[1], begun[1])]


async def test_entries_come_by_receipt_in_the_order_of_their_writing(
    place: Place, store: LedgerStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    for kind in ("hold", "expire", "settle"):
        await write(store, Changes([entry(f"r{n}", kind) for n in (2, 0, 1)]))
    async with place.database.snapshot() as connection:
        lives = [life async for life in module.entries_by_receipt(connection)]
        assert await module.count_entries(connection) == 9
    assert lives == [
        [entry(f"r{n}", kind) for kind in ("hold", "expire", "settle")] for n in range(3)
    ]


async def test_admissions_tell_what_counts_for_limits_now(place: Place, store: LedgerStore):
    def admitted(receipt: str, at: int) -> EntryRow:
        return entry(
            receipt,
            "hold",
            at,
            workspace="w",
            key_id="k",
            region="x",
            model="m",
            reserved_tokens=90,
        )

    await write(store, Changes([admitted("old", 9), admitted("open", 10), admitted("done", 11)]))
    await write(store, Changes([admitted("gone", 12), admitted("late", 12)]))
    await write(
        store,
        Changes(
            [
                entry("done", "settle", prompt_tokens=20, completion_tokens=5),
                entry("gone", "release"),
                entry("late", "expire"),
            ]
        ),
    )
    async with place.database.snapshot() as connection:
        found = await module.admissions_since(connection, 10)
    assert [(one.receipt, one.at, one.tokens) for one in found] == [
        ("open", 10, 90),
        ("done", 11, 25),
        ("gone", 12, 0),
        ("late", 12, 90),
    ]
    assert {(one.account, one.workspace, one.key_id, one.region, one.model) for one in found} == {
        ("shop", "w", "k", "x", "m")
    }


async def test_the_last_admissions_are_found_without_reading_all_before_them(
    file_store: LedgerStore, tmp_path: Path
):
    database, store = await Database.open(sqlite_url(tmp_path / "o.db")), file_store
    await write(store, Changes([entry(f"old-{number}", at=9) for number in range(2000)]))
    await write(store, Changes([entry("b", at=11), entry("a", at=11), entry("c", at=10)]))
    instructions = 0

    def counted() -> bool:
        nonlocal instructions
        instructions += 1
        return False

    async with database.snapshot() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.set_progress_handler(counted, 1)
        found = await module.admissions_since(connection, 10)
        await driver.set_progress_handler(None, 1)
    await database.close()
    assert [one.receipt for one in found] == ["c", "b", "a"]
    assert instructions < 1000


async def test_what_is_read_of_one_moment_does_not_see_what_comes_later(
    place: Place, store: LedgerStore
):
    await write(store, Changes([entry("r")]))
    async with place.database.snapshot() as connection:
        await module.one_state(connection)
        assert await module.count_entries(connection) == 1
        await write(store, Changes([entry("s")]))
        assert await module.count_entries(connection) == 1
    assert len(await entries(place)) == 2


async def test_a_store_that_is_not_used_closes_at_once(store: LedgerStore):
    await store.close()


async def test_a_locked_file_is_a_store_error_and_works_once_it_is_free(
    file_store: LedgerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    async with database.transaction():
        with pytest.raises(StoreError, match="locked") as failure:
            await write(file_store, Changes([entry("r")]))
    assert not isinstance(failure.value, ConflictError)
    await write(file_store, Changes([entry("r")]))
    await database.close()


async def test_nobody_waits_with_a_change_that_waits_for_a_lock(
    file_store: LedgerStore, tmp_path: Path
):
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    async with database.transaction():
        begun = time.monotonic()
        writing = file_store.commit(Wanted(()), lambda _: (None, Changes([entry("first")])))
        later = file_store.commit(Wanted(()), lambda _: (None, Changes([entry("second")])))
        assert time.monotonic() - begun < 1
        await asyncio.sleep(0.01)
        assert not writing.done()
    await asyncio.gather(writing, later)
    assert sql(tmp_path / "o.db", "SELECT receipt FROM entries ORDER BY seq") == [
        ("first",),
        ("second",),
    ]
    await database.close()


async def test_after_a_slow_change_the_next_ones_are_made_in_the_thread(
    file_store: LedgerStore, monkeypatch: pytest.MonkeyPatch
):
    threads: list[str] = []

    async def change() -> None:
        def decide(_: Seen) -> tuple[None, Changes]:
            threads.append(threading.current_thread().name)
            return None, Changes()

        await file_store.commit(Wanted(()), decide)

    await change()
    monkeypatch.setattr(ledger_sqlite, "SLOW_S", 0)
    await change()
    await change()
    assert threads == ["MainThread", "MainThread", "ledger"]


async def test_a_file_that_is_gone_is_a_store_error_and_no_new_database(
    tmp_path: Path, file_store: LedgerStore
):
    (tmp_path / "o.db").rename(tmp_path / "moved.db")
    with pytest.raises(StoreError):
        await write(file_store, Changes([entry("r")]))
    assert not (tmp_path / "o.db").exists()
    (tmp_path / "moved.db").rename(tmp_path / "o.db")
    await write(file_store, Changes([entry("r")]))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow beyond `size` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def longest(directory: Path) -> int:
    return max(path.stat().st_size for path in directory.iterdir())


async def test_a_full_disk_is_a_store_error_leaves_nothing_half_written_and_ends_with_it(
    file_store: LedgerStore, tmp_path: Path
):
    done = 0

    async def write_more() -> None:
        nonlocal done
        receipts = [f"r{done}-{n}" for n in range(40)]
        changes = Changes(
            [entry(receipt, note="x" * 150) for receipt in receipts],
            [FundsRow("a", spent=done + 1)],
            [HoldRow(receipt, 1, "[]") for receipt in receipts],
        )
        await write(file_store, changes)
        done += 1

    async def fill() -> None:
        while True:
            await write_more()

    await write_more()
    with files_no_longer_than(longest(tmp_path) + 20_000):
        with pytest.raises(StoreError):
            await fill()
        assert (await seen(file_store, "a")).funds == {"a": FundsRow("a", spent=done)}
    await write_more()
    assert sql(tmp_path / "o.db", "SELECT count(*) FROM entries") == [(done * 40,)]
    assert sql(tmp_path / "o.db", "SELECT count(*) FROM holds") == [(done * 40,)]
    assert sql(tmp_path / "o.db", "PRAGMA integrity_check") == [("ok",)]


async def test_a_log_is_copied_when_nothing_else_is_to_be_done(
    file_store: LedgerStore, tmp_path: Path
):
    before = (tmp_path / "o.db").stat().st_mtime_ns
    await write(file_store, Changes([entry("r")]))
    async with asyncio.timeout(10):
        while (tmp_path / "o.db").stat().st_mtime_ns == before:
            await asyncio.sleep(0.02)


async def test_a_database_that_breaks_in_mid_work_is_a_store_error_and_works_when_it_is_back(
    postgres: Postgres,
):
    url = postgres.database()
    database = await Database.open(url)
    store = ledger_store(database, url)
    await write(store, Changes([entry("r")], [FundsRow("a", 1, 1, 1)]))
    postgres.stop()
    try:
        with pytest.raises(StoreError) as failure:
            await write(store, Changes([entry("s")]))
        assert not isinstance(failure.value, ConflictError)
    finally:
        postgres.start()
    await write(store, Changes([entry("s")]))
    assert (await seen(store, "a", "r s")).kinds == {
        "r": frozenset({"hold"}),
        "s": frozenset({"hold"}),
    }
    await store.close()
    await database.close()
