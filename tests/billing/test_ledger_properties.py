"""Goal: whatever comes in whatever order, and whenever the process dies, the books balance and nothing comes twice."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.billing import ledger as ledger_module
from ownstudio.billing.funds import BudgetClaim, FreeQuota
from ownstudio.billing.journal import (
    Held,
    Hold,
    Op,
    PayOp,
    ReleaseOp,
    apply,
    concerns,
    expire_op,
    hold_op,
    settle_op,
)
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.verify import Difference, verify
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Usage
from ownstudio.store import ledger_sqlite
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.ledger import Changes, EntryRow, FundsRow, HoldRow, Seen
from support.money import CURRENCY, FREE, PRICED, START, Clock, hold, put_prices, sql
from support.servers import Postgres

ACCOUNTS = ("shop", "lab")
BALANCE = 1_500_000
BUDGET = 900_000
QUOTA = 700


def some_hold(draw: random.Random, at: int) -> Hold:
    """A request of any kind; the account `shop` is prepaid."""
    account = draw.choice(ACCOUNTS)
    budgets = (BudgetClaim("workspace", BUDGET, "day"), BudgetClaim("key", BUDGET))
    return hold(
        draw.choice((PRICED, PRICED, FREE)),
        account=account,
        prompt_tokens=draw.randrange(1, 1500),
        completion_max=draw.randrange(0, 100),
        thinking=draw.random() < 0.2,
        explicit=draw.random() < 0.3,
        expires_at=at + draw.randrange(1, 100),
        prepaid=account == "shop",
        budgets=tuple(draw.sample(budgets, draw.randrange(3))),
        free=draw.choice((None, FreeQuota(QUOTA), FreeQuota(QUOTA, only=True))),
    )


def some_usage(draw: random.Random, of: Hold) -> Usage:
    """No more than was held, of whatever the caches had."""
    cached = draw.randrange(of.prompt_tokens + 1)
    created = draw.randrange(of.prompt_tokens - cached + 1) if of.explicit else 0
    return Usage(
        prompt_tokens=of.prompt_tokens,
        completion_tokens=draw.randrange(of.completion_max + 1),
        cached_tokens=cached,
        cache_creation_tokens=created,
        explicit_cache=of.explicit,
    )


def fresh_of(usage: Usage) -> int:
    return usage.prompt_tokens - usage.cached_tokens - usage.cache_creation_tokens


# The decision alone, against a ledger that is kept in dictionaries.


class Books:
    """All that a database would keep."""

    def __init__(self) -> None:
        self.funds: dict[str, FundsRow] = {}
        self.holds: dict[str, HoldRow] = {}
        self.entries: list[EntryRow] = []

    def commit(self, batch: Sequence[Op]) -> list[object]:
        named = [concerns(op) for op in batch]
        scopes = {scope for some, _ in named for scope in some}
        receipts = {receipt for _, receipt in named if receipt is not None}
        seen = Seen(
            {scope: self.funds.get(scope, FundsRow(scope)) for scope in scopes},
            {receipt: self.holds[receipt] for receipt in receipts if receipt in self.holds},
            {
                receipt: frozenset(e.kind for e in self.entries if e.receipt == receipt)
                for receipt in receipts
                if receipt not in self.holds
            },
        )
        results, changes = apply(batch, seen)
        self._write(changes)
        return list(results)

    def _write(self, changes: Changes) -> None:
        self.entries.extend(changes.entries)
        self.funds.update({row.scope: row for row in changes.funds})
        self.holds.update({row.receipt: row for row in changes.opened})
        for receipt in changes.closed:
            del self.holds[receipt]
        names = [(entry.receipt, entry.kind) for entry in self.entries]
        assert len(names) == len(set(names))

    def check(self) -> None:
        """Every sum again, from the entries and the holds that are open."""
        for row in self.funds.values():
            assert min(row.spent, row.held) >= 0
        reserved: dict[str, int] = {}
        for open_hold in self.holds.values():
            for scope, amount in msgspec.json.decode(open_hold.claims):
                reserved[scope] = reserved.get(scope, 0) + amount
        assert {s: row.held for s, row in self.funds.items() if row.held} == {
            scope: amount for scope, amount in reserved.items() if amount
        }
        for account in ACCOUNTS:
            row = self.funds.get(f"account:{account}", FundsRow(""))
            mine = [entry for entry in self.entries if entry.account == account]
            assert row.granted == sum(e.amount for e in mine if e.kind == "payment")
            assert row.spent == sum(e.amount for e in mine if e.kind == "settle")
        shop = self.funds.get("account:shop", FundsRow(""))
        expired = {e.receipt for e in self.entries if e.kind == "expire"}
        late = [e for e in self.entries if e.kind == "settle" and e.receipt in expired]
        # Only an answer that outlived its hold can cost what is not there any more.
        assert shop.spent + shop.held <= shop.granted + sum(entry.amount for entry in late)
        begun = {e.receipt: e for e in self.entries if e.kind == "hold"}
        free: dict[tuple[str, str], int] = {}
        for entry in self.entries:
            if entry.kind != "settle":
                continue
            assert entry.amount <= begun[entry.receipt].amount
            # Nor does anything go beyond a free quota, but for what was promised to be free whatever is left.
            if "free=only" not in begun[entry.receipt].note and entry.receipt not in expired:
                tokens = entry.free_prompt_tokens + entry.free_completion_tokens
                place = (entry.account, entry.model)
                free[place] = free.get(place, 0) + tokens
        assert max(free.values(), default=0) <= QUOTA


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_any_batches_of_any_operations_leave_books_that_balance(draw: random.Random, count: int):
    books, at = Books(), START
    known: list[Held] = []
    for number in range(count):
        at += draw.randrange(60)
        batch: list[Op] = [
            PayOp(
                f"pay-{number}", "payment", at, draw.choice(ACCOUNTS), draw.randrange(1, 10**6), ""
            )
        ]
        for _ in range(draw.randrange(6)):
            what = draw.random()
            if what < 0.4 or not known:
                batch.append(hold_op(some_hold(draw, at), at))
                continue
            held = draw.choice(known)
            begun = next(e for e in books.entries if e.receipt == held.hold.receipt)
            row = HoldRow(
                begun.receipt, held.hold.expires_at, msgspec.json.encode(held.claims).decode()
            )
            if what < 0.7:
                batch.append(settle_op(held, at, some_usage(draw, held.hold), "stop"))
            elif what < 0.85:
                batch.append(ReleaseOp(held, at, "failed"))
            else:
                batch.append(expire_op(row, begun, at))
        draw.shuffle(batch)
        known += [result for result in books.commit(batch) if isinstance(result, Held)]
        books.check()
    for held in known:
        books.commit([ReleaseOp(held, at, "failed")])
    books.check()
    assert not books.holds


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_however_many_share_a_free_quota_they_never_have_more_than_it(draw: random.Random):
    books, running = Books(), list[Held]()
    for _ in range(30):
        if draw.random() < 0.5 or not running:
            one = hold(
                account="lab",
                prompt_tokens=draw.randrange(1, 400),
                completion_max=draw.randrange(400),
                expires_at=2**40,
                free=FreeQuota(QUOTA),
            )
            (held,) = books.commit([hold_op(one, START)])
            assert isinstance(held, Held)
            running.append(held)
        else:
            held = running.pop(draw.randrange(len(running)))
            op = settle_op(held, START, some_usage(draw, held.hold), "stop")
            books.commit([op if draw.random() < 0.9 else ReleaseOp(held, START, "failed")])
        books.check()
        row = books.funds["free:lab:local:tiered"]
        assert row.spent + row.held <= QUOTA


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_usage_within_what_was_held_costs_more_than_was_held(draw: random.Random):
    one = some_hold(draw, START)
    quota = draw.randrange(0, 2000)
    funds = {scope: FundsRow(scope, granted=10**15) for scope in hold_op(one, START).scopes}
    plenty = msgspec.structs.replace(
        one, budgets=(), free=None if one.free is None else FreeQuota(quota, only=one.only_free)
    )
    (held,), begun = apply([hold_op(plenty, START)], Seen(funds, {}, {}))
    if not isinstance(held, Held):
        return
    # Others claim and use what is left meanwhile, and also what is not.
    after = {
        row.scope: msgspec.structs.replace(
            row, spent=row.spent + draw.randrange(2000), held=row.held + draw.randrange(2000)
        )
        for row in (funds | {row.scope: row for row in begun.funds}).values()
    }
    opened = {row.receipt: row for row in begun.opened}
    usage = some_usage(draw, plenty)
    (amount,), ended = apply(
        [settle_op(held, START, usage, "stop")],
        Seen(after, opened, {held.hold.receipt: frozenset()}),
    )
    (entry,) = ended.entries
    free = entry.free_prompt_tokens + entry.free_completion_tokens
    assert 0 <= amount == entry.amount <= held.amount
    assert one.only_free or free >= min(held.free_tokens, fresh_of(usage) + usage.completion_tokens)
    assert one.only_free or one.free is not None or free == 0


# The whole, on a real file, with a process that dies.


class Died(Exception):
    """The process is gone: what it had not committed is lost, and nobody was told anything."""


class Fate:
    """Lets the process die at a chosen moment of its next change: before, in the middle of or after its writing."""

    def __init__(self) -> None:
        self.moment = ""
        self.dead = False
        self._write = ledger_sqlite._write

    def write(self, connection: sqlite3.Connection, changes: Changes) -> None:
        moment, self.moment = self.moment, ""
        if not moment and not self.dead:
            self._write(connection, changes)
            return
        if moment in ("middle", "after"):
            self._write(connection, changes)
        if moment == "after":
            connection.execute("COMMIT")
        # Closed as the system does it for the dead, without a commit; and nothing is written any more.
        connection.close()
        self.dead = True
        raise Died


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and prices, to be copied: making one takes longer than a whole example."""
    path = tmp_path_factory.mktemp("template") / "o.db"

    async def make() -> None:
        database = await Database.open(sqlite_url(path))
        await put_prices(database)
        await database.close()

    asyncio.run(make())
    return path


class World:
    """A server on one file that is started again whenever it has died."""

    def __init__(self, database: Database, path: Path, draw: random.Random, fate: Fate) -> None:
        self.clock = Clock()
        self.known: list[Held] = []
        # Receipts whose settlement was confirmed, and those of which nobody can know.
        self.settled: set[str] = set()
        self.doubtful: set[str] = set()
        self._database = database
        self._path = path
        self._draw = draw
        self._fate = fate
        self._stores: list[ledger_sqlite.SqliteLedgerStore] = []
        self.ledger = self._start()

    def _start(self) -> Ledger:
        self._stores.append(ledger_sqlite.SqliteLedgerStore(self._path))
        return Ledger(self._database, self._stores[-1], now=self.clock)

    async def step(self) -> None:
        """Some operations at once; perhaps the process dies of them."""
        draw = self._draw
        self.clock.seconds += draw.randrange(40)
        if draw.random() < 0.3:
            self._fate.moment = draw.choice(("before", "middle", "after"))
        await asyncio.gather(*(self._one() for _ in range(draw.randrange(1, 5))))
        self._fate.moment = ""
        if self._fate.dead:
            self._fate.dead = False
            # Dropped as it is, with all that it remembers; what it had kept it never writes.
            self.ledger = self._start()

    async def _one(self) -> None:
        draw, what = self._draw, self._draw.random()
        with suppress(StudioError):
            if what < 0.1:
                await self.ledger.top_up(draw.choice(ACCOUNTS), draw.randrange(1, BALANCE))
            elif what < 0.2:
                await self.ledger.expire_due()
            elif what < 0.55 or not self.known:
                self.known.append(await self.ledger.hold(some_hold(draw, int(self.clock()))))
            elif what < 0.9:
                await self._settle(draw.choice(self.known))
            else:
                await self.ledger.release(draw.choice(self.known), "failed")

    async def _settle(self, held: Held) -> None:
        receipt = held.hold.receipt
        try:
            await self.ledger.settle(held, some_usage(self._draw, held.hold), "stop")
        except StudioError:
            self.doubtful.add(receipt)
            raise
        assert receipt not in self.settled
        self.settled.add(receipt)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@settings(max_examples=40, deadline=None)
@given(draw=st.randoms(use_true_random=False), count=st.integers(1, 20))
def test_any_interleaving_with_any_crash_leaves_books_that_balance(
    template: Path, draw: random.Random, count: int
):
    directory = template.parent / f"{draw.getrandbits(64):x}"
    directory.mkdir(exist_ok=True)
    path = directory / "o.db"
    shutil.copy(template, path)

    fate = Fate()

    async def run() -> None:
        database = await Database.open(sqlite_url(path))
        world = World(database, path, draw, fate)
        found: list[Difference] = []
        try:
            for _ in range(count):
                await world.step()
            await verify(database, CURRENCY, found.append)
            assert found == []
            # Whatever is open expires, and then nothing is held of anything.
            world.clock.seconds += 1000
            await world.ledger.expire_due()
            summary = await verify(database, CURRENCY, found.append)
            assert (found, summary.open_holds) == ([], 0)
        finally:
            await world.close()
            await database.close()
        check_file(path, world)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_sqlite, "_write", fate.write)
        patch.setattr(ledger_module.log, "disabled", True)
        asyncio.run(run())
    shutil.rmtree(directory)


def check_file(path: Path, world: World) -> None:
    """The same again in SQL, which shares nothing with the code that wrote it."""
    wrong = """
        SELECT scope FROM funds WHERE held <> 0 OR spent < 0 OR granted < 0
        UNION ALL
        SELECT account FROM entries GROUP BY account
        HAVING sum(CASE kind WHEN 'settle' THEN amount ELSE 0 END)
            <> (SELECT coalesce(max(spent), 0) FROM funds WHERE scope = 'account:' || account)
        UNION ALL
        SELECT receipt FROM entries GROUP BY receipt
        HAVING sum(kind = 'hold') > 1 OR sum(kind IN ('settle', 'release')) > 1
            OR sum(kind IN ('release', 'expire')) > 1
            OR sum(kind = 'hold') = 0 AND sum(kind = 'payment') <> 1
        UNION ALL
        SELECT receipt FROM holds
    """
    assert sql(path, wrong) == []
    on_file = {
        receipt for (receipt,) in sql(path, "SELECT receipt FROM entries WHERE kind='settle'")
    }
    assert world.settled <= on_file <= world.settled | world.doubtful


# Two gateways on one PostgreSQL.


@pytest.fixture
async def gateways(postgres: Postgres) -> AsyncIterator[list[tuple[Ledger, Database]]]:
    url = postgres.database()
    databases = [await Database.open(url) for _ in range(2)]
    await put_prices(databases[0])
    opened = [(Ledger.open(database, url), database) for database in databases]
    yield opened
    for ledger, database in opened:
        await ledger.close()
        await database.close()


async def test_two_gateways_never_overspend_one_prepaid_account(
    gateways: list[tuple[Ledger, Database]],
):
    await gateways[0][0].top_up("shop", BALANCE)
    draw = random.Random(20251123)
    amounts: list[int] = []
    refusals: set[ErrorKind] = set()

    async def client(number: int) -> None:
        ledger, _ = gateways[number % 2]
        for _ in range(3):
            one = hold(prepaid=True, prompt_tokens=draw.randrange(1, 300), expires_at=2**40)
            try:
                held = await ledger.hold(one)
            except StudioError as refusal:
                refusals.add(refusal.kind)
                continue
            row = await ledger.balance("shop")
            assert row.spent + row.held <= row.granted
            if draw.random() < 0.2:
                await ledger.release(held, "failed")
            else:
                amounts.append(await ledger.settle(held, some_usage(draw, one), "stop"))

    await asyncio.gather(*(client(number) for number in range(24)))
    row = await gateways[1][0].balance("shop")
    assert row == FundsRow("account:shop", BALANCE, sum(amounts), 0)
    assert 0 < sum(amounts) <= BALANCE
    assert refusals == {ErrorKind.ARREARAGE}
    found: list[Difference] = []
    await verify(gateways[0][1], CURRENCY, found.append)
    assert found == []
