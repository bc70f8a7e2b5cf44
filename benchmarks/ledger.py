"""What the ledger adds to a request: a hold and a settlement on SQLite, one caller at a time and many at once.

The database is a file, in WAL mode, as a server has it. One caller waits for both commits of each of its requests; of
many at once the commits are shared, which the second figure shows.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.figures import Budget, Effort, Figure, Step
from ownstudio.billing.ledger import Hold, Ledger
from ownstudio.billing.prices import Price, Terms
from ownstudio.catalog import PriceTier
from ownstudio.core.events import Usage
from ownstudio.store.database import Database, sqlite_url

BUDGET = Budget(0.2, at_least=False)
REQUESTS_PER_TURN = 200
CALLERS = 64

TERMS = Terms((PriceTier(None, 10**9, 5 * 10**9, 5 * 10**9),), 20, 10, 125)
PRICE = Price(1, "qwen3-coder-plus", "local", 0, "USD", TERMS)
USAGE = Usage(prompt_tokens=500, completion_tokens=40)
EXPIRES_AT = 2**40


def steps(effort: Effort) -> int:
    return effort.turns


async def hold_and_settle(effort: Effort, step: Step) -> Sequence[Figure]:
    alone: list[float] = []
    together = 0.0
    with TemporaryDirectory(prefix="ownstudio-bench-") as directory:
        url = sqlite_url(Path(directory) / "ledger.db")
        database = await Database.open(url)
        ledger = Ledger.open(database, url)
        for turn in range(effort.turns):
            for number in range(REQUESTS_PER_TURN):
                begun = perf_counter()
                await _request(ledger, f"alone-{turn}-{number}")
                alone.append(perf_counter() - begun)
            begun = perf_counter()
            await asyncio.gather(
                *(_caller(ledger, f"{turn}-{caller}") for caller in range(CALLERS))
            )
            together += perf_counter() - begun
            step()
        await ledger.close()
        await database.close()
    requests = effort.turns * CALLERS * (REQUESTS_PER_TURN // CALLERS)
    return [
        Figure(
            row="ledger",
            what="hold and settle a request, one caller, p50",
            against="nothing",
            value=median(alone) * 1000,
            unit=" ms",
            budget=BUDGET,
            behind=f"{len(alone):,} requests; {requests / together:,.0f} a second with {CALLERS} callers",
        )
    ]


async def _caller(ledger: Ledger, name: str) -> None:
    for number in range(REQUESTS_PER_TURN // CALLERS):
        await _request(ledger, f"{name}-{number}")


async def _request(ledger: Ledger, receipt: str) -> None:
    held = await ledger.hold(
        Hold(
            receipt=receipt,
            account="default",
            workspace="default",
            key_id="key-1",
            region="local",
            model=PRICE.model,
            price=PRICE,
            prompt_tokens=USAGE.prompt_tokens,
            completion_max=1000,
            expires_at=EXPIRES_AT,
        )
    )
    await ledger.settle(held, USAGE, "stop")
