"""The prefix index in Redis, for several gateways; `redis_scripts` has its rules.

The clock is that of Redis, so that gateways whose clocks differ agree. Whatever Redis or the way to it does becomes
IndexUnavailable.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError

from ownstudio.context_cache.index import (
    Fate,
    Found,
    IndexUnavailable,
    Owner,
    found_in,
    owner_digest,
)
from ownstudio.context_cache.prefix import HASH_BYTES, Prefix
from ownstudio.context_cache.redis_scripts import LOOK, REMEMBER

TIMEOUT_S = 0.5
CONNECTIONS_MAX = 16
# So many hashes go into one script, which holds up everybody else's.
CHUNK = 1024
PURGED_AT_ONCE = 2048
EVICTED_KEPT = 4096
BLOCKS_MAX = 200_000

_MICRO = 1_000_000


class RedisIndex:
    """`blocks_max` bounds what is held for each account and model. `now` is a clock in seconds instead of Redis' own,
    for tests to turn."""

    def __init__(
        self,
        url: str,
        *,
        implicit_ttl_s: float,
        explicit_ttl_s: float,
        blocks_max: int = BLOCKS_MAX,
        now: Callable[[], float] | None = None,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # Once more, at once, with a new connection: what was idle while Redis restarted is dead.
            retry=Retry(NoBackoff(), 1, supported_errors=(LostConnection,)),
        )
        self._client = Redis(connection_pool=pool)
        self._look = self._client.register_script(LOOK)
        self._remember = self._client.register_script(REMEMBER)
        self._implicit = int(implicit_ttl_s * _MICRO)
        self._explicit = int(explicit_ttl_s * _MICRO)
        self._blocks_max = blocks_max
        self._now = now

    async def close(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def look(self, owner: Owner, prefix: Prefix) -> Found:
        digests = b"".join([block.digest for block in prefix.blocks])
        with _translated():
            known, fate, hit, block_fate = await self._look(
                _keys(owner), [HASH_BYTES, self._time(), self._explicit, prefix.hashes, digests]
            )
        return found_in(
            prefix,
            known,
            Fate(fate.decode()),
            prefix.blocks[hit - 1] if hit else None,
            Fate(block_fate.decode()),
        )

    async def remember(self, owner: Owner, prefix: Prefix) -> None:
        keys, count = _keys(owner), len(prefix.cuts)
        time = self._time()
        marked = b"".join([block.digest for block in prefix.blocks if block.marked])
        with _translated():
            # The shorter beginnings first: should it fail halfway, what was kept is in order.
            for first in range(0, count, CHUNK):
                some = prefix.hashes[first * HASH_BYTES : (first + CHUNK) * HASH_BYTES]
                blocks = marked if first + CHUNK >= count else b""
                time = await self._remember(
                    keys,
                    [
                        *(HASH_BYTES, time, first, some, self._implicit, blocks, self._explicit),
                        *(self._blocks_max, EVICTED_KEPT, PURGED_AT_ONCE),
                    ],
                )

    def _time(self) -> int | str:
        """Nothing where Redis is to ask its own clock."""
        return "" if self._now is None else int(self._now() * _MICRO)


def _keys(owner: Owner) -> list[str]:
    """The braces keep the keys of one owner together where Redis is a cluster."""
    name = owner_digest(owner).hex()
    return [f"ownstudio:cache:{{{name}}}:{kind}" for kind in ("sent", "evicted", "blocks")]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise IndexUnavailable(f"Redis: {error or type(error).__name__}") from error
