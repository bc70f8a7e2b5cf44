"""Goal: every price that ever held stays known, the catalogue never overrules the operator, and processes agree."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, update

from ownstudio.billing.prices import (
    FREE,
    NOTE_MAX,
    PRICE_MAX,
    NewPrice,
    Price,
    PriceBook,
    Published,
    Terms,
    published_prices,
)
from ownstudio.catalog import (
    CachePercents,
    DeploymentRoutes,
    Offer,
    PriceTier,
    load_catalog,
    read_entries,
)
from ownstudio.catalog.terms import REGIONS
from ownstudio.settings import SettingsError
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.directory import StoreError
from ownstudio.store.schema import entries as entries_table
from ownstudio.store.schema import prices as prices_table
from support.servers import Postgres

START = 1_800_000_000
DAY = 86_400


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.time = float(START)

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "o.db")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.database()
    opened = await Database.open(url)
    yield opened
    await opened.close()


def terms(dollars: int) -> Terms:
    nanos = dollars * 10**9
    return Terms((PriceTier(None, nanos, 5 * nanos, 7 * nanos),), 20, 10, 125)


def imported(dollars: int, model: str = "m", region: str = "local") -> NewPrice:
    return NewPrice(model, region, "USD", terms(dollars))


async def opened(
    database: Database, clock: Clock, published: Iterable[Published] = (), currency: str = "USD"
) -> PriceBook:
    book = PriceBook(database, currency, now=clock)
    await book.load(published)
    return book


def shown(price: Price) -> tuple[str, int, Terms]:
    return price.model, price.effective_from, price.terms


async def test_what_the_catalogue_publishes_holds_from_the_beginning_and_is_written_once(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    published = [("m", "local", terms(1)), ("m", "beijing", terms(2))]
    book = await opened(database, clock, published)
    assert shown(book.price("m", "local", 0)) == ("m", 0, terms(1))
    assert shown(book.price("m", "beijing", START)) == ("m", 0, terms(2))
    monkeypatch.setattr(Database, "transaction", None)
    again = await opened(database, clock, published)
    assert again.in_force(START) == book.in_force(START)
    assert again.price("m", "local", START).currency == "USD"


async def test_a_model_without_a_price_falls_back_on_the_price_of_all(
    database: Database, clock: Clock
):
    book = await opened(database, clock, [("m", "singapore", terms(1))])
    assert shown(book.price("my-own", "singapore", START)) == ("*", 0, FREE)
    assert shown(book.price("m", "local", START)) == ("*", 0, FREE)
    await book.import_prices([imported(3, "*")])
    assert book.price("my-own", "local", START).terms == terms(3)
    assert book.price("my-own", "singapore", START).terms == FREE
    with pytest.raises(LookupError, match="'mars'"):
        book.price("m", "mars", START)


async def test_a_later_catalogue_takes_over_now_and_the_old_price_stays_on_record(
    database: Database, clock: Clock
):
    before = await opened(database, clock, [("m", "local", terms(1))])
    clock.time = START + 10.5
    book = await opened(database, clock, [("m", "local", terms(2))])
    assert book.price("m", "local", START + 10) == before.price("m", "local", START)
    assert shown(book.price("m", "local", START + 11)) == ("m", START + 11, terms(2))
    assert book.by_id(before.price("m", "local", START).id) == before.price("m", "local", START)
    assert book.by_id(10**6) is None


async def test_a_catalogue_takes_over_also_where_the_clock_was_put_back(
    database: Database, clock: Clock
):
    await opened(database, clock, [("m", "local", terms(1))])
    clock.time = START + DAY
    await opened(database, clock, [("m", "local", terms(2))])
    clock.time = START
    book = await opened(database, clock, [("m", "local", terms(3))])
    assert shown(book.price("m", "local", START + DAY)) == ("m", START + DAY, terms(3))
    written = await _count(database)
    await opened(database, clock, [("m", "local", terms(3))])
    assert await _count(database) == written


async def _count(database: Database) -> int:
    book = PriceBook(database, "USD")
    return await book.refresh()


async def test_a_model_that_joins_the_catalogue_later_changes_no_bill_already_made(
    database: Database, clock: Clock
):
    await opened(database, clock)
    clock.time = START + DAY
    book = await opened(database, clock, [("m", "local", terms(1))])
    assert book.price("m", "local", START + DAY - 1).model == "*"
    assert shown(book.price("m", "local", START + DAY)) == ("m", START + DAY, terms(1))


async def test_an_imported_price_is_never_replaced_by_the_catalogue(
    database: Database, clock: Clock
):
    book = await opened(database, clock, [("m", "local", terms(1))])
    await book.import_prices([imported(5)], note="prices.toml")
    clock.time = START + DAY
    book = await opened(database, clock, [("m", "local", terms(2)), ("n", "local", terms(2))])
    assert book.price("m", "local", clock.time).terms == terms(5)
    assert book.origin(book.price("m", "local", clock.time)) == "import: prices.toml"
    assert book.origin(book.price("n", "local", clock.time)) == "catalogue"


async def test_an_import_holds_from_its_date_and_the_last_of_two_at_once_wins(
    database: Database, clock: Clock
):
    book = await opened(database, clock, [("m", "local", terms(1))])
    await book.import_prices([imported(7)], START + DAY)
    await book.import_prices([imported(8)], START + DAY)
    await book.import_prices([imported(5)], START + 10)
    for at, dollars in ((START + 9, 1), (START + 10, 5), (START + DAY - 1, 5), (START + DAY, 8)):
        assert book.price("m", "local", at).terms == terms(dollars)
    later = await opened(database, clock, [("m", "local", terms(1))])
    assert later.price("m", "local", START + 2 * DAY).terms == terms(8)


async def test_an_import_without_a_date_holds_from_the_second_that_begins_next(
    database: Database, clock: Clock
):
    book = await opened(database, clock)
    clock.time = START + 0.25
    added = await book.import_prices([imported(5)])
    assert [shown(price) for price in added] == [("m", START + 1, terms(5))]


async def test_what_another_process_adds_counts_after_a_refresh(database: Database, clock: Clock):
    here = await opened(database, clock)
    there = await opened(database, clock)
    await there.import_prices([imported(5), imported(6, "n")])
    assert here.price("m", "local", START).terms == FREE
    assert await here.refresh() == 2
    assert here.price("m", "local", START) == there.price("m", "local", START)
    assert await here.refresh() == 0
    await there.import_prices([imported(7, "o")])
    assert sum(await asyncio.gather(*(here.refresh() for _ in range(4)))) == 1


async def test_processes_that_add_at_once_lose_nothing_and_write_nothing_twice(
    database: Database, clock: Clock
):
    published = [(f"m{number}", "local", terms(number)) for number in range(50)]
    books = await asyncio.gather(*(opened(database, clock, published) for _ in range(4)))
    assert await _count(database) == len(published) + len(REGIONS)
    await asyncio.gather(
        *(book.import_prices([imported(9, f"own{n}")]) for n, book in enumerate(books))
    )
    await asyncio.gather(*(book.refresh() for book in books for _ in range(2)))
    assert await _count(database) == len(published) + len(REGIONS) + len(books)
    for book in books:
        assert book.in_force(START) == books[0].in_force(START)
        for number in range(len(books)):
            assert book.price(f"own{number}", "local", START).terms == terms(9)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no price to import"),
        ([NewPrice("m", "local", "CNY", terms(1))], "in CNY, but this server's currency is USD"),
        ([imported(1), imported(1, region="mars")], r"price 2 \('m' in 'mars'\): the regions are"),
        ([imported(1), imported(2)], r"price 2 \('m' in 'local'\): .* earlier row"),
        ([imported(1, "")], "a model's name"),
        ([imported(1, "m" * 129)], "a model's name"),
        ([imported(1, "m\n")], "a model's name"),
    ],
)
async def test_rows_that_make_no_sense_are_refused_together_with_the_rest(
    tmp_path: Path, clock: Clock, rows: list[NewPrice], message: str
):
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    book = await opened(database, clock)
    with pytest.raises(ValueError, match=message):
        book.check_import(rows)
    with pytest.raises(ValueError, match=message):
        await book.import_prices(rows)
    assert await _count(database) == len(REGIONS)
    await database.close()


async def test_the_past_and_a_long_note_are_refused(tmp_path: Path, clock: Clock):
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    book = await opened(database, clock)
    clock.time = START + 0.5
    with pytest.raises(ValueError, match="in the past"):
        await book.import_prices([imported(1)], START)
    with pytest.raises(ValueError, match="note"):
        await book.import_prices([imported(1)], note="n" * (NOTE_MAX + 1))
    await book.import_prices([imported(1)], START + 1, note="n" * NOTE_MAX)
    await database.close()


async def test_a_database_keeps_the_currency_in_which_something_was_booked(
    database: Database, clock: Clock
):
    await opened(database, clock, [("m", "local", terms(1))])
    euros = await opened(database, clock, [("m", "local", terms(2))], currency="EUR")
    assert shown(euros.price("m", "local", 0)) == ("m", 0, terms(2))
    assert euros.price("other", "local", 0).currency == "EUR"
    async with database.transaction() as connection:
        values = {"receipt": "r", "kind": "pay", "at": 1, "account": "default", "amount": 5}
        await connection.execute(insert(entries_table).values(values))
    await opened(database, clock, [("m", "local", terms(3))], currency="EUR")
    with pytest.raises(StoreError, match="its accounts in EUR, but"):
        await opened(database, clock)


@pytest.mark.parametrize("text", ["{}", "[", '{"tiers": []}'])
async def test_a_price_that_cannot_be_read_stops_the_start(tmp_path: Path, clock: Clock, text: str):
    database = await Database.open(sqlite_url(tmp_path / "o.db"))
    await opened(database, clock)
    async with database.transaction() as connection:
        await connection.execute(update(prices_table).values(terms=text))
    with pytest.raises(StoreError, match="price 1 in the database cannot be read"):
        await opened(database, clock)
    await database.close()


TIER = PriceTier(None, 1, 1, 1)


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ((), "at least one tier"),
        ((TIER, TIER), "do not ascend"),
        ((PriceTier(5, 1, 1, 1), PriceTier(5, 1, 1, 1)), "do not ascend"),
        ((PriceTier(0, 1, 1, 1),), "ends at 0 tokens"),
        ((PriceTier(None, -1, 1, 1),), "a price is -1"),
        ((PriceTier(None, 1, PRICE_MAX + 1, 1),), "a price is 1000000000000001"),
        ((PriceTier(None, 1, 1, -1),), "a price is -1"),
    ],
)
def test_terms_that_make_no_sense_cannot_be_made(tiers: tuple[PriceTier, ...], message: str):
    with pytest.raises(ValueError, match=message):
        Terms(tiers)


@pytest.mark.parametrize("field", ["implicit_hit", "explicit_hit", "creation"])
@pytest.mark.parametrize("percent", [-1, 1001])
def test_a_percentage_that_makes_no_sense_cannot_be_made(field: str, percent: int):
    with pytest.raises(ValueError, match=f"at {percent} %"):
        msgspec.structs.replace(FREE, **{field: percent})


def published_as(local_prices: str, currency: str = "USD") -> dict[tuple[str, str], Terms]:
    """The whole catalogue, by model and region."""
    found = published_prices(read_entries().values(), currency, local_prices)
    return {(model, region): each for model, region, each in found}


def test_the_catalogue_gives_terms_to_every_model_in_every_region_that_offers_it():
    entries = read_entries()
    found = published_as("none")
    assert set(found) == {
        (entry.name, offer.region) for entry in entries.values() for offer in entry.offers
    }
    coder = found["qwen3-coder-plus", "singapore"]
    assert coder.tiers[0] == PriceTier(32_000, 10**9, 5 * 10**9, 5 * 10**9)
    assert (coder.implicit_hit, coder.explicit_hit, coder.creation) == (20, 10, 125)
    assert found["qwen3-coder-plus", "local"] == FREE


def test_a_cache_that_is_not_offered_gives_no_discount():
    entry = read_entries()["qwen3-coder-plus"]

    def percents(cache: CachePercents | None) -> tuple[int, int, int]:
        changed = msgspec.structs.replace(entry, cache=cache)
        found = {region: each for _, region, each in published_prices([changed], "USD")}
        singapore = found["singapore"]
        return singapore.implicit_hit, singapore.explicit_hit, singapore.creation

    assert percents(None) == (100, 100, 100)
    assert percents(CachePercents(implicit_hit=20)) == (20, 100, 100)
    assert percents(CachePercents(explicit_hit=0, creation=125)) == (100, 0, 125)


def test_the_local_region_takes_over_the_prices_that_it_is_told_to():
    found = published_as("beijing")
    assert found["qwen3-coder-plus", "local"] == found["qwen3-coder-plus", "beijing"]
    only_elsewhere = [
        entry.name
        for entry in read_entries().values()
        if "beijing" not in {offer.region for offer in entry.offers}
    ]
    assert only_elsewhere
    assert {found[name, "local"] for name in only_elsewhere} == {FREE}


def test_prices_in_another_currency_are_never_taken_for_ones_in_ours():
    found = published_as("none", "CNY")
    assert ("qwen3-coder-plus", "singapore") not in found
    assert {each for (_, region), each in found.items() if region == "local"} == {FREE}
    with pytest.raises(SettingsError, match=r"billing.local_prices is 'beijing'.*in USD"):
        published_as("beijing", "CNY")


def test_a_deployments_own_name_is_free_everywhere():
    catalog = load_catalog([DeploymentRoutes("mine", (), 4096, 0)])
    assert all(isinstance(offer, Offer) for offer in catalog.resolve("mine").offers)
    found = list(published_prices(catalog.models(), "USD", "singapore"))
    assert found == [("mine", region, FREE) for region in REGIONS]


async def test_the_whole_catalogue_is_put_on_record_and_read_again(
    database: Database, clock: Clock
):
    found = published_as("singapore")
    book = await opened(database, clock, ((*key, each) for key, each in found.items()))
    again = await opened(database, clock)
    for (model, region), each in found.items():
        assert book.price(model, region, START).terms == each
        assert again.price(model, region, START) == book.price(model, region, START)
