"""Ledgers for tests: prices on record, holds that differ in what matters, and a look at the tables past our code."""

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from ownstudio.billing.ledger import Hold
from ownstudio.billing.prices import Price, Terms
from ownstudio.catalog import PriceTier
from ownstudio.store import prices as table
from ownstudio.store.database import Database

START = 1_763_900_000
DOLLAR = 10**9

# Tokens of these prices cost round numbers: 1,000 and 4,000 nano-units, twice that in the second tier.
TIERED = Terms(
    (
        PriceTier(1000, 1000 * 10**6, 4000 * 10**6, 8000 * 10**6),
        PriceTier(None, 2000 * 10**6, 8000 * 10**6, 8000 * 10**6),
    ),
    implicit_hit=20,
    explicit_hit=10,
    creation=125,
)
GRATIS = Terms((PriceTier(None, 0, 0, 0),))
CURRENCY = "USD"

PRICED = Price(1, "tiered", "local", 0, CURRENCY, TIERED)
FREE = Price(2, "gratis", "local", 0, CURRENCY, GRATIS)

_numbers = itertools.count()


class Clock:
    """Unix seconds that stand still until a test turns them."""

    def __init__(self, seconds: float = START) -> None:
        self.seconds = float(seconds)

    def __call__(self) -> float:
        return self.seconds


async def put_prices(database: Database, *prices: Price) -> None:
    """Put prices on record: those that `hold` uses, unless others are named."""
    rows = [
        table.PriceRow(
            id=price.id,
            model=price.model,
            region=price.region,
            effective_from=price.effective_from,
            currency=price.currency,
            terms=msgspec.json.encode(price.terms).decode(),
            origin="test",
            created_at=START,
        )
        for price in prices or (PRICED, FREE)
    ]
    async with database.transaction() as connection:
        await table.insert_prices(connection, rows)


def hold(price: Price = PRICED, **changes: Any) -> Hold:
    """A hold of 100 + 50 tokens, which at the first tier reserves 300,000 nano-units, under a receipt of its own."""
    values = {
        "receipt": f"receipt-{next(_numbers):08d}",
        "account": "shop",
        "workspace": "till",
        "key_id": "key-1",
        "region": price.region,
        "model": price.model,
        "price": price,
        "prompt_tokens": 100,
        "completion_max": 50,
        "expires_at": START + 600,
    }
    return Hold(**(values | changes))


def sql(path: Path, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What the database file says, past all our code; changes are committed."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()
