import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from ownstudio.limits import Counters, MemoryCounters
from ownstudio.limits.redis import RedisCounters
from support.servers import Redis
from support.turned_clock import TurnedClock

Connect = Callable[..., RedisCounters]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def account() -> str:
    """An account that no other test has, for all of them share one Redis."""
    return secrets.token_hex(4)


@pytest.fixture
async def connect(redis: Redis) -> AsyncIterator[Connect]:
    """A gateway's counters, closed at the end however the test ends: uvloop hangs on connections that are not."""
    async with AsyncExitStack() as stack:

        def make(url: str = "", **options: Any) -> RedisCounters:
            counters = RedisCounters(url or redis.url, **options)
            stack.push_async_callback(counters.close)
            return counters

        yield make


@pytest.fixture(params=["memory", "redis"])
async def counters(request: pytest.FixtureRequest, clock: TurnedClock) -> AsyncIterator[Counters]:
    """Each way to count, with the same clock."""
    if request.param == "memory":
        yield MemoryCounters(monotonic=clock)
        return
    shared = RedisCounters(request.getfixturevalue("redis").url, now=clock)
    try:
        yield shared
    finally:
        await shared.close()
