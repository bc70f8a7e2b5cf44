"""Two gateways on one PostgreSQL and one Redis, and what happens when either of these goes away under load."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from ownstudio.store.database import Database
from ownstudio.store.schema import entries
from support.instance import ServedInstance
from support.servers import Postgres, Redis

CHAT = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
BACK_S_MAX = 30.0

# The status and the headers of an answer.
Told = tuple[int, Mapping[str, str]]


class Pair:
    """Two servers on one database, and a client of both."""

    def __init__(self, stack: ExitStack, tmp_path: Path, url: str, redis_url: str) -> None:
        self.url = url
        self.settings = tmp_path / "pair.toml"
        self.settings.write_text(
            f'database_url = "{url}"\nredis_url = "{redis_url}"\n'
            '[billing]\nlocal_prices = "singapore"\n'
            "[limits]\nper_second = false\n",
            "utf-8",
        )
        self.servers: list[ServedInstance] = []
        for name in ("one", "two"):
            served = ServedInstance(tmp_path / name, "--config", str(self.settings))
            self.servers.append(stack.enter_context(served))

    def command(self, *words: str) -> str:
        """What `ownstudio …` prints, run beside the servers."""
        done = subprocess.run(
            [sys.executable, "-m", "ownstudio", *words, "--config", str(self.settings)],
            env=self.servers[0].environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def key(self, *options: str) -> str:
        return self.command("key", "create", *options)

    async def ask(self, key: str, times: int) -> list[Told]:
        """Statuses and headers of so many requests at once, to one server and the other in turn."""
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:

            async def one(number: int) -> Told:
                url = f"{self.servers[number % 2].base_url}/chat/completions"
                async with session.post(url, json=CHAT) as answer:
                    await answer.read()
                    return answer.status, answer.headers

            return await asyncio.gather(*(one(number) for number in range(times)))

    def statuses(self, key: str, times: int = 2) -> list[int]:
        return sorted(status for status, _ in asyncio.run(self.ask(key, times)))

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + BACK_S_MAX
        while not holds():
            assert time.monotonic() < deadline, self.servers[0].log_tail()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, redis: Redis
) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack, tmp_path_factory.mktemp("pair"), postgres.database(), redis.url)


def test_a_limit_is_one_limit_however_many_servers(pair: Pair):
    key = pair.key("--rpm", "5")
    assert pair.statuses(key, 16) == [200] * 5 + [429] * 11
    (_, headers), *_ = asyncio.run(pair.ask(key, 1))
    assert 1 <= int(headers["retry-after"]) <= 61
    assert headers["x-ratelimit-limit-requests"] == "5"


def test_a_balance_is_one_balance_however_many_servers(pair: Pair):
    pair.command("account", "create", "thrifty", "--prepaid")
    pair.command("workspace", "create", "thrift", "--account", "thrifty")
    key = pair.key("--workspace", "thrift")
    # Singapore's price: 0.4 and 1.2 dollars for a million tokens, so a request may cost 9 x 400 + 4 x 1200 nano-units.
    pair.command("ledger", "pay", "thrifty", "0.00004")
    statuses = pair.statuses(key, 16)
    assert set(statuses) == {200, 400}
    spent = json.loads(pair.command("usage", "--account", "thrifty", "--json"))
    assert 0 < statuses.count(200) < 16, spent


def test_a_key_that_is_revoked_is_so_everywhere_within_a_second(pair: Pair):
    key = pair.key("--name", "short-lived")
    assert pair.statuses(key) == [200, 200]
    listed = json.loads(pair.command("key", "list", "--json"))
    (key_id,) = [row["id"] for row in listed if row["name"] == "short-lived"]
    pair.command("key", "revoke", key_id)
    time.sleep(1)
    assert pair.statuses(key) == [401, 401]


def test_what_was_sent_to_one_server_is_cached_for_the_other(pair: Pair):
    key = pair.key()
    text = "The quick brown fox. " * 300
    body = {
        "model": "qwen3-coder-plus",
        "max_tokens": 1,
        "messages": [
            {
                "role": "system",
                "content": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": "hi"},
        ],
    }

    async def details(server: ServedInstance) -> dict[str, int]:
        headers = {"authorization": f"Bearer {key}"}
        url = f"{server.base_url}/chat/completions"
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.post(url, json=body) as answer:
                told = await answer.json()
        found: dict[str, int] = told["usage"]["prompt_tokens_details"]
        return found

    made = asyncio.run(details(pair.servers[0]))["cache_creation_input_tokens"]
    assert made >= 1024
    assert asyncio.run(details(pair.servers[1]))["cached_tokens"] == made


def test_without_redis_what_is_limited_is_refused_and_comes_back_with_it(pair: Pair, redis: Redis):
    limited, unlimited = pair.key("--rpm", "1000"), pair.key()
    assert pair.statuses(limited) == [200, 200]
    redis.stop()
    try:
        (status, headers), *_ = asyncio.run(pair.ask(limited, 1))
        assert status == 503
        assert "retry-after" in headers
        assert pair.statuses(unlimited) == [200, 200]
    finally:
        redis.start()
    pair.until(lambda: pair.statuses(limited) == [200, 200])


def test_postgresql_restarted_in_mid_load_loses_and_doubles_nothing(pair: Pair, postgres: Postgres):
    key = pair.key()

    async def load() -> list[str]:
        """The receipts of all answers that came whole, from before, during and after the restart."""
        whole: list[str] = []
        stop = asyncio.Event()

        async def client() -> None:
            while not stop.is_set():
                for status, headers in await pair.ask(key, 4):
                    if status == 200:
                        whole.append(headers["x-ownstudio-receipt"])

        clients = [asyncio.ensure_future(client()) for _ in range(2)]
        await asyncio.sleep(1)
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(postgres.start)
        before = len(whole)
        async with asyncio.timeout(BACK_S_MAX):
            while len(whole) < before + 8:
                await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*clients)
        return whole

    whole = asyncio.run(load())
    pair.command("ledger", "verify")
    assert set(whole) <= asyncio.run(settled(pair.url))
    shown = pair.command("ledger", "show", whole[-1], "--json")
    assert [entry["kind"] for entry in json.loads(shown)] == ["hold", "settle"]


async def settled(url: str) -> set[str]:
    """The receipts of everything that was charged."""
    database = await Database.open(url)
    async with database.snapshot() as connection:
        found = await connection.execute(
            select(entries.c.receipt).where(entries.c.kind == "settle")
        )
        receipts = [receipt for (receipt,) in found]
    await database.close()
    assert len(receipts) == len(set(receipts))
    return set(receipts)
