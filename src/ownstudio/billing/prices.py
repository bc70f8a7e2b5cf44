"""Prices: what a model's tokens cost in a region, since when.

A price is never changed: a later row takes over at its `effective_from`, which is never in the past. So a bill can
always be made again. What the catalogue publishes becomes a row when a server first sees it, and a new one when a later
version publishes something else; a price that the operator imported is never replaced by the catalogue.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec
from msgspec import Struct

from ownstudio.catalog import CachePercents, Entry, Model, Offer, PriceTier
from ownstudio.catalog.terms import REGIONS
from ownstudio.core.money import NANOS
from ownstudio.settings.tree import SettingsError
from ownstudio.store import prices as table
from ownstudio.store.database import Database, retried
from ownstudio.store.directory import StoreError

# The row of all models of a region that have none of their own.
EVERY_MODEL = "*"

NO_DISCOUNT = 100
PERCENT_MAX = 1000
# A million units for a million tokens: no price is higher, so that no charge overflows 64 bits.
PRICE_MAX = 10**6 * NANOS

MODEL_MAX = 128
NOTE_MAX = 48

_CATALOGUE = "catalogue"
_IMPORT = "import"


class Terms(Struct, frozen=True):
    """What the tokens of one request cost. Amounts are nano-units per million tokens.

    One tier holds for all tokens of a request. Cached input is priced in percent of that tier's price of input:
    `implicit_hit` where it was found unasked, `explicit_hit` and `creation` for a marked block. Raises ValueError for
    tiers that do not ascend, and amounts below 0 or beyond sense.
    """

    tiers: tuple[PriceTier, ...]
    implicit_hit: int = NO_DISCOUNT
    explicit_hit: int = NO_DISCOUNT
    creation: int = NO_DISCOUNT

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError("a price has at least one tier")
        for lower, upper in pairwise(self.tiers):
            if lower.upto is None or (upper.upto is not None and upper.upto <= lower.upto):
                raise ValueError("the bounds of the price tiers do not ascend")
        for tier in self.tiers:
            if tier.upto is not None and tier.upto < 1:
                raise ValueError(f"a price tier ends at {tier.upto} tokens")
            for amount in (tier.input, tier.output, tier.thinking_output):
                if not 0 <= amount <= PRICE_MAX:
                    raise ValueError(f"a price is {amount}, not 0 to {PRICE_MAX} nano-units")
        for percent in (self.implicit_hit, self.explicit_hit, self.creation):
            if not 0 <= percent <= PERCENT_MAX:
                raise ValueError(f"cached input is priced at {percent} %, not 0 to {PERCENT_MAX} %")


class Price(Struct, frozen=True):
    """Terms in force from a time (Unix seconds) on, until another row of the model and region takes over."""

    id: int
    model: str
    region: str
    effective_from: int
    currency: str
    terms: Terms


# Models without a published price. Their percents are for whoever asks what a hit would save.
FREE = Terms((PriceTier(None, 0, 0, 0),), implicit_hit=20, explicit_hit=10, creation=125)

# A model's name, a region, and what it costs there.
Published = tuple[str, str, Terms]


class NewPrice(Struct, frozen=True):
    """A price that an operator sets; model "*" is for all models of the region that have no price of their own."""

    model: str
    region: str
    currency: str
    terms: Terms


def published_prices(
    models: Iterable[Model | Entry], currency: str, local_prices: str = "none"
) -> Iterator[Published]:
    """What the catalogue publishes for these models, in the shape that `PriceBook.load` takes.

    A model that a region offers without a price is free there. So is every model in the region `local`, unless
    `local_prices` names the region whose prices it takes over. Prices in another currency than the server's are left
    out; raises SettingsError where `local_prices` asks for them.
    """
    for model in models:
        for offer in model.offers:
            if offer.region == "local":
                yield model.name, "local", _local_terms(model, currency, local_prices)
            elif not offer.tiers or offer.currency == currency:
                yield model.name, offer.region, _terms(offer, model.cache)


def _local_terms(model: Model | Entry, currency: str, local_prices: str) -> Terms:
    offer = next((offer for offer in model.offers if offer.region == local_prices), None)
    if offer is None or local_prices == "none":
        return FREE
    if offer.tiers and offer.currency != currency:
        raise SettingsError(
            f"billing.local_prices is {local_prices!r}, whose prices are in {offer.currency}, but billing.currency is "
            f"{currency!r}: set local_prices to 'none' and import prices in {currency}"
        )
    return _terms(offer, model.cache)


def _terms(offer: Offer, cache: CachePercents | None) -> Terms:
    if not offer.tiers:
        return FREE
    percents = cache or CachePercents()
    return Terms(
        offer.tiers,
        implicit_hit=_percent(percents.implicit_hit),
        explicit_hit=_percent(percents.explicit_hit),
        creation=_percent(percents.creation),
    )


def _percent(published: int | None) -> int:
    return NO_DISCOUNT if published is None else published


class _Timeline:
    """The prices of one model in one region, by when they take over; of two at once the later row holds."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.prices: list[Price] = []

    def add(self, price: Price) -> None:
        place = bisect_right(self.starts, price.effective_from)
        self.starts.insert(place, price.effective_from)
        self.prices.insert(place, price)

    def at(self, time_s: float) -> Price | None:
        place = bisect_right(self.starts, time_s)
        return self.prices[place - 1] if place else None


class PriceBook:
    """All prices of one database, held in memory. `now` is a clock in Unix seconds.

    `load` comes first. Another process's prices count here after the next `refresh`, of which each costs one query.
    """

    def __init__(
        self, database: Database, currency: str, *, now: Callable[[], float] = time.time
    ) -> None:
        self.currency = currency
        self._database = database
        self._now = now
        self._timelines: dict[tuple[str, str], _Timeline] = {}
        self._prices: dict[int, Price] = {}
        self._origins: dict[int, str] = {}
        self._last_id = 0

    async def load(self, published: Iterable[Published]) -> None:
        """Read all prices, and put on record what the catalogue publishes and the database does not know yet.

        Raises StoreError, also where the database keeps money in another currency.
        """
        wanted = (*published, *((EVERY_MODEL, region, FREE) for region in REGIONS))
        async with self._database.snapshot() as connection:
            self._take_in(await table.prices_since(connection, self._last_id))
            last = self._prices.get(self._last_id)
            if (
                last is not None
                and last.currency != self.currency
                and await table.any_entry(connection)
            ):
                raise StoreError(
                    f"the database keeps its accounts in {last.currency}, but billing.currency is {self.currency!r}: "
                    "a ledger has one currency for good, another one needs another database"
                )
        if any(self._differs(*each) for each in wanted):
            await self._add(lambda: self._catalogue_rows(wanted))

    async def refresh(self) -> int:
        """Take in what another process has added since; returns how many prices that were. Raises StoreError."""
        async with self._database.snapshot() as connection:
            return self._take_in(await table.prices_since(connection, self._last_id))

    async def import_prices(
        self, rows: Sequence[NewPrice], effective_from: int | None = None, note: str = ""
    ) -> list[Price]:
        """Add an operator's prices, in force from a time (Unix seconds) on, None: from now on.

        Raises ValueError for what `check_import` refuses, StoreError.
        """

        def make() -> list[table.PriceRow]:
            # Here and not before, for the database may have let this wait while bills were made.
            self.check_import(rows, effective_from, note)
            start = math.ceil(self._now()) if effective_from is None else effective_from
            origin = f"{_IMPORT}: {note}" if note else _IMPORT
            return [self._row(new, start, origin) for new in rows]

        return await self._add(make)

    def check_import(
        self, rows: Sequence[NewPrice], effective_from: int | None = None, note: str = ""
    ) -> None:
        """Raises ValueError, naming the row at fault, for prices that may not be imported."""
        if effective_from is not None and effective_from < self._now():
            raise ValueError(
                "a price cannot take effect in the past: what was billed since would be wrong"
            )
        if len(note) > NOTE_MAX or not note.isprintable():
            raise ValueError(f"the note of an import is at most {NOTE_MAX} printable characters")
        seen = set()
        for position, new in enumerate(rows, start=1):
            where = f"price {position} ({new.model!r} in {new.region!r})"
            if not 1 <= len(new.model) <= MODEL_MAX or not new.model.isprintable():
                raise ValueError(
                    f"{where}: a model's name is 1 to {MODEL_MAX} printable characters"
                )
            if new.region not in REGIONS:
                raise ValueError(f"{where}: the regions are {', '.join(REGIONS)}")
            if new.currency != self.currency:
                raise ValueError(
                    f"{where}: the price is in {new.currency}, but this server's currency is {self.currency}"
                )
            if (new.model, new.region) in seen:
                raise ValueError(f"{where}: the same model and region stand in an earlier row")
            seen.add((new.model, new.region))
        if not seen:
            raise ValueError("there is no price to import")

    def price(self, model: str, region: str, at: float) -> Price:
        """The price in force at a time. Raises LookupError for a region without any price."""
        timeline = self._timelines.get((model, region))
        found = None if timeline is None else timeline.at(at)
        if found is not None:
            return found
        default = self._timelines.get((EVERY_MODEL, region))
        found = None if default is None else default.at(at)
        if found is None:
            raise LookupError(f"there are no prices in the region {region!r}")
        return found

    def by_id(self, price_id: int) -> Price | None:
        """The price that an entry of the ledger names."""
        return self._prices.get(price_id)

    def origin(self, price: Price) -> str:
        """Where a price came from: "catalogue", or "import" with its note."""
        return self._origins[price.id]

    def in_force(self, at: float) -> list[Price]:
        """The price of every model and region that has one of its own at a time, by name."""
        found = (self._timelines[key].at(at) for key in sorted(self._timelines))
        return [price for price in found if price is not None]

    def _take_in(self, rows: Iterable[table.PriceRow]) -> int:
        # Somebody else's look may have brought the same rows while this one waited for the database.
        new = [row for row in rows if row.id > self._last_id]
        for row in new:
            price = _price(row)
            self._last_id = row.id
            self._prices[row.id] = price
            self._origins[row.id] = row.origin
            if row.currency == self.currency:
                self._timelines.setdefault((row.model, row.region), _Timeline()).add(price)
        return len(new)

    def _differs(self, model: str, region: str, terms: Terms) -> bool:
        """Whether the catalogue's word is news, and not for the operator to say."""
        timeline = self._timelines.get((model, region))
        if timeline is None:
            return True
        newest = timeline.prices[-1]
        return newest.terms != terms and self.origin(newest) == _CATALOGUE

    def _catalogue_rows(self, wanted: Iterable[Published]) -> list[table.PriceRow]:
        return [
            self._row(
                NewPrice(model, region, self.currency, terms),
                self._catalogue_start(model, region),
                _CATALOGUE,
            )
            for model, region, terms in wanted
            if self._differs(model, region, terms)
        ]

    def _catalogue_start(self, model: str, region: str) -> int:
        """All of time for the first prices of a region. For later ones from now on: until now another price held, if
        only that of all models; and never before what they replace, whatever the clock says."""
        if (EVERY_MODEL, region) not in self._timelines:
            return 0
        timeline = self._timelines.get((model, region))
        return max(math.ceil(self._now()), timeline.starts[-1] if timeline else 0)

    def _row(self, new: NewPrice, effective_from: int, origin: str) -> table.PriceRow:
        """A row without its id, which it gets in the transaction that adds it."""
        return table.PriceRow(
            id=0,
            model=new.model,
            region=new.region,
            effective_from=effective_from,
            currency=new.currency,
            terms=msgspec.json.encode(new.terms).decode(),
            origin=origin,
            created_at=int(self._now()),
        )

    async def _add(self, make: Callable[[], list[table.PriceRow]]) -> list[Price]:
        """Add what `make` makes of all that is known in the transaction that adds it."""

        async def attempt() -> list[table.PriceRow]:
            async with self._database.transaction() as connection:
                self._take_in(await table.prices_since(connection, self._last_id))
                rows = [
                    msgspec.structs.replace(row, id=price_id)
                    for price_id, row in enumerate(make(), start=self._last_id + 1)
                ]
                if rows:
                    await table.insert_prices(connection, rows)
            return rows

        rows = await retried(attempt)
        self._take_in(rows)
        return [self._prices[row.id] for row in rows]


def _price(row: table.PriceRow) -> Price:
    try:
        terms = msgspec.json.decode(row.terms, type=Terms)
    except msgspec.ValidationError as error:
        raise StoreError(f"price {row.id} in the database cannot be read: {error}") from error
    return Price(row.id, row.model, row.region, row.effective_from, row.currency, terms)
