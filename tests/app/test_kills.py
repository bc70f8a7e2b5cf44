"""The gateway is killed with SIGKILL under load, at random moments, again and again; then every bill must be right.

`KILLS` says how often; a few in every run of the suite, fifty and more with `make test-kills`.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import msgspec
from sqlalchemy import func, select

from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.schema import entries, holds
from support.instance import ServedInstance
from support.servers import Postgres

KILLS = int(os.environ.get("KILLS", "3"))
CLIENTS = 6
DEADLINE_S = 5
SETTINGS = f"""
regions = ["local"]
[server]
request_deadline_s = {DEADLINE_S}
[billing]
local_prices = "singapore"
hold_margin_s = 1
[admin]
enabled = false
[deployments.ownstudio-tiny]
weights = "bundled"
routes = ["*"]
"""


class Received(msgspec.Struct):
    """What clients saw: receipts of answers that came whole, and of all that were begun."""

    whole: set[str] = msgspec.field(default_factory=set)
    begun: set[str] = msgspec.field(default_factory=set)
    unknown: int = 0  # requests that were cut off before they had a receipt


async def client(
    served: ServedInstance, session: aiohttp.ClientSession, chance: random.Random, seen: Received
) -> None:
    """Ask again and again until the server dies."""
    while True:
        body = {
            "model": "qwen-plus",
            "messages": [{"role": "user", "content": f"Tell me about {chance.randrange(999)}"}],
            "max_tokens": chance.randrange(1, 40),
            "stream": chance.random() < 0.5,
        }
        receipt = None
        try:
            async with session.post(f"{served.base_url}/chat/completions", json=body) as answer:
                receipt = answer.headers.get("x-ownstudio-receipt")
                if answer.status != 200:
                    continue
                assert receipt is not None
                seen.begun.add(receipt)
                data = await answer.read()
        except aiohttp.ClientError:
            seen.unknown += receipt is None
            return
        if body["stream"]:
            assert data.endswith(b"data: [DONE]\n\n"), data
        else:
            json.loads(data)
        seen.whole.add(receipt)


async def load_until_killed(served: ServedInstance, chance: random.Random, seen: Received) -> None:
    headers = {"authorization": f"Bearer {served.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        clients = [
            asyncio.ensure_future(client(served, session, chance, seen)) for _ in range(CLIENTS)
        ]
        await asyncio.sleep(chance.uniform(0.05, 1.5))
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        await asyncio.gather(*clients)


def test_every_whole_answer_is_billed_once_and_nothing_else_through_kills(tmp_path: Path):
    check(tmp_path, KILLS, "")


def test_the_same_on_postgresql(tmp_path: Path, postgres: Postgres):
    check(tmp_path, max(1, KILLS // 3), postgres.database())


def check(home: Path, kills: int, database_url: str) -> None:
    chance = random.Random(kills)
    seen = Received()
    settings = home / "kills.toml"
    settings.write_text(
        (f'database_url = "{database_url}"\n' if database_url else "") + SETTINGS, "utf-8"
    )
    served = ServedInstance(home, "--config", str(settings))
    for _ in range(kills):
        with contextlib.ExitStack() as stack:
            stack.callback(served.stop)
            served.start()
            asyncio.run(load_until_killed(served, chance, seen))
            stack.pop_all()
    # The last life: what the dead ones held is given back.
    with served:
        asyncio.run(asyncio.sleep(DEADLINE_S + 1 + 5))
    verified = subprocess.run(
        [sys.executable, "-m", "ownstudio", "ledger", "verify", "--config", str(settings)],
        env=served.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    url = database_url or sqlite_url(served.data / "ownstudio.db")
    billed, held, open_holds = asyncio.run(ledger(url))
    assert seen.whole, "no answer came whole: nothing was tested"
    assert seen.whole <= billed, "an answer that its client received whole is not billed"
    # A request under way when the server died may have been settled a moment before its last bytes were sent.
    assert len(billed - seen.whole) <= kills * CLIENTS
    assert held >= billed
    assert open_holds == 0, "a dead process still holds money"


async def ledger(url: str) -> tuple[set[str], set[str], int]:
    """The receipts that were settled, those that were held, and how many holds are open now."""
    database = await Database.open(url)
    async with database.snapshot() as connection:
        rows = (await connection.execute(select(entries.c.receipt, entries.c.kind))).all()
        open_holds = await connection.scalar(select(func.count()).select_from(holds))
    await database.close()
    settled = [receipt for receipt, kind in rows if kind == "settle"]
    assert len(settled) == len(set(settled))
    return set(settled), {receipt for receipt, kind in rows if kind == "hold"}, open_holds or 0
