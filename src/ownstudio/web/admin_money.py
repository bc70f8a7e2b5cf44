"""Money in the admin API: what accounts paid in, what answers cost, what was used. Amounts are decimal text.

JSON has no exact decimal numbers, so an amount that is one is refused instead of rounded.
"""

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from ownstudio.accounts.directory import Directory
from ownstudio.accounts.rules import check_model_name
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.price_file import describe_terms
from ownstudio.billing.prices import NO_DISCOUNT, PERCENT_MAX, NewPrice, Price, PriceBook, Terms
from ownstudio.billing.statements import SUMS, Line, statement
from ownstudio.catalog import PriceTier, Region
from ownstudio.core.money import parse_amount, plain_amount
from ownstudio.store.database import Database
from ownstudio.store.ledger import DAY_S, entries_of
from ownstudio.web.admin_call import (
    AdminCall,
    Answer,
    Limit,
    PageQuery,
    Place,
    check_given_id,
    not_there,
    page,
    told,
)

_Amount = Annotated[str, Meta(max_length=40)]
_Note = Annotated[str, Meta(max_length=200)]
_Name = Annotated[str, Meta(max_length=128)]
_Time = Annotated[int, Meta(ge=0, le=2**40)]
_Percent = Annotated[int, Meta(ge=0, le=PERCENT_MAX)]


class PaymentForm(Struct, frozen=True, forbid_unknown_fields=True):
    amount: _Amount
    note: _Note = ""
    reference: _Note = ""


class TierForm(Struct, frozen=True, forbid_unknown_fields=True):
    """Per million tokens; `thinking` is output while the model thinks, by default as output."""

    input: _Amount
    output: _Amount
    thinking: _Amount | None = None
    upto: Annotated[int, Meta(ge=1, le=2**40)] | None = None

    def tier(self) -> PriceTier:
        output = parse_amount(self.output)
        thinking = output if self.thinking is None else parse_amount(self.thinking)
        return PriceTier(self.upto, parse_amount(self.input), output, thinking)


class CacheForm(Struct, frozen=True, forbid_unknown_fields=True):
    """In percent of the price of input."""

    implicit_hit: _Percent = NO_DISCOUNT
    explicit_hit: _Percent = NO_DISCOUNT
    creation: _Percent = NO_DISCOUNT


class PriceForm(Struct, frozen=True, forbid_unknown_fields=True):
    model: _Name
    region: Region
    tiers: Annotated[tuple[TierForm, ...], Meta(min_length=1, max_length=32)]
    cache: CacheForm = CacheForm()

    def price(self, currency: str) -> NewPrice:
        """Raises ValueError."""
        terms = Terms(
            tuple(tier.tier() for tier in self.tiers),
            implicit_hit=self.cache.implicit_hit,
            explicit_hit=self.cache.explicit_hit,
            creation=self.cache.creation,
        )
        return NewPrice(self.model, self.region, currency, terms)


class PricesForm(Struct, frozen=True, forbid_unknown_fields=True):
    """All of them are imported, or none."""

    prices: Annotated[tuple[PriceForm, ...], Meta(min_length=1, max_length=4096)]
    effective_from: _Time | None = None
    note: _Note = ""


class PricesQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    """`at` is the time at which the prices are in force, by default now."""

    model: _Name | None = None
    region: Region | None = None
    at: _Time | None = None


class UsageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`by` is what to tell apart, with commas between. `after` is how many lines were seen.

    `from` and `to` are Unix seconds or days (UTC) such as 2026-11-23, the last of them all of it; by default this month
    until now.
    """

    by: _Name = ""
    since: _Name | None = msgspec.field(default=None, name="from")
    until: _Name | None = msgspec.field(default=None, name="to")
    account: _Name | None = None
    workspace: _Name | None = None
    key: _Name | None = None
    region: Region | None = None
    model: _Name | None = None
    limit: Limit = 100
    after: Annotated[int, Meta(ge=0, le=2**40)] = 0

    def filters(self) -> dict[str, str]:
        """Raises StudioError for what cannot be an id or a name."""
        ids = {"account": self.account, "workspace": self.workspace, "key": self.key}
        for word, value in ids.items():
            if value is not None:
                check_given_id(word, value)
        if self.model is not None:
            with told("model"):
                check_model_name(self.model)
        given = {**ids, "region": self.region, "model": self.model}
        return {name: value for name, value in given.items() if value is not None}


class MoneyPages:
    """Each method answers one row of the table."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        ledger: Ledger,
        prices: PriceBook,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._directory = directory
        self._ledger = ledger
        self._prices = prices
        self._now = now

    def places(self) -> Iterable[Place]:
        return (
            Place("/accounts/{account}/payments", "admin-payments", {"POST": self.pay}),
            Place("/accounts/{account}/balance", "admin-balance", {"GET": self.balance}),
            Place("/prices", "admin-prices", {"GET": self.list_prices, "POST": self.import_prices}),
            Place("/usage", "admin-usage", {"GET": self.usage}),
            Place("/ledger/{receipt}", "admin-receipt", {"GET": self.receipt}),
        )

    async def pay(self, call: AdminCall) -> Answer:
        account_id = call.id("account")
        form = await call.body(PaymentForm)
        with told("amount"):
            amount = parse_amount(form.amount)
        async with call.change("account.pay", account_id) as change:
            # The ledger would take money for an account that does not exist.
            await self._directory.account(account_id)
            receipt, new = await self._ledger.top_up(account_id, amount, form.note, form.reference)
            change.detail |= {"receipt": receipt, "new": new}
        return 201 if new else 200, {"receipt": receipt, "amount": plain_amount(amount)}

    async def balance(self, call: AdminCall) -> Answer:
        account_id = call.id("account")
        with told("account"):
            await self._directory.account(account_id)
        funds = await self._ledger.balance(account_id)
        return 200, {
            "account": account_id,
            "currency": self._prices.currency,
            "paid": plain_amount(funds.granted),
            "spent": plain_amount(funds.spent),
            "held": plain_amount(funds.held),
            "balance": plain_amount(funds.granted - funds.spent),
            "available": plain_amount(funds.granted - funds.spent - funds.held),
        }

    async def list_prices(self, call: AdminCall) -> Answer:
        asked = call.query(PricesQuery)
        await self._prices.refresh()
        found = [
            price
            for price in self._prices.in_force(self._now() if asked.at is None else asked.at)
            if asked.model in (None, price.model) and asked.region in (None, price.region)
        ]
        return 200, page(found, asked, self._show_price)

    async def import_prices(self, call: AdminCall) -> Answer:
        form = await call.body(PricesForm)
        currency = self._prices.currency
        rows = []
        for position, one in enumerate(form.prices):
            with told(f"prices[{position}]"):
                rows.append(one.price(currency))
        async with call.change("prices.import"):
            made = await self._prices.import_prices(rows, form.effective_from, form.note)
        return 201, {"data": [self._show_price(price) for price in made]}

    async def usage(self, call: AdminCall) -> Answer:
        asked = call.query(UsageQuery)
        now = int(self._now())
        month = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-01")
        since = _time("from", asked.since or month)
        until = _time("to", asked.until or str(now + 1), whole_day=True)
        filters = asked.filters()
        with told("by"):
            names = [name for name in asked.by.split(",") if name]
            found = await statement(self._database, names, since, until, filters)
        part = found.lines[asked.after : asked.after + asked.limit]
        seen = asked.after + len(part)
        return 200, {
            "from": found.since,
            "to": found.until,
            "currency": self._prices.currency,
            "total": _show_line(found.total),
            "data": [line.group | _show_line(line) for line in part],
            "next": str(seen) if seen < len(found.lines) else None,
        }

    async def receipt(self, call: AdminCall) -> Answer:
        receipt = call.id("receipt")
        async with self._database.snapshot() as connection:
            entries = await entries_of(connection, receipt)
        if not entries:
            raise not_there(f"there is no entry of {receipt}", "receipt")
        return 200, {
            "data": [asdict(entry) | {"amount": plain_amount(entry.amount)} for entry in entries]
        }

    def _show_price(self, price: Price) -> dict[str, object]:
        return {
            "id": price.id,
            "model": price.model,
            "region": price.region,
            "currency": price.currency,
            "effective_from": price.effective_from,
            "origin": self._prices.origin(price),
            **describe_terms(price.terms),
        }


def _show_line(line: Line) -> dict[str, object]:
    return {
        name: plain_amount(line.amount) if name == "amount" else getattr(line, name)
        for name in SUMS
    }


def _time(name: str, text: str, *, whole_day: bool = False) -> int:
    """Unix seconds of what a query gives; a day is its first second or, `whole_day`, that after its last.

    Raises StudioError.
    """
    if re.fullmatch("[0-9]{1,12}", text):
        return int(text)
    with told(name):
        if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(f"{text!r} is neither Unix seconds nor a day such as 2026-11-23")
        start = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    return start + DAY_S if whole_day else start
