"""Goal: whatever is changed behind the ledger's back is found and named, and nothing that is right is reported."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from ownstudio.billing import verify as module
from ownstudio.billing.funds import BudgetClaim, FreeQuota
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.verify import PRICE_LAG_S, Difference, Summary, verify
from ownstudio.core.events import Usage
from ownstudio.store.database import Database, sqlite_url
from support.money import CURRENCY, FREE, PRICED, START, Clock, hold, put_prices, sql
from support.servers import Postgres

BUDGETS = (BudgetClaim("workspace", 10**9), BudgetClaim("key", 10**9, "day"))
USED = Usage(
    prompt_tokens=100, completion_tokens=20, cached_tokens=30, cache_creation_tokens=10,
    explicit_cache=True, reasoning_tokens=5,
)  # fmt: skip


class Books(NamedTuple):
    database: Database
    path: Path
    ledger: Ledger
    clock: Clock

    async def differences(self) -> list[Difference]:
        found: list[Difference] = []
        await verify(self.database, CURRENCY, found.append)
        return found


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    path, clock = tmp_path / "o.db", Clock()
    database = await Database.open(sqlite_url(path))
    await put_prices(database)
    ledger = Ledger.open(database, sqlite_url(path), now=clock)
    yield Books(database, path, ledger, clock)
    await ledger.close()
    await database.close()


async def write_every_life(ledger: Ledger, clock: Clock) -> None:
    """One receipt of each kind, called by what became of it."""
    await ledger.top_up("shop", 10**9, "invoice 1")
    await ledger.adjust("shop", -5, "rounded up")
    quota = FreeQuota(120)
    held = {
        name: await ledger.hold(
            hold(
                receipt=name,
                budgets=BUDGETS,
                free=quota,
                prepaid=True,
                explicit=True,
                thinking=name == "settled",
            )
        )
        for name in ("settled", "released", "expired", "late")
    }
    await ledger.settle(held["settled"], USED, "stop")
    await ledger.release(held["released"], "failed")
    clock.seconds += 600
    await ledger.expire_due()
    await ledger.settle(held["late"], USED, "hang_up")
    only = await ledger.hold(
        hold(receipt="only", free=FreeQuota(250, only=True), expires_at=START + 700)
    )
    await ledger.settle(only, Usage(100, 50, cached_tokens=60), "length")
    await ledger.settle(await ledger.hold(hold(FREE, receipt="gratis")), USED, "stop")
    await ledger.hold(
        hold(receipt="open", budgets=BUDGETS, free=FreeQuota(10**6), expires_at=START + 2000)
    )


async def test_books_that_are_right_have_no_difference(books: Books):
    await write_every_life(books.ledger, books.clock)
    found: list[Difference] = []
    heard: list[tuple[int, int]] = []
    summary = await verify(
        books.database, CURRENCY, found.append, lambda done, total: heard.append((done, total))
    )
    assert found == []
    assert summary == Summary(entries=16, receipts=9, open_holds=1, sums=4, differences=0)
    assert heard[-1] == (16, 16)


async def test_a_charge_above_what_was_held_is_told_and_is_a_difference(
    books: Books, caplog: pytest.LogCaptureFixture
):
    held = await books.ledger.hold(hold(receipt="dear"))
    amount = await books.ledger.settle(held, Usage(10**6, 10**6), "stop")
    assert amount > held.amount
    assert f"dear is charged {amount} nano-units, more than the {held.amount} held" in caplog.text
    (found,) = await books.differences()
    assert (found.receipt, found.what) == ("dear", "settle: amount")
    assert (found.expected, found.found) == (f"at most the {held.amount} held", str(amount))


async def test_an_empty_ledger_is_right(books: Books):
    assert await books.differences() == []


async def test_books_on_postgresql_are_read_the_same_way(postgres: Postgres):
    url, clock = postgres.database(), Clock()
    database = await Database.open(url)
    await put_prices(database)
    ledger = Ledger.open(database, url, now=clock)
    await write_every_life(ledger, clock)
    found: list[Difference] = []
    summary = await verify(database, CURRENCY, found.append)
    await ledger.close()
    await database.close()
    assert found == []
    assert summary == Summary(entries=16, receipts=9, open_holds=1, sums=4, differences=0)


SETTLE = "UPDATE entries SET {} WHERE receipt = 'settled' AND kind = 'settle'"
HOLD = "UPDATE entries SET {} WHERE receipt = 'settled' AND kind = 'hold'"


@pytest.mark.parametrize(
    ("change", "receipt", "what"),
    [
        (SETTLE.format("amount = amount + 1"), "settled", "settle: amount"),
        (SETTLE.format("amount = amount + 1"), "account:shop", "spent"),
        (SETTLE.format("amount = -1"), "settled", "settle: amount"),
        ("UPDATE entries SET prompt_tokens = 101 WHERE receipt = 'late' AND kind = 'settle'", "late", "settle: amount"),
        ("UPDATE entries SET completion_tokens = 21 WHERE receipt = 'late' AND kind = 'settle'", "late",
         "settle: amount"),
        (SETTLE.format("cached_tokens = 29"), "settled", "settle: amount"),
        (SETTLE.format("cache_creation_tokens = 9"), "settled", "settle: amount"),
        (SETTLE.format("cached_tokens = 91"), "settled", "settle: counts"),
        (SETTLE.format("reasoning_tokens = -1"), "settled", "settle: reasoning_tokens"),
        (SETTLE.format("explicit_cache = 0"), "settled", "settle: amount"),
        (SETTLE.format("thinking = 0"), "settled", "settle: thinking"),
        (SETTLE.format("account = 'lab'"), "settled", "settle: account"),
        (SETTLE.format("price_id = 2"), "settled", "settle: price_id"),
        (SETTLE.format("free_prompt_tokens = 59"), "settled", "settle: free tokens of prompt and completion"),
        (SETTLE.format("free_prompt_tokens = 59"), "free:shop:local:tiered", "spent"),
        (SETTLE.format("kind = 'release'"), "settled", "release: amount"),
        (SETTLE.format("kind = 'bonus'"), "settled", "life"),
        (HOLD.format("amount = amount - 1"), "settled", "hold: amount"),
        (HOLD.format("reserved_tokens = 1"), "settled", "hold: reserved tokens"),
        (HOLD.format("completion_tokens = 51"), "settled", "hold: amount"),
        (HOLD.format("thinking = 0"), "settled", "hold: amount"),
        ("UPDATE entries SET explicit_cache = 0 WHERE receipt = 'released' AND kind = 'hold'", "released",
         "hold: amount"),
        (HOLD.format("free_prompt_tokens = 99"), "settled", "hold: amount"),
        (HOLD.format("free_prompt_tokens = 1000"), "settled", "hold: free tokens"),
        (HOLD.format("note = replace(note, 'quota=120', 'quota=119')"), "settled", "hold: free tokens"),
        (HOLD.format("note = replace(note, 'quota=120', 'quota=all')"), "settled", "note"),
        ("UPDATE entries SET note = replace(note, 'quota=120', 'quota=39') WHERE receipt = 'late'", "late",
         "settle: free tokens of prompt and completion"),
        ("UPDATE entries SET free_prompt_tokens = 41 WHERE receipt = 'late' AND kind = 'settle'",
         "free:shop:local:tiered", "spent"),
        (HOLD.format("price_id = 99"), "settled", "hold: price"),
        (HOLD.format("price_id = NULL"), "settled", "hold: price"),
        (HOLD.format("price_id = 2"), "settled", "hold: price in force"),
        (HOLD.format("region = 'nowhere'"), "settled", "hold: price in force"),
        (HOLD.format("note = 'until=5'"), "workspace:till:2025-11", "spent"),
        (HOLD.format("note = note || ' free=only'"), "settled", "settle: amount"),
        (HOLD.format("note = 'hello'"), "settled", "note"),
        (HOLD.format("note = ''"), "settled", "note"),
        (HOLD.format("note = 'key=2025-11-23'"), "settled", "note"),
        (HOLD.format("kind = 'begin'"), "settled", "life"),
        ("DELETE FROM entries WHERE receipt = 'settled' AND kind = 'hold'", "settled", "life"),
        ("DELETE FROM entries WHERE receipt = 'settled' AND kind = 'settle'", "settled", "open hold"),
        ("DELETE FROM entries WHERE receipt = 'settled'", "account:shop", "spent"),
        ("DELETE FROM entries WHERE receipt = 'open'", "open", "open hold"),
        ("UPDATE entries SET seq = 1000 WHERE receipt = 'settled' AND kind = 'hold'", "settled", "life"),
        ("UPDATE entries SET kind = 'release' WHERE receipt = 'late' AND kind = 'expire'", "late", "life"),
        ("UPDATE entries SET at = at - 1 WHERE receipt = 'expired' AND kind = 'expire'", "expired", "expire: at"),
        ("UPDATE entries SET amount = 7 WHERE receipt = 'expired' AND kind = 'expire'", "expired", "expire: amount"),
        ("UPDATE entries SET amount = amount + 1 WHERE kind = 'payment'", "account:shop", "granted"),
        ("UPDATE entries SET amount = amount + 1 WHERE kind = 'correction'", "account:shop", "granted"),
        ("UPDATE funds SET granted = granted + 1 WHERE scope = 'account:shop'", "account:shop", "granted"),
        ("UPDATE funds SET spent = spent + 1 WHERE scope = 'key:key-1:2025-11-23'", "key:key-1:2025-11-23", "spent"),
        ("UPDATE funds SET held = 0 WHERE scope = 'account:shop'", "account:shop", "held"),
        ("UPDATE funds SET held = -1 WHERE scope = 'free:shop:local:tiered'", "free:shop:local:tiered", "held"),
        ("DELETE FROM funds WHERE scope = 'account:shop'", "account:shop", "spent"),
        ("INSERT INTO funds VALUES ('account:ghost', 1, 0, 0)", "account:ghost", "granted"),
        ("DELETE FROM holds", "open", "open hold"),
        ("INSERT INTO holds VALUES ('settled', 1, '[]')", "settled", "open hold"),
        ("INSERT INTO holds VALUES ('ghost', 1, '[]')", "ghost", "open hold"),
        ("UPDATE holds SET expires_at = 1", "open", "expires at"),
        ("UPDATE holds SET claims = '[[\"account:shop\",1]]'", "open", "claims"),
        ("UPDATE holds SET claims = 'nonsense'", "open", "claims"),
        ("UPDATE prices SET terms = replace(terms, '4000000000', '5000000000') WHERE id = 1", "late", "settle: amount"),
    ],
)  # fmt: skip
async def test_a_change_behind_the_back_is_found_and_named(
    books: Books, change: str, receipt: str, what: str
):
    await write_every_life(books.ledger, books.clock)
    sql(books.path, change)
    found = await books.differences()
    assert (receipt, what) in {(one.receipt, one.what) for one in found}
    assert all(one.expected != one.found for one in found)


async def test_more_free_tokens_than_any_hold_had_for_its_quota_are_found(books: Books):
    for _ in range(2):
        await books.ledger.settle(await books.ledger.hold(hold(free=FreeQuota(300))), USED, "stop")
    assert await books.differences() == []
    sql(books.path, "UPDATE entries SET note = replace(note, 'quota=300', 'quota=159')")
    (found,) = await books.differences()
    assert (found.receipt, found.what) == ("free:shop:local:tiered", "free tokens")
    assert (found.expected, found.found) == ("at most 159", "160")


async def test_entries_that_do_not_name_their_quota_are_right_with_what_they_claimed(books: Books):
    held = await books.ledger.hold(hold(receipt="old", free=FreeQuota(90)))
    await books.ledger.settle(held, USED, "stop")
    sql(books.path, "UPDATE entries SET note = replace(note, ' quota=90', '')")
    assert await books.differences() == []
    sql(books.path, "UPDATE entries SET free_completion_tokens = 21 WHERE kind = 'settle'")
    assert ("old", "settle: free tokens of prompt and completion") in {
        (one.receipt, one.what) for one in await books.differences()
    }


async def test_an_entry_without_its_payment_is_found(books: Books):
    await books.ledger.top_up("shop", 5)
    sql(books.path, "UPDATE entries SET amount = 0")
    sql(books.path, "UPDATE funds SET granted = 0")
    assert [one.what for one in await books.differences()] == ["payment: amount"]


async def test_a_price_holds_from_its_time_on_with_some_patience_for_who_knew_it_late(books: Books):
    dearer = msgspec.structs.replace(PRICED, id=3, effective_from=START + 1000)
    await put_prices(books.database, dearer)

    async def one(at: int, price: object) -> str:
        books.clock.seconds = at
        held = await books.ledger.hold(hold(price=price, expires_at=at + 5))
        return held.hold.receipt

    right = START + 1000
    await one(right - 1, PRICED)
    await one(right, dearer)
    await one(right + PRICE_LAG_S - 1, PRICED)
    assert await books.differences() == []
    early, stale = await one(right - 1, dearer), await one(right + PRICE_LAG_S, PRICED)
    assert {(d.receipt, d.what, d.expected, d.found) for d in await books.differences()} == {
        (early, "hold: price in force", "1", "3"),
        (stale, "hold: price in force", "3", "1"),
    }


async def test_a_model_without_a_price_of_its_own_has_that_of_all_models(books: Books):
    every = msgspec.structs.replace(PRICED, id=3, model="*")
    await put_prices(books.database, every)
    held = await books.ledger.hold(hold(every, model="unheard-of"))
    await books.ledger.settle(held, Usage(100, 20), "stop")
    assert await books.differences() == []


async def test_it_tells_how_far_it_is(books: Books, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PROGRESS_EVERY", 2)
    for _ in range(5):
        await books.ledger.top_up("shop", 5)
    heard: list[tuple[int, int]] = []
    await verify(books.database, CURRENCY, print, lambda done, total: heard.append((done, total)))
    assert heard == [(2, 5), (4, 5), (5, 5)]
