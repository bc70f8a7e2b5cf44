"""What only the index in Redis can do: share, lose its server and come back, leave nothing behind."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis as Client

from ownstudio.context_cache.cache import ContextCache
from ownstudio.context_cache.index import IndexUnavailable, Owner
from ownstudio.context_cache.prefix import CacheBlock, Prefix, prefix_of
from ownstudio.context_cache.redis_index import RedisIndex
from support.servers import Redis

MARKED = prefix_of(list(range(1300)), blocks=[CacheBlock(1200, bytes(16), marked=True)])


def opened(redis: Redis, *, blocks_max: int = 4096) -> RedisIndex:
    """An index by the clock of Redis, as a gateway has it."""
    return RedisIndex(redis.url, implicit_ttl_s=3600, explicit_ttl_s=300, blocks_max=blocks_max)


@pytest.fixture
async def shared(redis: Redis) -> AsyncIterator[RedisIndex]:
    index = opened(redis)
    yield index
    await index.close()


async def test_gateways_share_what_they_know(
    redis: Redis, shared: RedisIndex, owner: Owner
) -> None:
    await shared.remember(owner, MARKED)
    other = opened(redis)
    found = await other.look(owner, MARKED)
    await other.close()
    assert (found.shared_tokens, found.hit_tokens, found.created_tokens) == (1300, 1200, 0)


async def test_it_forgets_with_its_server_and_works_again_with_the_next(
    redis: Redis, owner: Owner
) -> None:
    index = opened(redis)
    await index.remember(owner, MARKED)
    redis.stop()
    try:
        with pytest.raises(IndexUnavailable, match="Redis"):
            await index.look(owner, MARKED)
        with pytest.raises(IndexUnavailable):
            await index.remember(owner, MARKED)
    finally:
        redis.start()
    assert (await index.look(owner, MARKED)).shared_tokens == 0
    await index.remember(owner, MARKED)
    assert (await index.look(owner, MARKED)).hit_tokens == 1200
    await index.close()


async def test_a_request_never_fails_for_want_of_redis(redis: Redis, owner: Owner) -> None:
    index = opened(redis)
    cache = ContextCache(index)
    redis.stop()
    try:
        found = await cache.look(owner.account, owner.model, MARKED)
        await cache.remember(owner.account, owner.model, MARKED)
    finally:
        redis.start()
    await index.close()
    assert not found.asked
    assert found.usage(1299) == (0, 0, True)


async def test_all_that_it_keeps_expires_by_itself(
    redis: Redis, shared: RedisIndex, owner: Owner
) -> None:
    client = Client.from_url(redis.url)
    await client.flushdb()
    await shared.remember(owner, MARKED)
    small = opened(redis, blocks_max=10)
    await small.remember(owner, MARKED)
    await small.close()
    keys = [key async for key in client.scan_iter()]
    lives = [await client.ttl(key) for key in keys]
    await client.aclose()
    assert len(keys) == 3
    assert all(0 < life <= 7200 for life in lives)


async def test_each_owner_is_bounded(redis: Redis, owner: Owner) -> None:
    index = opened(redis, blocks_max=10)
    await index.remember(owner, MARKED)
    assert (await index.look(owner, MARKED)).shared_tokens == 320
    await index.close()


async def test_a_prompt_of_many_scripts_is_remembered_whole(
    shared: RedisIndex, owner: Owner
) -> None:
    large: Prefix = prefix_of([number % 50_000 for number in range(100_000)])
    await shared.remember(owner, large)
    assert (await shared.look(owner, large)).shared_tokens == 100_000
