"""Goal: statements add up exactly, in both databases, however they are told apart."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ownstudio.billing.funds import FreeQuota
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.statements import SUMS, Line, Statement, statement
from ownstudio.core.events import Usage
from ownstudio.store.database import Database, sqlite_url
from support.money import FREE, PRICED, START, Clock, hold, put_prices

DAY_S = 86_400
FOREVER = (0, 2**40)


class Place(NamedTuple):
    database: Database
    ledger: Ledger
    clock: Clock

    async def use(self, usage: Usage, **changes: object) -> None:
        held = await self.ledger.hold(hold(**changes))  # type: ignore[arg-type]
        await self.ledger.settle(held, usage, "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    url = sqlite_url(tmp_path / "o.db")
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database()
    database, clock = await Database.open(url), Clock()
    await put_prices(database)
    ledger = Ledger.open(database, url, now=clock)
    yield Place(database, ledger, clock)
    await ledger.close()
    await database.close()


async def write_some(place: Place) -> None:
    await place.use(Usage(100, 20, cached_tokens=40, reasoning_tokens=7))
    await place.use(Usage(100, 30), free=FreeQuota(60))
    await place.use(Usage(10, 5), price=FREE, key_id="key-2")
    place.clock.seconds += DAY_S
    explicit = Usage(100, 1, cache_creation_tokens=50, explicit_cache=True)
    await place.use(explicit, account="lab", workspace="bench", explicit=True)
    # None of these is in any statement.
    await place.ledger.hold(hold())
    await place.ledger.release(await place.ledger.hold(hold()), "failed")
    await place.ledger.top_up("shop", 5)


async def test_grouped_by_nothing_there_is_the_total_alone(place: Place):
    await write_some(place)
    found = await statement(place.database, [], *FOREVER)
    amount = 60_000 + 40 * 200 + 80_000 + 40_000 + 120_000 + 50_000 + 50 * 1250 + 4_000
    assert found == Statement(*FOREVER, (), Line({}, 4, 310, 40, 50, 56, 7, 60, amount))


async def test_each_way_to_tell_apart_adds_up_to_the_same_total(place: Place):
    await write_some(place)
    whole = (await statement(place.database, [], *FOREVER)).total
    for by, groups in (
        (["account"], [{"account": "lab"}, {"account": "shop"}]),
        (["workspace"], [{"workspace": "bench"}, {"workspace": "till"}]),
        (["key"], [{"key": "key-1"}, {"key": "key-2"}]),
        (["region"], [{"region": "local"}]),
        (["model"], [{"model": "gratis"}, {"model": "tiered"}]),
        (["day"], [{"day": "2025-11-23"}, {"day": "2025-11-24"}]),
        (
            ["day", "model"],
            [
                {"day": "2025-11-23", "model": "gratis"},
                {"day": "2025-11-23", "model": "tiered"},
                {"day": "2025-11-24", "model": "tiered"},
            ],
        ),
    ):
        found = await statement(place.database, by, *FOREVER)
        assert [line.group for line in found.lines] == groups
        assert found.total == whole
        for name in SUMS:
            assert sum(getattr(line, name) for line in found.lines) == getattr(whole, name)


async def test_a_name_given_twice_counts_once(place: Place):
    await write_some(place)
    twice = await statement(place.database, ["model", "model"], *FOREVER)
    assert twice == await statement(place.database, ["model"], *FOREVER)


async def test_only_what_was_settled_in_the_time_and_fits_the_filters_counts(place: Place):
    await write_some(place)
    later = START + DAY_S
    assert (await statement(place.database, [], later, later + 1)).total.requests == 1
    assert (await statement(place.database, [], START, later)).total.requests == 3
    assert (await statement(place.database, ["day"], later + 1, 2**40)).lines == ()
    for filters, requests in (
        ({"account": "shop"}, 3),
        ({"account": "shop", "key": "key-2"}, 1),
        ({"model": "tiered"}, 3),
        ({"workspace": "bench"}, 1),
        ({"region": "virginia"}, 0),
    ):
        found = await statement(place.database, ["day"], *FOREVER, filters)
        assert found.total.requests == requests


async def test_sums_beyond_what_a_float_can_hold_are_exact(place: Place):
    dear = 10**15 + 1
    for _ in range(3):
        held = await place.ledger.hold(hold(PRICED, prompt_tokens=dear))
        await place.ledger.settle(held, Usage(dear, 0), "stop")
    (line,) = (await statement(place.database, ["account"], *FOREVER)).lines
    assert line.prompt_tokens == 3 * dear
    assert line.amount == 3 * dear * 2000


@pytest.mark.parametrize(
    ("by", "filters"), [(["price"], {}), (["key_id"], {}), ([], {"day": "x"}), ([], {"note": "x"})]
)
async def test_what_cannot_be_told_apart_is_named(
    place: Place, by: list[str], filters: dict[str, str]
):
    with pytest.raises(ValueError, match="is not one of account, workspace, key, region, model"):
        await statement(place.database, by, *FOREVER, filters)
