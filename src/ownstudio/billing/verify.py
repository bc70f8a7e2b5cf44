"""Recomputes the whole ledger: every amount from raw counts and the price in force, every sum from the entries.

Entries are read as a stream, one receipt at a time, of one moment of the database; beside them stay in memory the sums
of each scope, the open holds and the prices. So it may run beside a server, and over a ledger of any length.
"""

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from ownstudio.billing.funds import FreeQuota, account_scope, free_scope, is_free_scope
from ownstudio.billing.journal import (
    Claims,
    Hold,
    HoldNote,
    read_claims,
    read_note,
    reservation,
    settlement,
)
from ownstudio.billing.prices import Price, PriceBook
from ownstudio.core.events import Usage
from ownstudio.store import ledger as table
from ownstudio.store.database import Database
from ownstudio.store.ledger import EntryRow, FundsRow, HoldRow

# How old a gateway's knowledge of prices may be: a hold may have the price that was in force so many seconds before.
PRICE_LAG_S = 60
PROGRESS_EVERY = 500

_LIVES = (
    ("hold",),
    ("hold", "settle"),
    ("hold", "release"),
    ("hold", "expire"),
    ("hold", "expire", "settle"),
)
_PAYMENTS = ("payment", "correction")
_COUNTS = (
    "reserved_tokens",
    "prompt_tokens",
    "cached_tokens",
    "cache_creation_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "free_prompt_tokens",
    "free_completion_tokens",
)
_OWNERS = ("account", "workspace", "key_id", "region", "model", "price_id", "thinking")


class Difference(Struct, frozen=True):
    """What is on the ledger is not what follows from the rest. Sums have their scope for a receipt."""

    receipt: str
    what: str
    expected: str
    found: str


class Summary(Struct, frozen=True):
    entries: int
    receipts: int
    open_holds: int
    sums: int
    differences: int


async def verify(
    database: Database,
    currency: str,
    report: Callable[[Difference], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Check everything; each difference is reported as it is found. `progress` hears of entries done and in all.

    Raises StoreError where the database cannot be read.
    """
    book = PriceBook(database, currency)
    audit = _Audit(book)
    differences = entries = receipts = sums = 0
    async with database.snapshot() as connection:
        await table.one_state(connection)
        total = await table.count_entries(connection)
        # After the moment that is checked has begun, so that no price of it is missing.
        await book.refresh()
        holds = {row.receipt: row for row in await table.all_holds(connection)}
        open_holds = len(holds)
        async for life in table.entries_by_receipt(connection):
            for difference in audit.check(life, holds.pop(life[0].receipt, None)):
                differences += 1
                report(difference)
            entries += len(life)
            receipts += 1
            if receipts % PROGRESS_EVERY == 0:
                progress(entries, total)
        for row in holds.values():
            differences += 1
            report(Difference(row.receipt, "open hold", "an entry", "none"))
        async for funds in table.all_funds(connection):
            sums += 1
            for difference in audit.check_funds(funds):
                differences += 1
                report(difference)
        for difference in audit.missing_funds():
            differences += 1
            report(difference)
    progress(entries, total)
    return Summary(entries, receipts, open_holds, sums, differences)


class _Audit:
    """What follows from the entries so far."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._sums: dict[str, FundsRow] = {}
        # The most that the holds of a scope name as its free quota, and the tokens that had to stay within it.
        self._quotas: dict[str, int] = {}
        self._free_within: dict[str, int] = {}

    def check(self, life: list[EntryRow], row: HoldRow | None) -> Iterator[Difference]:
        """All that can be said of one receipt; `row` is its open hold, if it has one."""
        first, receipt = life[0], life[0].receipt
        kinds = tuple(entry.kind for entry in life)
        for entry in life:
            for name in _COUNTS:
                if getattr(entry, name) < 0:
                    yield _differs(entry, name, "0 or more", getattr(entry, name))
        if len(life) == 1 and first.kind in _PAYMENTS:
            self._add(account_scope(first.account), granted=first.amount)
            if first.kind == "payment" and first.amount <= 0:
                yield _differs(first, "amount", "more than 0", first.amount)
            return
        if kinds not in _LIVES:
            lives = " or ".join(" ".join(life) for life in _LIVES)
            yield Difference(receipt, "life", lives, " ".join(kinds))
            if first.kind != "hold":
                return
        if (row is not None) != (kinds == ("hold",)):
            state = ("ended", "open")
            yield Difference(
                receipt, "open hold", state[kinds == ("hold",)], state[row is not None]
            )
        try:
            note = read_note(first)
        except ValueError as error:
            yield Difference(receipt, "note", "what was claimed", str(error))
            return
        price = self._book.by_id(first.price_id) if first.price_id is not None else None
        if price is None:
            yield _differs(first, "price", "one that is known", first.price_id)
            return
        yield from self._check_price(first, price)
        self._count_free(life, note)
        yield from self._check_life(life, _rebuilt(first, note, price), note, row)

    def check_funds(self, funds: FundsRow) -> Iterator[Difference]:
        sums = self._sums.pop(funds.scope, FundsRow(funds.scope))
        for name in ("granted", "spent", "held"):
            expected, found = getattr(sums, name), getattr(funds, name)
            if expected != found:
                yield Difference(funds.scope, name, str(expected), str(found))
            if found < 0 and name != "granted":
                yield Difference(funds.scope, name, "0 or more", str(found))
        quota, free = self._quotas.get(funds.scope, 0), self._free_within.get(funds.scope, 0)
        if free > quota:
            yield Difference(funds.scope, "free tokens", f"at most {quota}", str(free))

    def missing_funds(self) -> Iterator[Difference]:
        for scope in sorted(self._sums):
            # A row with nothing in it need not exist.
            yield from self.check_funds(FundsRow(scope))

    def _check_price(self, entry: EntryRow, price: Price) -> Iterator[Difference]:
        at = max(entry.at - PRICE_LAG_S, min(price.effective_from, entry.at))
        try:
            in_force = self._book.price(entry.model, entry.region, at).id
        except LookupError:
            in_force = None
        if in_force != price.id:
            yield _differs(entry, "price in force", in_force, price.id)

    def _check_life(
        self, life: list[EntryRow], hold: Hold, note: HoldNote, row: HoldRow | None
    ) -> Iterator[Difference]:
        begun = life[0]
        free_tokens = begun.free_prompt_tokens + begun.free_completion_tokens
        if begun.reserved_tokens != hold.tokens_max:
            yield _differs(begun, "reserved tokens", hold.tokens_max, begun.reserved_tokens)
        free_max = hold.tokens_max if note.quota is None else min(hold.tokens_max, note.quota)
        if free_tokens > free_max:
            yield _differs(begun, "free tokens", f"at most {free_max}", free_tokens)
        reserved = reservation(hold, free_tokens)
        if begun.amount != reserved:
            yield _differs(begun, "amount", reserved, begun.amount)
        claims = _claims(begun, note, free_tokens)
        if row is not None:
            yield from _check_row(row, claims, note)
            for scope, amount in claims:
                self._add(scope, held=amount)
        for entry in life[1:]:
            for name in _OWNERS:
                if getattr(entry, name) != getattr(begun, name):
                    yield _differs(entry, name, getattr(begun, name), getattr(entry, name))
            match entry.kind:
                case "settle":
                    yield from self._check_settlement(
                        entry, hold, note, free_tokens, begun.amount, claims
                    )
                case "expire" if entry.at < note.expires_at:
                    yield _differs(entry, "at", f"{note.expires_at} or later", entry.at)
                case "release" | "expire" if entry.amount:
                    yield _differs(entry, "amount", 0, entry.amount)

    def _check_settlement(
        self,
        entry: EntryRow,
        hold: Hold,
        note: HoldNote,
        free_tokens: int,
        reserved: int,
        claims: Claims,
    ) -> Iterator[Difference]:
        usage = Usage(
            prompt_tokens=entry.prompt_tokens,
            completion_tokens=entry.completion_tokens,
            cached_tokens=entry.cached_tokens,
            reasoning_tokens=entry.reasoning_tokens,
            cache_creation_tokens=entry.cache_creation_tokens,
            explicit_cache=entry.explicit_cache,
        )
        found_free = (entry.free_prompt_tokens, entry.free_completion_tokens)
        # How much more than the claim was left of the quota in that moment only the entry says.
        free_max = max(free_tokens, note.quota or 0)
        free_tokens = min(max(free_tokens, sum(found_free)), free_max)
        try:
            amount, free = settlement(hold, usage, free_tokens)
        except ValueError as error:
            yield _differs(entry, "counts", "such as can be", str(error))
        else:
            if amount != entry.amount:
                yield _differs(entry, "amount", amount, entry.amount)
            if entry.amount > reserved:
                yield _differs(entry, "amount", f"at most the {reserved} held", entry.amount)
            if free != found_free:
                yield _differs(entry, "free tokens of prompt and completion", free, found_free)
        for scope, _ in claims:
            self._add(scope, spent=sum(found_free) if is_free_scope(scope) else entry.amount)

    def _count_free(self, life: list[EntryRow], note: HoldNote) -> None:
        if note.quota is None:
            return
        scope = _free_scope(life[0])
        self._quotas[scope] = max(note.quota, self._quotas.get(scope, 0))
        # What outlived its hold may have its claim beyond the quota, and what may be nothing but free all that it used.
        if [entry.kind for entry in life] == ["hold", "settle"] and not note.only_free:
            free = life[1].free_prompt_tokens + life[1].free_completion_tokens
            self._free_within[scope] = self._free_within.get(scope, 0) + free

    def _add(self, scope: str, granted: int = 0, spent: int = 0, held: int = 0) -> None:
        old = self._sums.get(scope) or FundsRow(scope)
        self._sums[scope] = FundsRow(
            scope, old.granted + granted, old.spent + spent, old.held + held
        )


def _rebuilt(entry: EntryRow, note: HoldNote, price: Price) -> Hold:
    """The hold that an entry tells of, as far as money depends on it."""
    return Hold(
        receipt=entry.receipt,
        account=entry.account,
        workspace=entry.workspace,
        key_id=entry.key_id,
        region=entry.region,
        model=entry.model,
        price=price,
        prompt_tokens=max(0, entry.prompt_tokens),
        completion_max=max(0, entry.completion_tokens),
        expires_at=note.expires_at,
        thinking=entry.thinking,
        explicit=entry.explicit_cache,
        free=FreeQuota(0, only=True) if note.only_free else None,
    )


def _claims(entry: EntryRow, note: HoldNote, free_tokens: int) -> Claims:
    claims = [(account_scope(entry.account), entry.amount)]
    claims += [(scope, entry.amount) for scope in note.budgets]
    if free_tokens or note.quota is not None:
        claims.append((_free_scope(entry), free_tokens))
    return tuple(claims)


def _free_scope(entry: EntryRow) -> str:
    return free_scope(entry.account, entry.region, entry.model)


def _check_row(row: HoldRow, claims: Claims, note: HoldNote) -> Iterator[Difference]:
    if row.expires_at != note.expires_at:
        yield Difference(row.receipt, "expires at", str(note.expires_at), str(row.expires_at))
    try:
        found: Mapping[str, int] | str = dict(read_claims(row.claims))
    except ValueError as error:
        found = str(error)
    if found != dict(claims):
        yield Difference(row.receipt, "claims", str(dict(claims)), str(found))


def _differs(entry: EntryRow, what: str, expected: object, found: object) -> Difference:
    return Difference(entry.receipt, f"{entry.kind}: {what}", str(expected), str(found))
