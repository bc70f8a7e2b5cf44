"""The cache never fails a request: an index that cannot be asked finds nothing, rests, and is not much talked about."""

import logging

import pytest

from ownstudio.context_cache.cache import ContextCache
from ownstudio.context_cache.index import Found, IndexUnavailable, MemoryIndex, Owner
from ownstudio.context_cache.prefix import Prefix, prefix_of
from support.turned_clock import TurnedClock

PROMPT = prefix_of(list(range(640)))


class Failing:
    """An index that fails until it is mended, and counts who asked."""

    def __init__(self, inner: MemoryIndex) -> None:
        self.inner = inner
        self.broken = True
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.broken:
            raise IndexUnavailable("it is not there")

    async def look(self, owner: Owner, prefix: Prefix) -> Found:
        self._ask()
        return await self.inner.look(owner, prefix)

    async def remember(self, owner: Owner, prefix: Prefix) -> None:
        self._ask()
        await self.inner.remember(owner, prefix)


@pytest.fixture
def failing(clock: TurnedClock) -> Failing:
    return Failing(
        MemoryIndex(implicit_ttl_s=3600, explicit_ttl_s=300, blocks_max=4096, monotonic=clock)
    )


async def test_it_finds_what_it_was_told(failing: Failing, clock: TurnedClock) -> None:
    failing.broken = False
    cache = ContextCache(failing, monotonic=clock)
    await cache.remember("a", "m", PROMPT)
    assert (await cache.look("a", "m", PROMPT)).usage(639) == (639, 0, False)
    assert (await cache.look("b", "m", PROMPT)).usage(639) == (0, 0, False)


async def test_without_an_index_nothing_is_found_and_nobody_fails(
    failing: Failing, clock: TurnedClock
) -> None:
    cache = ContextCache(failing, monotonic=clock)
    await cache.remember("a", "m", PROMPT)
    found = await cache.look("a", "m", PROMPT)
    assert found.usage(639) == (0, 0, False)
    assert not found.asked


async def test_a_broken_index_rests_for_a_moment(failing: Failing, clock: TurnedClock) -> None:
    cache = ContextCache(failing, monotonic=clock)
    for _ in range(3):
        await cache.look("a", "m", PROMPT)
        await cache.remember("a", "m", PROMPT)
    assert failing.asked == 1
    await clock.turn(1.1)
    failing.broken = False
    await cache.remember("a", "m", PROMPT)
    assert (await cache.look("a", "m", PROMPT)).shared_tokens == 640


async def test_the_log_hears_of_it_once_a_minute(
    failing: Failing, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ContextCache(failing, monotonic=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            await cache.look("a", "m", PROMPT)
            await clock.turn(1.5)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "it is not there" in caplog.text
        await clock.turn(60)
        await cache.look("a", "m", PROMPT)
    assert len(caplog.records) == 2
