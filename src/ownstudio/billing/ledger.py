"""The ledger: what is held, settled, released and paid, each exactly once and in the order that it came.

What an ending costs: an answer that stopped or reached its length is settled; one whose client hung up is settled with
what was produced until then; where the engine died, the deadline passed, the server stopped or anything was refused or
failed, the hold is released. A hold that a dead process left is expired by whoever comes next.

Operations that come together are committed together: while one batch is being written, the next one gathers. What an
operation means for its batch is decided by `journal.apply`, inside the transaction that locks the sums it is about.

Nobody waits longer than `wait_s` for the store to take an operation. Once it has it, what is told is what became of
it, and the store bounds how long that takes. PostgreSQL is given up after `store.ledger.COMMIT_S_MAX` and the two
seconds that SQLAlchemy takes at most to close a connection, also one that has gone silent; SQLite gives up its wait for
a lock after `store.database.BUSY_TIMEOUT_S`. Only a disk that never answers is bounded by nothing.

What nobody waits for any more is not written. But a settlement whose caller left is, and is tried again where the store
could not take it; and a hold that comes about without its caller is released again.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Self

from ownstudio.billing.funds import BudgetClaim as BudgetClaim  # parts of a hold
from ownstudio.billing.funds import FreeQuota as FreeQuota
from ownstudio.billing.funds import account_scope, arrearage
from ownstudio.billing.journal import Held as Held
from ownstudio.billing.journal import Hold as Hold
from ownstudio.billing.journal import (
    Op,
    PayOp,
    ReleaseOp,
    Result,
    SettleOp,
    apply,
    concerns,
    expire_op,
    hold_op,
    settle_op,
)
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Usage
from ownstudio.core.money import AMOUNT_MAX
from ownstudio.store import ledger as table
from ownstudio.store.database import ConflictError, Database
from ownstudio.store.directory import StoreError
from ownstudio.store.ledger import (
    Admission,
    EntryRow,
    FundsRow,
    HoldRow,
    LedgerStore,
    Wanted,
    ledger_store,
)

WAIT_S = 8.0
BATCH_MAX = 256
# Holds beyond so many that wait are refused at once; settlements beyond so many that failed are given up.
WAITING_MAX = 10_000
KEPT_MAX = 10_000
EXPIRE_EVERY_S = 5.0
EXPIRE_AT_ONCE = 500
RETRY_EVERY_S = 1.0
CLOSE_S_MAX = 15.0
RETRY_AFTER_S = 5.0
NOTE_MAX = 200
REFERENCE_MAX = 200
RECEIPT_BYTES = 12

log = logging.getLogger(__name__)


class _Waiting:
    """An operation on its way to the store, and whoever waits for its result.

    `insists`: it is written also when nobody waits any more, and tried again where it fails. `again`: that is so now.
    """

    __slots__ = ("_insists", "_overdue", "_taken", "again", "answer", "op")

    def __init__(
        self, op: Op, answer: asyncio.Future[Result], *, insists: bool, again: bool
    ) -> None:
        self.op = op
        self.answer = answer
        self.again = again
        self._insists = insists
        # Whether the store is at it, and whether its caller has waited long enough.
        self._taken = False
        self._overdue = False

    @property
    def insists(self) -> bool:
        # Who left in the middle of a settlement had the answer, and was not told that it costs nothing.
        return self._insists or (isinstance(self.op, SettleOp) and self.answer.cancelled())

    def take(self) -> bool:
        """Let the store have it, from now on without a bound of its own. False: it is not to be written any more."""
        self._taken = self.insists or not self.answer.done()
        return self._taken

    def put_back(self) -> None:
        """It was not written, and waits again."""
        self._taken = False
        if self._overdue:
            self.give_up()

    def give_up(self) -> None:
        """Its caller has waited long enough, unless it is just being written."""
        self._overdue = True
        if not self._taken:
            self.tell(_unavailable("the store has not answered in time"))

    def tell(self, result: Result) -> bool:
        """Whether anybody was there to hear it."""
        if self.answer.done():
            return False
        if isinstance(result, StudioError):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)
        return True


class Ledger:
    """The ledger of one database. `run` is to run beside it; `close` comes before the database's own."""

    def __init__(
        self,
        database: Database,
        store: LedgerStore,
        *,
        now: Callable[[], float] = time.time,
        wait_s: float = WAIT_S,
    ) -> None:
        self._database = database
        self._store = store
        self._now = now
        self._wait_s = wait_s
        self._waiting: deque[_Waiting] = deque()
        # Those of a batch that failed because of one of them.
        self._alone: deque[_Waiting] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        # Settlements that the store did not take, by receipt.
        self._kept: dict[str, SettleOp] = {}

    @classmethod
    def open(
        cls,
        database: Database,
        url: str,
        *,
        now: Callable[[], float] = time.time,
        wait_s: float = WAIT_S,
    ) -> Self:
        """The ledger in a database that was opened from this URL."""
        return cls(database, ledger_store(database, url), now=now, wait_s=wait_s)

    async def hold(self, hold: Hold) -> Held:
        """Reserve what a request may cost at most.

        Raises StudioError: ARREARAGE, BUDGET_EXHAUSTED, FREE_QUOTA_EXHAUSTED, and then nothing is held;
        STORE_UNAVAILABLE, and then nothing is held for longer than until `expires_at`.
        """
        if hold.suspended:
            raise arrearage(f"the account {hold.account} is suspended")
        if len(self._waiting) >= WAITING_MAX:
            raise _unavailable(f"{len(self._waiting)} operations wait for the store")
        waiting = self._submit(hold_op(hold, int(self._now())), insists=False)
        try:
            held = await self._bounded(waiting)
        except asyncio.CancelledError:
            answer = waiting.answer
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                # The answer and the interruption came in the same turn of the loop.
                self._abandon(answer.result())
            raise
        assert isinstance(held, Held)
        return held

    async def settle(self, held: Held, usage: Usage, ending: str, *, insist: bool = True) -> int:
        """Charge what was used; the amount. Raises StudioError.

        STORE_UNAVAILABLE: it is not on the ledger yet. Who insists, and who leaves before it is told, has it written as
        soon as the store takes it, unless the process ends before; else its hold expires, unless the connection broke
        while the store was told to commit. INTERNAL: it was settled or released before, or its counts contradict each
        other.
        """
        try:
            op = settle_op(held, int(self._now()), usage, ending)
        except ValueError as error:
            raise _mistake(f"{held.hold.receipt} cannot be settled: {error}") from error
        amount = await self._bounded(self._submit(op, insists=insist))
        assert isinstance(amount, int)
        return amount

    async def release(self, held: Held, ending: str) -> None:
        """Give back all that is held. Raises StudioError; without a store the hold expires by itself."""
        await self._bounded(self._submit(ReleaseOp(held, int(self._now()), ending)))

    async def top_up(
        self, account: str, amount: int, note: str = "", reference: str = ""
    ) -> tuple[str, bool]:
        """Add a payment to an account's balance; its receipt, and whether it is new.

        A payment with a reference is made once per account, however often it is asked for. Raises ValueError,
        StudioError; IDEMPOTENCY_CONFLICT where the reference was used for another amount.
        """
        if amount <= 0:
            raise ValueError("a payment is more than nothing")
        if len(reference) > REFERENCE_MAX or not reference.isprintable():
            raise ValueError(f"the reference is at most {REFERENCE_MAX} printable characters")
        receipt = None
        if reference:
            named = f"{account}/{reference}".encode()
            receipt = f"payment-{blake2b(named, digest_size=RECEIPT_BYTES).hexdigest()}"
        return await self._pay("payment", account, amount, note, receipt)

    async def adjust(self, account: str, amount: int, note: str) -> str:
        """Correct an account's balance, up or down; the receipt. Raises ValueError, StudioError."""
        if amount == 0 or not note:
            raise ValueError("a correction has an amount and a note that says why")
        receipt, _ = await self._pay("correction", account, amount, note)
        return receipt

    @property
    def unwritten(self) -> int:
        """How many settlements the store has not taken yet, and wait to be tried again."""
        return len(self._kept)

    async def balance(self, account: str) -> FundsRow:
        """What was paid into an account, what it spent and what is held of it. Raises StudioError."""
        scope = account_scope(account)
        try:
            async with self._database.snapshot() as connection:
                found = await table.funds_of(connection, [scope])
        except StoreError as error:
            raise _unavailable(str(error)) from error
        return found.get(scope, FundsRow(scope))

    async def recent(self, since: int) -> list[Admission]:
        """What was let in at `since` or later, from which limits are restored. Raises StudioError."""
        try:
            async with self._database.snapshot() as connection:
                return await table.admissions_since(connection, since)
        except StoreError as error:
            raise _unavailable(str(error)) from error

    async def expire_due(self) -> int:
        """Give back what is held beyond its time; how many holds that were. Raises StudioError."""
        expired = 0
        while True:
            now = int(self._now())
            try:
                async with self._database.snapshot() as connection:
                    due = await table.due_holds(connection, now, EXPIRE_AT_ONCE)
            except StoreError as error:
                raise _unavailable(str(error)) from error
            expiring = [self._submit(op, insists=False) for op in _expire_ops(due, now)]
            for one in expiring:
                # The first failure is told; it is that of all the others.
                _forget(one)
            wrote = [await self._bounded(one) for one in expiring].count(True)
            expired += wrote
            if len(due) < EXPIRE_AT_ONCE or not wrote:
                return expired

    async def run(self) -> None:
        """Expire what is due and try again what failed, until cancelled."""
        expire_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= expire_at:
                expire_at = loop.time() + EXPIRE_EVERY_S
                try:
                    if expired := await self.expire_due():
                        log.warning("%s holds that nobody ended have expired", expired)
                except StudioError as error:
                    log.warning("holds could not be expired: %s", error.detail)
            self._try_again()
            await asyncio.sleep(RETRY_EVERY_S)

    async def close(self) -> None:
        """Write what waits, for a bounded time, and close the store."""
        self._try_again()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._idle.wait()
        for op in (*self._kept.values(), *(one.op for one in self._waiting)):
            if isinstance(op, SettleOp):
                log.error("%s was never put on the ledger: %s", op.held.hold.receipt, op)
        await self._store.close()

    async def _pay(
        self, kind: str, account: str, amount: int, note: str, receipt: str | None = None
    ) -> tuple[str, bool]:
        if abs(amount) > AMOUNT_MAX or len(note) > NOTE_MAX or not note.isprintable():
            raise ValueError(f"an amount in range, and at most {NOTE_MAX} printable characters")
        receipt = receipt or f"{kind}-{secrets.token_hex(RECEIPT_BYTES)}"
        op = PayOp(receipt, kind, int(self._now()), account, amount, note)
        if await self._bounded(self._submit(op, insists=False)):
            return receipt, True
        try:
            async with self._database.snapshot() as connection:
                (made,) = await table.entries_of(connection, receipt)
        except StoreError as error:
            raise _unavailable(str(error)) from error
        if made.amount != amount:
            raise StudioError(
                ErrorKind.IDEMPOTENCY_CONFLICT,
                f"This reference is that of the payment {receipt}, which was of another amount.",
                param="reference",
            )
        return receipt, False

    def _submit(self, op: Op, *, insists: bool = True, again: bool = False) -> _Waiting:
        loop = asyncio.get_running_loop()
        one = _Waiting(op, loop.create_future(), insists=insists, again=again)
        self._waiting.append(one)
        if self._idle.is_set():
            # Not before the others that come in this turn of the loop.
            self._idle.clear()
            loop.call_soon(self._write)
        return one

    async def _bounded(self, one: _Waiting) -> Result:
        timer = asyncio.get_running_loop().call_later(self._wait_s, one.give_up)
        try:
            return await one.answer
        finally:
            timer.cancel()

    def _write(self) -> None:
        """Hand the next batch to the store; `_written` comes when it is done with it."""
        batch = self._next_batch()
        if not batch:
            self._idle.set()
            return
        ops = [one.op for one in batch]
        writing = self._store.commit(_wanted(ops), lambda seen: apply(ops, seen))
        writing.add_done_callback(partial(self._written, batch))

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        for waiting, at_most in ((self._alone, 1), (self._waiting, BATCH_MAX)):
            while waiting and len(batch) < at_most:
                one = waiting.popleft()
                if one.take():
                    batch.append(one)
            if batch:
                break
        return batch

    def _written(self, batch: list[_Waiting], writing: asyncio.Future[list[Result]]) -> None:
        error = asyncio.CancelledError() if writing.cancelled() else writing.exception()
        if error is None:
            for one, result in zip(batch, writing.result(), strict=True):
                self._done(one, result)
        elif len(batch) > 1 and _of_one(error):
            # One of them cannot be written; the others can.
            for one in batch:
                one.put_back()
            self._alone.extend(batch)
        else:
            for one in batch:
                self._failed(one, error)
        self._write()

    def _done(self, one: _Waiting, result: Result) -> None:
        if isinstance(one.op, SettleOp):
            self._kept.pop(one.op.held.hold.receipt, None)
            if isinstance(result, int):
                _warn_of_more(one.op, result)
        if isinstance(result, StudioError) and result.kind is ErrorKind.INTERNAL:
            if one.again:
                # The commit that seemed to fail had reached the store.
                result = True
            else:
                log.error("%s", result.detail)
        if not one.tell(result) and isinstance(result, Held):
            self._abandon(result)

    def _failed(self, one: _Waiting, error: BaseException) -> None:
        if not isinstance(error, StoreError):
            log.error("an operation of the ledger failed: %s", one.op, exc_info=error)
            one.tell(_mistake(f"{type(error).__name__}: {error}"))
            return
        if one.insists and isinstance(one.op, SettleOp) and not isinstance(error, ConflictError):
            self._keep(one.op)
        one.tell(_unavailable(str(error)))

    def _keep(self, op: SettleOp) -> None:
        receipt = op.held.hold.receipt
        if receipt in self._kept or len(self._kept) < KEPT_MAX:
            self._kept[receipt] = op
        else:
            log.error("%s is lost, too many settlements wait for the store: %s", receipt, op)

    def _try_again(self) -> None:
        """Submit once more what was kept; what fails again is kept again."""
        kept, self._kept = self._kept, {}
        for op in kept.values():
            _forget(self._submit(op, again=True))

    def _abandon(self, result: Result) -> None:
        """Give back a hold that came about when its caller had left."""
        if isinstance(result, Held):
            op = ReleaseOp(result, int(self._now()), "abandoned")
            _forget(self._submit(op))


def _expire_ops(due: Sequence[tuple[HoldRow, EntryRow]], now: int) -> Iterator[Op]:
    for row, entry in due:
        try:
            yield expire_op(row, entry, now)
        except ValueError as error:
            # Somebody wrote it by hand. `verify` names it too.
            log.error(
                "the hold of %s cannot be read, so it does not expire: %s", row.receipt, error
            )


def _wanted(ops: Sequence[Op]) -> Wanted:
    scopes: set[str] = set()
    receipts: list[str] = []
    for op in ops:
        concerned, receipt = concerns(op)
        scopes.update(concerned)
        if receipt is not None:
            receipts.append(receipt)
    return Wanted(tuple(sorted(scopes)), tuple(receipts))


def _of_one(error: BaseException) -> bool:
    """Whether an operation is at fault, and not the store."""
    return isinstance(error, ConflictError) or not isinstance(error, StoreError)


def _warn_of_more(op: SettleOp, amount: int) -> None:
    if amount > op.held.amount:
        log.warning(
            "%s is charged %s nano-units, more than the %s held for it: %s",
            op.held.hold.receipt,
            amount,
            op.held.amount,
            op.usage,
        )


def _forget(one: _Waiting) -> None:
    """Nobody waits for this one, and nobody is to be told that it failed: it is logged where it does."""
    one.answer.add_done_callback(lambda done: done.cancelled() or done.exception())


def _unavailable(detail: str) -> StudioError:
    return StudioError(
        ErrorKind.STORE_UNAVAILABLE,
        "The ledger could not be written, please try again later.",
        detail=detail,
        retry_after=RETRY_AFTER_S,
    )


def _mistake(detail: str) -> StudioError:
    return StudioError(
        ErrorKind.INTERNAL,
        "An internal error has occured, please try again later or contact service support.",
        detail=detail,
    )
