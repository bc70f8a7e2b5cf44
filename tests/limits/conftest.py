import secrets
from collections.abc import AsyncIterator

import pytest

from ownstudio.limits import Counters, MemoryCounters, RedisCounters
from support.turned_clock import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def account() -> str:
    """An account that no other test has, for all of them share one Redis."""
    return secrets.token_hex(4)


@pytest.fixture(params=["memory", "redis"])
async def counters(request: pytest.FixtureRequest, clock: TurnedClock) -> AsyncIterator[Counters]:
    """Each way to count, with the same clock."""
    if request.param == "memory":
        yield MemoryCounters(monotonic=clock)
        return
    shared = RedisCounters(request.getfixturevalue("redis").url, now=clock)
    yield shared
    await shared.close()
