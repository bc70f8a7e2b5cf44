"""Goal: money is held, charged and given back exactly once, within what there is, in both databases, whatever fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import pytest

from ownstudio.billing import ledger as module
from ownstudio.billing.funds import BudgetClaim, FreeQuota
from ownstudio.billing.ledger import Held, Hold, Ledger
from ownstudio.billing.verify import Difference, verify
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Usage
from ownstudio.store import ledger as table
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.directory import StoreError
from ownstudio.store.ledger import (
    Changes,
    EntryRow,
    FundsRow,
    LedgerStore,
    Seen,
    Wanted,
    ledger_store,
)
from support.money import CURRENCY, FREE, PRICED, START, Clock, hold, put_prices, sql

T = TypeVar("T")

# What `hold()` reserves, and what this usage of it costs.
RESERVED = 300_000
USED = Usage(prompt_tokens=100, completion_tokens=20)
COST = 180_000


class Place(NamedTuple):
    """A ledger, what it stands on, and a way to open another on the same."""

    ledger: Ledger
    clock: Clock
    database: Database
    another: Callable[[], Ledger]

    async def life(self, receipt: str) -> list[EntryRow]:
        async with self.database.snapshot() as connection:
            return await table.entries_of(connection, receipt)

    async def kinds(self, receipt: str) -> list[str]:
        return [entry.kind for entry in await self.life(receipt)]

    async def funds(self, scope: str) -> FundsRow:
        async with self.database.snapshot() as connection:
            return (await table.funds_of(connection, [scope])).get(scope, FundsRow(scope))


@pytest.fixture(params=["sqlite", "postgresql"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    url = sqlite_url(tmp_path / "o.db")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database()
    database, clock = await Database.open(url), Clock()
    await put_prices(database)
    made: list[Ledger] = []

    def another() -> Ledger:
        made.append(Ledger.open(database, url, now=clock))
        return made[-1]

    yield Place(another(), clock, database, another)
    for ledger in made:
        await ledger.close()
    # Whatever a test did, the books are right after it.
    assert await differences(database) == []
    await database.close()


async def differences(database: Database) -> list[Difference]:
    found: list[Difference] = []
    await verify(database, CURRENCY, found.append)
    return found


async def refused(kind: ErrorKind, doing: Awaitable[object]) -> StudioError:
    with pytest.raises(StudioError) as refusal:
        await doing
    assert refusal.value.kind is kind
    return refusal.value


# What each operation does.


async def test_a_hold_reserves_the_most_and_a_settlement_charges_what_was_used(place: Place):
    held = await place.ledger.hold(hold())
    assert held.amount == RESERVED
    assert await place.ledger.balance("shop") == FundsRow("account:shop", held=RESERVED)
    assert await place.ledger.settle(held, USED, "stop") == COST
    assert await place.ledger.balance("shop") == FundsRow("account:shop", spent=COST)
    begun, ended = await place.life(held.hold.receipt)
    assert (begun.kind, begun.amount, begun.reserved_tokens, begun.at) == (
        "hold",
        RESERVED,
        150,
        START,
    )
    assert ended == EntryRow(
        held.hold.receipt, "settle", START, "shop", "till", "key-1", "local", "tiered", 1, COST,
        prompt_tokens=100, completion_tokens=20, ending="stop",
    )  # fmt: skip


async def test_a_release_gives_back_all_and_charges_nothing(place: Place):
    held = await place.ledger.hold(hold())
    await place.ledger.release(held, "engine_died")
    assert await place.ledger.balance("shop") == FundsRow("account:shop")
    _, ended = await place.life(held.hold.receipt)
    assert (ended.kind, ended.amount, ended.ending) == ("release", 0, "engine_died")


async def test_a_hold_that_nobody_ends_expires_when_its_time_is_over_and_not_before(place: Place):
    held = await place.ledger.hold(hold())
    place.clock.seconds = START + 599
    assert await place.ledger.expire_due() == 0
    place.clock.seconds = START + 600
    assert await place.another().expire_due() == 1
    assert await place.ledger.expire_due() == 0
    assert await place.ledger.balance("shop") == FundsRow("account:shop")
    assert await place.kinds(held.hold.receipt) == ["hold", "expire"]


async def test_many_holds_expire_in_as_many_goes_as_it_takes(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "EXPIRE_AT_ONCE", 3)
    await asyncio.gather(*(place.ledger.hold(hold()) for _ in range(7)))
    place.clock.seconds += 600
    counts = await asyncio.gather(place.ledger.expire_due(), place.another().expire_due())
    assert sum(counts) == 7
    assert (await place.ledger.balance("shop")).held == 0


async def test_an_answer_that_outlived_its_hold_is_charged_once_all_the_same(place: Place):
    held = await place.ledger.hold(hold())
    place.clock.seconds += 600
    await place.ledger.expire_due()
    other = await place.ledger.hold(hold())
    assert await place.ledger.settle(held, USED, "stop") == COST
    await refused(ErrorKind.INTERNAL, place.ledger.settle(held, USED, "stop"))
    assert await place.ledger.balance("shop") == FundsRow(
        "account:shop", spent=COST, held=other.amount
    )
    assert await place.kinds(held.hold.receipt) == ["hold", "expire", "settle"]


async def test_a_release_after_the_time_is_over_has_nothing_left_to_give_back(place: Place):
    held = await place.ledger.hold(hold())
    place.clock.seconds += 600
    await place.ledger.expire_due()
    await place.ledger.release(held, "hang_up")
    assert await place.kinds(held.hold.receipt) == ["hold", "expire"]


@pytest.mark.parametrize("first", ["settle", "release"])
@pytest.mark.parametrize("second", ["settle", "release"])
async def test_what_has_ended_cannot_end_again(
    place: Place, first: str, second: str, caplog: pytest.LogCaptureFixture
):
    held = await place.ledger.hold(hold())

    def end(how: str) -> Awaitable[object]:
        if how == "settle":
            return place.ledger.settle(held, USED, "stop")
        return place.ledger.release(held, "failed")

    await end(first)
    after = await place.ledger.balance("shop")
    await refused(ErrorKind.INTERNAL, end(second))
    assert held.hold.receipt in caplog.text
    assert await place.kinds(held.hold.receipt) == ["hold", first]
    assert await place.ledger.balance("shop") == after


async def test_of_many_that_end_one_hold_at_once_one_succeeds(place: Place):
    held = await place.ledger.hold(hold())
    results = await asyncio.gather(
        *(place.ledger.settle(held, USED, "stop") for _ in range(5)),
        *(place.another().settle(held, USED, "stop") for _ in range(5)),
        return_exceptions=True,
    )
    assert sorted(map(str, results)).count(str(COST)) == 1
    assert await place.kinds(held.hold.receipt) == ["hold", "settle"]


async def test_one_receipt_is_held_once_and_the_others_of_its_batch_are_not_hurt(place: Place):
    held = await place.ledger.hold(hold())
    results = await asyncio.gather(
        place.ledger.hold(hold()),
        place.ledger.hold(held.hold),
        place.ledger.hold(hold()),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Held, StudioError, Held]
    assert (await place.ledger.balance("shop")).held == 3 * RESERVED


async def test_counts_that_contradict_each_other_are_charged_nothing(place: Place):
    held = await place.ledger.hold(hold())
    wrong = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=11)
    await refused(ErrorKind.INTERNAL, place.ledger.settle(held, wrong, "stop"))
    assert await place.kinds(held.hold.receipt) == ["hold"]


# Balances.


async def test_a_prepaid_account_is_answered_as_far_as_its_balance_reaches(place: Place):
    prepaid = {"prepaid": True}
    refusal = await refused(ErrorKind.ARREARAGE, place.ledger.hold(hold(**prepaid)))
    assert refusal.message == "Access denied, please make sure your account is in good standing."
    await place.ledger.top_up("shop", 2 * RESERVED + COST - 1, "invoice 1")
    first = await place.ledger.hold(hold(**prepaid))
    await place.ledger.hold(hold(**prepaid))
    await refused(ErrorKind.ARREARAGE, place.ledger.hold(hold(**prepaid)))
    await place.ledger.settle(first, USED, "stop")
    await refused(ErrorKind.ARREARAGE, place.ledger.hold(hold(**prepaid)))
    await place.ledger.top_up("shop", 1)
    await place.ledger.hold(hold(**prepaid))
    assert await place.ledger.balance("shop") == FundsRow(
        "account:shop", 2 * RESERVED + COST, COST, 2 * RESERVED
    )


async def test_parallel_requests_cannot_spend_the_same_money(place: Place):
    await place.ledger.top_up("shop", 5 * RESERVED + 1)
    ledgers = (place.ledger, place.another())
    results = await asyncio.gather(
        *(ledgers[n % 2].hold(hold(prepaid=True)) for n in range(40)), return_exceptions=True
    )
    assert sum(isinstance(result, Held) for result in results) == 5
    assert {r.kind for r in results if isinstance(r, StudioError)} == {ErrorKind.ARREARAGE}


async def test_a_suspended_account_is_refused_whatever_it_has(place: Place):
    await place.ledger.top_up("shop", 10**12)
    await refused(ErrorKind.ARREARAGE, place.ledger.hold(hold(suspended=True)))


async def test_a_free_model_needs_no_balance(place: Place):
    held = await place.ledger.hold(hold(FREE, prepaid=True))
    assert (held.amount, await place.ledger.settle(held, USED, "stop")) == (0, 0)


async def test_payments_and_corrections_are_entries_of_their_own(place: Place):
    paid, new = await place.ledger.top_up("shop", 500, "invoice 1")
    assert new
    back = await place.ledger.adjust("shop", -200, "billed twice")
    assert await place.ledger.balance("shop") == FundsRow("account:shop", 300)
    (entry,) = await place.life(paid)
    assert (entry.kind, entry.account, entry.amount, entry.note) == (
        "payment",
        "shop",
        500,
        "invoice 1",
    )
    (entry,) = await place.life(back)
    assert (entry.kind, entry.amount, entry.note) == ("correction", -200, "billed twice")


async def test_a_payment_with_a_reference_is_made_once(place: Place):
    first = await place.ledger.top_up("shop", 500, "invoice 1", "bank-7")
    assert first[1]
    again = await asyncio.gather(
        *(place.ledger.top_up("shop", 500, reference="bank-7") for _ in range(5))
    )
    assert again == [(first[0], False)] * 5
    other = await place.ledger.top_up("till", 500, reference="bank-7")
    assert other[1]
    assert other[0] != first[0]
    assert len(await place.life(first[0])) == 1
    await refused(
        ErrorKind.IDEMPOTENCY_CONFLICT, place.ledger.top_up("shop", 501, reference="bank-7")
    )
    assert await place.ledger.balance("shop") == FundsRow("account:shop", 500)


async def test_payments_at_once_under_one_reference_are_one(place: Place):
    made = await asyncio.gather(
        *(place.ledger.top_up("shop", 500, reference="bank-7") for _ in range(20))
    )
    assert len({receipt for receipt, _ in made}) == 1
    assert [new for _, new in made].count(True) == 1
    assert await place.ledger.balance("shop") == FundsRow("account:shop", 500)


@pytest.mark.parametrize("reference", ["x" * 201, "a\nb"])
async def test_a_reference_that_cannot_be_is_refused(place: Place, reference: str):
    with pytest.raises(ValueError, match="reference"):
        await place.ledger.top_up("shop", 5, reference=reference)
    assert await place.ledger.balance("shop") == FundsRow("account:shop")


@pytest.mark.parametrize(
    ("amount", "note"), [(0, ""), (-1, ""), (10**19, ""), (1, "x" * 201), (1, "\n")]
)
async def test_a_payment_that_cannot_be_is_refused(place: Place, amount: int, note: str):
    with pytest.raises(ValueError, match=r"payment|amount"):
        await place.ledger.top_up("shop", amount, note)
    with pytest.raises(ValueError, match=r"correction|amount"):
        await place.ledger.adjust("shop", amount if abs(amount) > 1 or note else 0, note)
    assert await place.ledger.balance("shop") == FundsRow("account:shop")


async def test_a_balance_out_of_range_is_refused(place: Place):
    await place.ledger.top_up("shop", 9 * 10**18)
    await refused(ErrorKind.INVALID_PARAMETER, place.ledger.top_up("shop", 1))


# Budgets.


@pytest.mark.parametrize(
    ("owner", "owner_id"), [("account", "shop"), ("workspace", "till"), ("key", "key-1")]
)
@pytest.mark.parametrize(
    ("period", "name", "turns"),
    [("day", "2025-11-23", "2025-11-24T00:00:00Z"), ("month", "2025-11", "2025-12-01T00:00:00Z")],
)
async def test_a_budget_bounds_a_period_and_says_when_the_next_begins(
    place: Place, owner: str, owner_id: str, period: str, name: str, turns: str
):
    claim = BudgetClaim(owner, RESERVED + COST, period)  # type: ignore[arg-type]

    def within() -> Hold:
        return hold(budgets=(claim,), expires_at=START + 10**8)

    first = await place.ledger.hold(within())
    refusal = await refused(ErrorKind.BUDGET_EXHAUSTED, place.ledger.hold(within()))
    for word in (f"the {owner}'s budget", name, turns):
        assert word in refusal.message
    assert str(RESERVED) not in refusal.message
    assert str(RESERVED + COST) not in refusal.message
    await place.ledger.settle(first, USED, "stop")
    second = await place.ledger.hold(within())
    scope = f"{owner}:{owner_id}:{name}"
    assert await place.funds(scope) == FundsRow(scope, 0, COST, RESERVED)
    # The period turns while the second runs: it counts where it was let in.
    place.clock.seconds += 31 * 86_400
    third = await place.ledger.hold(within())
    await place.ledger.settle(second, USED, "stop")
    await place.ledger.settle(third, USED, "stop")
    assert await place.funds(scope) == FundsRow(scope, 0, 2 * COST, 0)


async def test_one_budget_that_does_not_reach_leaves_nothing_held_in_the_others(place: Place):
    budgets = (
        BudgetClaim("account", 10**9),
        BudgetClaim("workspace", RESERVED - 1),
        BudgetClaim("key", 10**9),
    )
    refusal = await refused(ErrorKind.BUDGET_EXHAUSTED, place.ledger.hold(hold(budgets=budgets)))
    assert "workspace" in refusal.message
    for scope in (
        "account:shop",
        "account:shop:2025-11",
        "workspace:till:2025-11",
        "key:key-1:2025-11",
    ):
        assert await place.funds(scope) == FundsRow(scope)


async def test_budgets_of_several_owners_all_count(place: Place):
    budgets = (BudgetClaim("workspace", RESERVED), BudgetClaim("key", RESERVED, "day"))
    held = await place.ledger.hold(hold(budgets=budgets))
    await place.ledger.settle(held, USED, "stop")
    for scope in ("account:shop", "workspace:till:2025-11", "key:key-1:2025-11-23"):
        assert await place.funds(scope) == FundsRow(scope, 0, COST, 0)


# Free quotas.

QUOTA = "free:shop:local:tiered"


async def test_free_tokens_are_reserved_as_far_as_they_reach_and_given_back(place: Place):
    quota = FreeQuota(200)
    first = await place.ledger.hold(hold(free=quota))
    second = await place.ledger.hold(hold(free=quota))
    third = await place.ledger.hold(hold(free=quota))
    assert [one.free_tokens for one in (first, second, third)] == [150, 50, 0]
    # Free tokens pay no fees of a cache, so the first may cost what a prompt found there does. Of the second, 50 tokens
    # of the prompt and 50 of the completion are paid for.
    assert [one.amount for one in (first, second, third)] == [20_000, 250_000, RESERVED]
    # All that is left is claimed by the others.
    assert await place.ledger.settle(third, USED, "stop") == COST
    assert await place.ledger.settle(second, USED, "stop") == 50_000 + 80_000
    assert await place.ledger.settle(first, USED, "stop") == 0
    assert await place.funds(QUOTA) == FundsRow(QUOTA, 0, 120 + 50, 0)
    fourth = await place.ledger.hold(hold(free=quota))
    assert fourth.free_tokens == 30
    await place.ledger.release(fourth, "failed")
    assert await place.funds(QUOTA) == FundsRow(QUOTA, 0, 170, 0)


async def test_what_others_claimed_and_did_not_use_is_free_for_who_ends_later(place: Place):
    quota = FreeQuota(1000)
    large = {"free": quota, "completion_max": 900}
    held = [await place.ledger.hold(hold(**large)) for _ in range(4)]
    assert [one.free_tokens for one in held] == [1000, 0, 0, 0]
    assert [await place.ledger.settle(one, USED, "stop") for one in held] == [0, 0, 0, 0]
    assert await place.funds(QUOTA) == FundsRow(QUOTA, 0, 480, 0)


async def test_an_answer_takes_no_more_of_a_free_quota_than_is_left(place: Place):
    quota = FreeQuota(150)
    first, second = [await place.ledger.hold(hold(free=quota)) for _ in range(2)]
    assert await place.ledger.settle(first, USED, "stop") == 0
    assert await place.ledger.settle(second, USED, "stop") == 70_000 + 80_000
    assert await place.funds(QUOTA) == FundsRow(QUOTA, 0, 150, 0)
    assert (await place.ledger.hold(hold(free=quota))).free_tokens == 0


async def test_an_answer_that_outlived_its_hold_keeps_what_was_free_for_it(place: Place):
    quota = FreeQuota(150)
    late = await place.ledger.hold(hold(free=quota))
    place.clock.seconds += 600
    await place.ledger.expire_due()
    other = await place.ledger.hold(hold(free=quota, expires_at=START + 1200))
    assert other.free_tokens == 150
    assert await place.ledger.settle(late, USED, "stop") == 0
    assert await place.ledger.settle(other, USED, "stop") == 0
    assert await place.funds(QUOTA) == FundsRow(QUOTA, 0, 240, 0)


async def test_with_only_free_tokens_nothing_is_charged_and_an_exhausted_quota_refuses(
    place: Place,
):
    only = FreeQuota(130, only=True)
    first = await place.ledger.hold(hold(free=only))
    assert (first.amount, first.free_tokens) == (0, 130)
    # Nothing is left to claim, but nothing is used either.
    second = await place.ledger.hold(hold(free=only))
    assert (second.amount, second.free_tokens) == (0, 0)
    assert await place.ledger.settle(first, USED, "stop") == 0
    last = await place.ledger.hold(hold(free=only))
    assert last.free_tokens == 10
    # They go beyond what is left, and are free all the same; also what a cache had of them.
    cached = Usage(prompt_tokens=100, completion_tokens=50, cached_tokens=64)
    assert await place.ledger.settle(last, cached, "stop") == 0
    assert await place.ledger.settle(second, cached, "stop") == 0
    assert await place.funds(QUOTA) == FundsRow(QUOTA, 0, 420, 0)
    refusal = await refused(ErrorKind.FREE_QUOTA_EXHAUSTED, place.ledger.hold(hold(free=only)))
    assert refusal.message.startswith("The free tier of the model has been exhausted. ")


async def test_a_free_quota_that_is_over_refuses_where_nothing_else_may_be_used(place: Place):
    over = FreeQuota(0, only=True)
    await refused(ErrorKind.FREE_QUOTA_EXHAUSTED, place.ledger.hold(hold(free=over)))
    assert (await place.ledger.hold(hold(free=FreeQuota(0)))).amount == RESERVED


async def test_a_free_quota_is_for_one_account_and_model(place: Place):
    quota = FreeQuota(150)
    await place.ledger.hold(hold(free=quota))
    assert (await place.ledger.hold(hold(free=quota, account="b"))).free_tokens == 150
    assert (await place.ledger.hold(hold(FREE, free=quota))).free_tokens == 150


# The past.


async def test_what_was_let_in_is_told_with_what_it_used(place: Place):
    await place.ledger.hold(hold())
    place.clock.seconds += 61
    first = await place.ledger.hold(hold())
    second = await place.ledger.hold(hold(account="b", workspace="w", key_id="k"))
    await place.ledger.settle(first, USED, "stop")
    found = await place.ledger.recent(START + 1)
    assert [(one.receipt, one.account, one.workspace, one.key_id, one.tokens) for one in found] == [
        (first.hold.receipt, "shop", "till", "key-1", 120),
        (second.hold.receipt, "b", "w", "k", 150),
    ]


# Failures of the store.


class Doubtful:
    """A store in front of the real one, which can be made to fail, before or after it has written, and to hang."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self.fails: Exception | None = None
        self.fails_after_writing = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.batches: list[int] = []

    def commit(
        self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]
    ) -> asyncio.Future[T]:
        return asyncio.ensure_future(self._commit(wanted, decide))

    async def _commit(self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]) -> T:
        await self.answering.wait()
        if self.fails is not None and not self.fails_after_writing:
            raise self.fails

        def counting(seen: Seen) -> tuple[T, Changes]:
            result, changes = decide(seen)
            self.batches.append(len(changes.entries))
            return result, changes

        result = await self._store.commit(wanted, counting)
        if self.fails is not None:
            raise self.fails
        return result

    async def close(self) -> None:
        await self._store.close()


class Shaky(NamedTuple):
    ledger: Ledger
    store: Doubtful
    database: Database
    clock: Clock


DOWN = StoreError("the disk is full")


@pytest.fixture
async def shaky(tmp_path: Path) -> AsyncIterator[Shaky]:
    url = sqlite_url(tmp_path / "o.db")
    database, clock = await Database.open(url), Clock()
    await put_prices(database)
    store = Doubtful(ledger_store(database, url))
    ledger = Ledger(database, store, now=clock, wait_s=0.1)
    yield Shaky(ledger, store, database, clock)
    store.fails = None
    store.answering.set()
    await ledger.close()
    assert await differences(database) == []
    await database.close()


async def kinds(database: Database, receipt: str) -> Sequence[str]:
    async with database.snapshot() as connection:
        return [entry.kind for entry in await table.entries_of(connection, receipt)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_operations_that_come_together_are_written_together(shaky: Shaky):
    held = await asyncio.gather(*(shaky.ledger.hold(hold()) for _ in range(64)))
    assert shaky.store.batches == [64]
    await asyncio.gather(*(shaky.ledger.settle(one, USED, "stop") for one in held))
    assert shaky.store.batches == [64, 64]


async def test_a_store_that_fails_is_told_to_every_caller_and_nothing_is_held(shaky: Shaky):
    shaky.store.fails = DOWN
    for refusal in await asyncio.gather(
        *(refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.hold(hold())) for _ in range(3))
    ):
        assert "disk" in refusal.detail
        assert "disk" not in refusal.message
        assert refusal.retry_after
    shaky.store.fails = None
    assert (await shaky.ledger.balance("shop")).held == 0
    await shaky.ledger.hold(hold())


async def test_a_settlement_that_failed_is_written_when_the_store_is_back(
    shaky: Shaky, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "RETRY_EVERY_S", 0.02)
    held = await shaky.ledger.hold(hold())
    shaky.store.fails = DOWN
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.settle(held, USED, "stop"))
    running = asyncio.ensure_future(shaky.ledger.run())
    await asyncio.sleep(0.1)
    shaky.store.fails = None

    async def settled() -> bool:
        return await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]

    await until(settled)
    running.cancel()
    await asyncio.wait([running])


async def test_a_settlement_on_which_nobody_insists_is_not_written_later(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    shaky.store.fails = DOWN
    settling = shaky.ledger.settle(held, USED, "stop", insist=False)
    await refused(ErrorKind.STORE_UNAVAILABLE, settling)
    shaky.store.fails = None
    await shaky.ledger.close()
    assert await kinds(shaky.database, held.hold.receipt) == ["hold"]


async def test_what_is_kept_is_written_at_the_end(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    shaky.store.fails = DOWN
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.settle(held, USED, "stop"))
    shaky.store.fails = None
    await shaky.ledger.close()
    assert await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]


async def test_what_could_not_be_written_at_the_end_is_told_to_the_operator(
    shaky: Shaky, caplog: pytest.LogCaptureFixture
):
    held = await shaky.ledger.hold(hold())
    shaky.store.fails = DOWN
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.settle(held, USED, "stop"))
    await shaky.ledger.close()
    assert f"{held.hold.receipt} was never put on the ledger" in caplog.text


async def test_a_settlement_that_seemed_to_fail_is_not_written_twice(
    shaky: Shaky, caplog: pytest.LogCaptureFixture
):
    held = await shaky.ledger.hold(hold())
    shaky.store.fails, shaky.store.fails_after_writing = DOWN, True
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.settle(held, USED, "stop"))
    shaky.store.fails = None
    await shaky.ledger.close()
    assert await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]
    assert held.hold.receipt not in caplog.text


async def test_more_settlements_than_can_be_kept_are_told_to_the_operator(
    shaky: Shaky, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "KEPT_MAX", 1)
    held = [await shaky.ledger.hold(hold()) for _ in range(2)]
    shaky.store.fails = DOWN
    for one in held:
        await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.settle(one, USED, "stop"))
    assert f"{held[1].hold.receipt} is lost" in caplog.text
    assert held[0].hold.receipt not in caplog.text


async def busy(shaky: Shaky) -> asyncio.Future[Held]:
    """Somebody's hold, at which the store is and stays until it answers."""
    shaky.store.answering.clear()
    first = asyncio.ensure_future(shaky.ledger.hold(hold()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return first


async def test_nobody_waits_longer_than_bounded_for_a_store_that_is_busy(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    first = await busy(shaky)
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.hold(hold()))
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.settle(held, USED, "stop"))
    shaky.store.answering.set()
    await shaky.ledger.release(await first, "failed")

    async def settled_and_nothing_held() -> bool:
        return await shaky.ledger.balance("shop") == FundsRow("account:shop", spent=COST)

    # The hold that waited never comes about, the settlement is made.
    await until(settled_and_nothing_held)
    assert shaky.store.batches == [1, 1, 1, 1]


async def test_what_the_store_is_at_is_told_as_it_ends_however_long_it_takes(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    shaky.store.answering.clear()
    settling = asyncio.ensure_future(shaky.ledger.settle(held, USED, "stop", insist=False))
    await asyncio.sleep(0.3)
    assert not settling.done()
    shaky.store.answering.set()
    assert await settling == COST
    assert await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]


async def test_what_failed_with_others_and_has_waited_long_enough_is_not_tried_alone(
    shaky: Shaky, caplog: pytest.LogCaptureFixture
):
    shaky.store.answering.clear()
    broken = msgspec.structs.replace(hold(), price=None)
    waiting = [asyncio.ensure_future(shaky.ledger.hold(one)) for one in (hold(), broken)]
    await asyncio.sleep(0.3)
    shaky.store.answering.set()
    for one in waiting:
        await refused(ErrorKind.STORE_UNAVAILABLE, one)
    await shaky.ledger.close()
    assert shaky.store.batches == []
    assert caplog.text == ""


async def test_a_hold_whose_caller_leaves_is_given_back(shaky: Shaky):
    shaky.store.answering.clear()
    leaving = [asyncio.ensure_future(shaky.ledger.hold(hold())) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving[0].cancel()
    shaky.store.answering.set()
    held = await leaving[1]

    async def one_held() -> bool:
        return (await shaky.ledger.balance("shop")).held == held.amount

    await until(one_held)
    assert leaving[0].cancelled()


async def test_a_hold_that_comes_about_in_the_moment_of_leaving_is_given_back(shaky: Shaky):
    leaving = asyncio.ensure_future(shaky.ledger.hold(hold()))
    answers = shaky.ledger._done

    def done(*arguments: object) -> None:
        answers(*arguments)  # type: ignore[arg-type]
        leaving.cancel()

    shaky.ledger._done = done  # type: ignore[method-assign]
    await asyncio.wait([leaving])
    shaky.ledger._done = answers  # type: ignore[method-assign]
    assert leaving.cancelled()

    async def nothing_held() -> bool:
        return (await shaky.ledger.balance("shop")).held == 0

    await until(nothing_held)


async def test_a_settlement_whose_caller_leaves_is_made(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    shaky.store.answering.clear()
    leaving = asyncio.ensure_future(shaky.ledger.settle(held, USED, "stop"))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    shaky.store.answering.set()

    async def settled() -> bool:
        return await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]

    await until(settled)


async def test_a_settlement_whose_caller_leaves_before_the_store_takes_it_is_made(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    first = await busy(shaky)
    leaving = asyncio.ensure_future(shaky.ledger.settle(held, USED, "stop", insist=False))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    shaky.store.answering.set()
    await first
    await shaky.ledger.close()
    assert await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]


async def test_a_settlement_that_failed_when_its_caller_had_left_is_written_later(shaky: Shaky):
    held = await shaky.ledger.hold(hold())
    shaky.store.answering.clear()
    leaving = asyncio.ensure_future(shaky.ledger.settle(held, USED, "stop", insist=False))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.wait([leaving])
    shaky.store.fails = DOWN
    shaky.store.answering.set()

    async def kept() -> bool:
        return shaky.ledger.unwritten == 1

    await until(kept)
    shaky.store.fails = None
    await shaky.ledger.close()
    assert await kinds(shaky.database, held.hold.receipt) == ["hold", "settle"]


async def test_more_that_wait_than_bounded_are_refused_at_once(
    shaky: Shaky, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "WAITING_MAX", 2)
    shaky.store.answering.clear()
    waiting = [asyncio.ensure_future(shaky.ledger.hold(hold())) for _ in range(2)]
    await asyncio.sleep(0)
    refusal = await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.hold(hold()))
    assert "2 operations wait" in refusal.detail
    shaky.store.answering.set()
    await asyncio.gather(*waiting)


async def test_a_mistake_in_the_decision_hurts_only_its_own_request(
    shaky: Shaky, caplog: pytest.LogCaptureFixture
):
    broken = msgspec.structs.replace(hold(), price=None)
    results = await asyncio.gather(
        *(shaky.ledger.hold(one) for one in (hold(), broken, hold())), return_exceptions=True
    )
    assert [type(result) for result in results] == [Held, StudioError, Held]
    assert isinstance(results[1], StudioError)
    assert results[1].kind is ErrorKind.INTERNAL
    assert "AttributeError" in caplog.text


async def test_what_is_due_expires_beside_the_server_also_after_the_store_was_away(
    shaky: Shaky, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "EXPIRE_EVERY_S", 0.02)
    monkeypatch.setattr(module, "RETRY_EVERY_S", 0.02)
    held = await shaky.ledger.hold(hold())
    shaky.clock.seconds += 600
    shaky.store.fails = DOWN
    running = asyncio.ensure_future(shaky.ledger.run())
    await asyncio.sleep(0.1)
    shaky.store.fails = None

    async def expired() -> bool:
        return await kinds(shaky.database, held.hold.receipt) == ["hold", "expire"]

    await until(expired)
    running.cancel()
    await asyncio.wait([running])


async def test_a_hold_that_cannot_be_read_keeps_no_other_from_expiring(
    shaky: Shaky, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    held = [await shaky.ledger.hold(hold()) for _ in range(2)]
    claims = sql(tmp_path / "o.db", "SELECT claims FROM holds")[0][0]
    spoil = "UPDATE holds SET claims = ? WHERE receipt = ?"
    sql(tmp_path / "o.db", spoil, "nonsense", held[0].hold.receipt)
    shaky.clock.seconds += 600
    assert await shaky.ledger.expire_due() == 1
    assert f"the hold of {held[0].hold.receipt} cannot be read" in caplog.text
    sql(tmp_path / "o.db", spoil, claims, held[0].hold.receipt)
    assert await shaky.ledger.expire_due() == 1


async def test_a_payment_that_nobody_waits_for_any_more_is_not_made(shaky: Shaky):
    first = await busy(shaky)
    await refused(ErrorKind.STORE_UNAVAILABLE, shaky.ledger.top_up("shop", 5))
    shaky.store.answering.set()
    await first
    await shaky.ledger.close()
    assert (await shaky.ledger.balance("shop")).granted == 0


async def test_prices_of_a_hold_stay_those_of_its_beginning(place: Place):
    held = await place.ledger.hold(hold(PRICED, prompt_tokens=2000))
    assert held.amount == 2000 * 2000 + 50 * 8000
    used = Usage(prompt_tokens=2000, completion_tokens=1, cached_tokens=1000)
    assert await place.ledger.settle(held, used, "stop") == 1000 * 2000 + 1000 * 400 + 8000
