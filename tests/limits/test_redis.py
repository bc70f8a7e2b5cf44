"""What only counters in Redis can do wrong: share, lose their server, hang, be left in the middle."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis as Client

from ownstudio.limits import (
    Ask,
    Cap,
    Concurrency,
    CountersDown,
    Grant,
    Pace,
    Refusal,
)
from ownstudio.limits.redis import RedisCounters
from support.servers import Redis, free_port
from support.turned_clock import TurnedClock

PACE = Pace(per_second=False)
LATE_S = 20
# How long a gateway waits for Redis that is to find it away, though this machine be slow.
SHORT_S = 0.5
# Longer than any test waits.
LEASE_S = 300

Connect = Callable[..., RedisCounters]


def ask(
    account: str, rpm: int | None = None, at_once: int | None = None, receipt: str = "r"
) -> Ask:
    return Ask(
        receipt=receipt,
        account=account,
        turn="key",
        caps=() if rpm is None else (Cap("account", rpm),),
        tokens=7,
        concurrency=() if at_once is None else (Concurrency("key", at_once, LEASE_S),),
    )


async def count(counters: RedisCounters, account: str) -> int:
    """How many requests the window holds, by asking for more than its limit, which never passes."""
    probe = Ask("probe", account, "key", (Cap("account", 1000, 1),), 2)
    outcome = await counters.take(probe, PACE)
    assert isinstance(outcome, Refusal)
    assert outcome.requests is not None
    requests = 1000 - outcome.requests.remaining
    assert outcome.current == 7 * requests
    return requests


async def test_gateways_with_different_clocks_share_one_window(
    connect: Connect, account: str
) -> None:
    """Without a clock of a test's they have none of their own: Redis has it."""
    one, other = connect(), connect()
    assert isinstance(await one.take(ask(account, 2), PACE), Grant)
    assert isinstance(await other.take(ask(account, 2), PACE), Grant)
    for counters in (one, other):
        refusal = await counters.take(ask(account, 2), PACE)
        assert isinstance(refusal, Refusal)
        assert refusal.retry_after_s is not None
        assert 60 - LATE_S < refusal.retry_after_s <= 60


async def test_64_tasks_in_two_gateways_get_exactly_what_there_is(
    connect: Connect, account: str
) -> None:
    gateways = (connect(), connect())
    outcomes = await asyncio.gather(
        *(gateways[number % 2].take(ask(account, 50), PACE) for number in range(64))
    )
    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 50


async def test_everything_expires_and_lies_in_one_hash_slot(
    connect: Connect, redis: Redis, account: str
) -> None:
    counters = connect()
    pace = Pace(surge=2)
    caps = (Cap("account", 100), Cap("key", None, 1000))
    running = (Concurrency("account", 5, 30), Concurrency("key", 3, 30))
    one = Ask("receipt", account, "key", caps, 5, running, "account:model")
    grant = await counters.take(one, pace)
    assert isinstance(grant, Grant)
    async with Client.from_url(redis.url) as client:
        keys = [key.decode() async for key in client.scan_iter(f"*{account}*")]
        assert len(keys) == 5
        for key in keys:
            assert f"{{{account}}}" in key
            assert 0 < await client.ttl(key) <= 120
        await counters.put_back(grant, requests=0, tokens=3)
        for key in [key async for key in client.scan_iter(f"*{account}*")]:
            assert 0 < await client.ttl(key) <= 120


async def test_a_clock_that_is_set_back_a_little_stands_still_and_a_lot_begins_anew(
    connect: Connect, account: str, clock: TurnedClock
) -> None:
    counters = connect(now=clock)
    await counters.take(ask(account, 2), PACE)
    clock.time -= 30
    await counters.take(ask(account, 2), PACE)
    refusal = await counters.take(ask(account, 2), PACE)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == 60
    clock.time -= 31
    assert isinstance(await counters.take(ask(account, 1), PACE), Grant)


async def test_redis_gone_is_said_and_redis_back_is_used(
    connect: Connect, redis: Redis, account: str
) -> None:
    counters = connect()
    grant = await counters.take(ask(account, 5, at_once=3), PACE)
    assert isinstance(grant, Grant)
    redis.stop()
    try:
        with pytest.raises(CountersDown, match="Redis: "):
            await counters.take(ask(account, 5), PACE)
        with pytest.raises(CountersDown):
            await counters.put_back(grant, requests=0, tokens=3)
    finally:
        redis.start()
    # It came back empty, scripts and all.
    await counters.put_back(grant, requests=0, tokens=3)
    assert await count(counters, account) == 0
    for number in range(5):
        assert isinstance(await counters.take(ask(account, 5, receipt=str(number)), PACE), Grant)
    assert isinstance(await counters.take(ask(account, 5), PACE), Refusal)


async def test_a_restart_between_two_requests_is_not_noticed(
    connect: Connect, redis: Redis, account: str
) -> None:
    counters = connect()
    # Several connections, all of which will be dead.
    await asyncio.gather(*(counters.take(ask(account, 100), PACE) for _ in range(8)))
    redis.stop()
    redis.start()
    outcomes = await asyncio.gather(*(counters.take(ask(account, 100), PACE) for _ in range(8)))
    assert all(isinstance(outcome, Grant) for outcome in outcomes)


async def test_a_server_that_says_nothing_is_given_up_in_time(connect: Connect) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    counters = connect(f"redis://127.0.0.1:{port}/0", timeout_s=0.05)
    began = time.monotonic()
    with pytest.raises(CountersDown):
        await counters.take(ask("account", 5), PACE)
    assert time.monotonic() - began < LATE_S
    server.close()


async def test_no_password_is_told_when_redis_is_gone(connect: Connect) -> None:
    counters = connect(f"redis://user:hush@127.0.0.1:{free_port()}/0")
    with pytest.raises(CountersDown) as failure:
        await counters.take(ask("account", 5), PACE)
    assert "hush" not in str(failure.value)


@pytest.mark.parametrize("turns", range(12))
async def test_whoever_leaves_while_asking_has_taken_nothing(
    connect: Connect, account: str, turns: int
) -> None:
    """However far the asking has come."""
    counters = connect()
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(counters.take(ask(account, 5, at_once=1), PACE))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
    if taking.cancelled():
        await counters.close()
        counters = connect()
        assert await count(counters, account) == 0
        other = ask(account, at_once=1, receipt="other")
        assert isinstance(await counters.take(other, PACE), Grant)


async def test_whoever_leaves_while_giving_back_has_given_back(
    connect: Connect, account: str
) -> None:
    counters = connect()
    grant = await counters.take(ask(account, 5, at_once=1), PACE)
    assert isinstance(grant, Grant)
    # One that has no connection yet, and so much to wait for.
    giver = connect()
    async with asyncio.TaskGroup() as group:
        giving = group.create_task(giver.put_back(grant, requests=1, tokens=7))
        await asyncio.sleep(0)
        giving.cancel()
    await giver.close()
    assert await count(counters, account) == 0
    other = ask(account, at_once=1, receipt="other")
    assert isinstance(await counters.take(other, PACE), Grant)


@asynccontextmanager
async def standing_still(redis: Redis) -> AsyncIterator[None]:
    """What is sent meanwhile Redis does afterwards, whether anybody still waits for it or not."""
    async with Client.from_url(redis.url) as client:
        process: int = (await client.info("server"))["process_id"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


async def fail_to_put_back(counters: RedisCounters, grant: Grant, redis: Redis) -> None:
    """Redis holds the command back until whoever sent it has hung up, and then never does it."""
    async with Client.from_url(redis.url) as client:
        await client.client_pause(LATE_S * 1000, all=False)
        try:
            with pytest.raises(CountersDown):
                await counters.put_back(grant, requests=0, tokens=0)
        finally:
            await client.client_unpause()


async def soon_free(counters: RedisCounters, account: str) -> bool:
    """Whether the only place is free before long."""
    deadline = time.monotonic() + LATE_S
    while time.monotonic() < deadline:
        one = ask(account, at_once=1, receipt="somebody else")
        if isinstance(await counters.take(one, PACE), Grant):
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_place_that_redis_gives_too_late_is_nobodys_and_soon_free(
    connect: Connect, redis: Redis, account: str, hangs_up: bool
) -> None:
    counters, other = connect(timeout_s=SHORT_S), connect()
    # With a connection that is open already, so that the asking gets as far as Redis.
    await counters.take(ask(account, 5), PACE)
    async with standing_still(redis):
        asking = asyncio.get_running_loop().create_task(
            counters.take(ask(account, at_once=1), PACE)
        )
        await asyncio.sleep(0.03)
        if hangs_up:
            asking.cancel()
        (result,) = await asyncio.gather(asking, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError if hangs_up else CountersDown)
        await asyncio.sleep(2 * SHORT_S)
    assert await soon_free(other, account)


async def test_a_place_that_could_not_be_given_back_is_given_back_later(
    connect: Connect, redis: Redis, account: str
) -> None:
    counters, other = connect(timeout_s=SHORT_S), connect()
    grant = await counters.take(ask(account, at_once=1), PACE)
    assert isinstance(grant, Grant)
    await fail_to_put_back(counters, grant, redis)
    assert await soon_free(other, account)


async def test_at_the_end_places_are_given_back_at_once_if_redis_is_there(
    connect: Connect, redis: Redis, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownstudio.limits.redis.REMOVE_AFTER_S", LATE_S)
    counters, other = connect(timeout_s=SHORT_S), connect()
    grant = await counters.take(ask(account, at_once=1), PACE)
    assert isinstance(grant, Grant)
    await fail_to_put_back(counters, grant, redis)
    began = time.monotonic()
    await counters.close()
    assert time.monotonic() - began < LATE_S
    somebody = ask(account, at_once=1, receipt="somebody else")
    assert isinstance(await other.take(somebody, PACE), Grant)


async def test_the_end_does_not_wait_for_a_redis_that_is_gone(connect: Connect) -> None:
    counters = connect(f"redis://127.0.0.1:{free_port()}/0", timeout_s=SHORT_S)
    for number in range(50):
        with pytest.raises(CountersDown):
            await counters.take(ask("account", at_once=1, receipt=str(number)), PACE)
    before = asyncio.all_tasks()
    began = time.monotonic()
    await counters.close()
    assert time.monotonic() - began < LATE_S / 4
    assert asyncio.all_tasks() < before


async def test_a_place_is_not_looked_for_longer_than_it_can_be_taken(connect: Connect) -> None:
    counters = connect(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.1)
    before = asyncio.all_tasks()
    running = (Concurrency("key", 1, lease_s=0.1),)
    with pytest.raises(CountersDown):
        await counters.take(Ask("r", "account", "key", concurrency=running), PACE)
    assert asyncio.all_tasks() > before
    async with asyncio.timeout(LATE_S):
        while asyncio.all_tasks() > before:
            await asyncio.sleep(0.05)


async def test_whoever_asks_again_after_redis_was_away_keeps_their_place(
    connect: Connect, redis: Redis, account: str
) -> None:
    """Who waits asks again under the same receipt, and that may be before what is nobody's is removed."""
    counters, other = connect(timeout_s=SHORT_S), connect()
    await counters.take(ask(account, 5), PACE)
    async with standing_still(redis):
        with pytest.raises(CountersDown):
            await counters.take(ask(account, at_once=2), PACE)
    assert isinstance(await counters.take(ask(account, at_once=2), PACE), Grant)
    await counters.close()
    assert isinstance(await other.take(ask(account, at_once=2, receipt="b"), PACE), Grant)
    assert isinstance(await other.take(ask(account, at_once=2, receipt="c"), PACE), Refusal)


async def test_a_request_that_is_sent_again_after_a_lost_connection_runs_once(
    connect: Connect, account: str
) -> None:
    counters = connect()
    for _ in range(2):
        assert isinstance(await counters.take(ask(account, 2, at_once=1), PACE), Grant)
    # The first time it was let pass, and the answer was lost: now that it is refused it runs nowhere.
    assert isinstance(await counters.take(ask(account, 2, at_once=1), PACE), Refusal)
    other = ask(account, at_once=1, receipt="other")
    assert isinstance(await counters.take(other, PACE), Grant)
