"""The prefix index: which beginnings of prompts an owner has sent, and for how long that counts.

An owner is an account with one model: nothing is ever found that another owner left. Looking changes nothing, except
that a cache block that is hit lives anew. Remembering comes after the answer: until then the same prompt is a miss.
A beginning is remembered together with all shorter ones, and the longer ones go first, by time and by number. So the
known beginnings of a prompt are its shortest, and the longest known one is found by halving.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from msgspec import Struct

from ownstudio.context_cache.prefix import (
    BLOCK_TOKENS,
    HASH_BYTES,
    IMPLICIT_TOKENS_MIN,
    CacheBlock,
    Prefix,
)

# Of what is forgotten so much is remembered: that it was known, and why no longer.
GONE_MAX = 16_384
# Marked blocks are far fewer than those of 32 tokens.
BLOCKS_SHARE = 8
OWNERS_KEPT = 4096
PURGED_AT_ONCE = 64


class IndexUnavailable(Exception):
    """The index cannot be asked; the text is for the operator."""


class Fate(Enum):
    """Why a beginning is not known: it never was, its time is over, or it had to make room."""

    NEVER = "never"
    EXPIRED = "expired"
    EVICTED = "evicted"


class Owner(Struct, frozen=True):
    account: str
    model: str


class Found(Struct, frozen=True):
    """What an owner's earlier requests are worth to this one.

    `shared_tokens`: this long a beginning was sent before; `fate` tells why not a longer one. For the explicit cache
    `hit_tokens` are in a cache block, `created_tokens` will be once the answer is there, and `block_fate` tells what
    became of a longer block. `asked` is false where the index could not be.
    """

    shared_tokens: int = 0
    fate: Fate = Fate.NEVER
    explicit: bool = False
    hit_tokens: int = 0
    created_tokens: int = 0
    block_fate: Fate = Fate.NEVER
    asked: bool = True

    @property
    def seen_tokens(self) -> int:
        """What an implicit hit can be at most: whole blocks."""
        return self.shared_tokens - self.shared_tokens % BLOCK_TOKENS

    def usage(self, engine_cached: int) -> tuple[int, int, bool]:
        """Cached tokens, tokens of new cache blocks, and whether the explicit cache is meant.

        An explicit hit is a promise, kept whatever the engine had to compute again. An implicit one is what the
        engine has reused, as far as this owner has sent it: nobody sees another's prompts by their hits.
        """
        if self.explicit:
            return self.hit_tokens, self.created_tokens, True
        cached = min(engine_cached, self.seen_tokens)
        return (cached if cached >= IMPLICIT_TOKENS_MIN else 0), 0, False


def found_in(
    prefix: Prefix, known: int, fate: Fate, hit: CacheBlock | None, block_fate: Fate
) -> Found:
    """What it means that the first `known` beginnings of a prompt are known, and that `hit` is a cache block."""
    hit_tokens = hit.tokens if hit is not None else 0
    marked = max((block.tokens for block in prefix.blocks if block.marked), default=0)
    return Found(
        shared_tokens=prefix.cuts[known - 1] if known else 0,
        fate=fate,
        explicit=prefix.explicit,
        hit_tokens=hit_tokens,
        created_tokens=max(marked - hit_tokens, 0),
        block_fate=block_fate,
    )


class PrefixIndex(Protocol):
    """Both raise IndexUnavailable."""

    async def look(self, owner: Owner, prefix: Prefix) -> Found: ...

    async def remember(self, owner: Owner, prefix: Prefix) -> None:
        """This prompt was answered: its beginnings count as sent, its marked blocks as cached."""
        ...


class MemoryIndex:
    """The index of one process. `monotonic` is its clock; `blocks_max` bounds what it holds, over all owners."""

    def __init__(
        self,
        *,
        implicit_ttl_s: float,
        explicit_ttl_s: float,
        blocks_max: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = monotonic
        self._sent = _Hashes(implicit_ttl_s, blocks_max)
        self._cached = _Hashes(explicit_ttl_s, max(blocks_max // BLOCKS_SHARE, 1))

    def __len__(self) -> int:
        return len(self._sent) + len(self._cached)

    async def look(self, owner: Owner, prefix: Prefix) -> Found:
        now, prior = self._now(), owner_digest(owner)
        low, high = 0, len(prefix.cuts)
        while low < high:
            middle = (low + high + 1) // 2
            if self._sent.knows(prior + prefix.hash_of(middle - 1), now):
                low = middle
            else:
                high = middle - 1
        fate = Fate.NEVER
        if low < len(prefix.cuts):
            fate = self._sent.fate(prior + prefix.hash_of(low), now)
        hit, block_fate = self._hit(prior, prefix.blocks, now)
        return found_in(prefix, low, fate, hit, block_fate)

    def _hit(
        self, prior: bytes, blocks: Sequence[CacheBlock], now: float
    ) -> tuple[CacheBlock | None, Fate]:
        """The longest of the blocks that is cached, and what became of a longer one that was."""
        fate = Fate.NEVER
        for block in blocks:
            key = prior + block.digest
            if self._cached.knows(key, now):
                self._cached.keep([key], now)
                return block, fate
            if fate is Fate.NEVER:
                fate = self._cached.fate(key, now)
        return None, fate

    async def remember(self, owner: Owner, prefix: Prefix) -> None:
        now, prior = self._now(), owner_digest(owner)
        hashes = prefix.hashes
        self._sent.keep(
            [
                prior + hashes[at : at + HASH_BYTES]
                for at in range(len(hashes) - HASH_BYTES, -1, -HASH_BYTES)
            ],
            now,
        )
        marked = [prior + block.digest for block in prefix.blocks if block.marked]
        # Only a hit prolongs a block's life.
        self._cached.keep([key for key in marked if not self._cached.knows(key, now)], now)


class _Hashes:
    """Hashes that are forgotten after their time or, the longest unused first, for want of room."""

    def __init__(self, ttl_s: float, most: int) -> None:
        self._ttl_s = ttl_s
        self._most = most
        # All live equally long, so the order of use is that of expiry too.
        self._expiry: OrderedDict[bytes, float] = OrderedDict()
        self._gone: OrderedDict[bytes, Fate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expiry)

    def knows(self, key: bytes, now: float) -> bool:
        return self._expiry.get(key, now) > now

    def fate(self, key: bytes, now: float) -> Fate:
        """Why the key is not known."""
        if key in self._expiry:
            return Fate.EXPIRED
        return self._gone.get(key, Fate.NEVER)

    def keep(self, keys: Iterable[bytes], now: float) -> None:
        """Keep these as the latest, the last one as the very latest."""
        expiry = now + self._ttl_s
        kept = 0
        for key in keys:
            self._expiry[key] = expiry
            self._expiry.move_to_end(key)
            kept += 1
        while len(self._expiry) > self._most:
            self._forget(Fate.EVICTED, now)
        # What a quiet hour left behind goes little by little: nobody waits for a sweep.
        for _ in range(kept + PURGED_AT_ONCE):
            if not self._expiry or next(iter(self._expiry.values())) > now:
                break
            self._forget(Fate.EXPIRED, now)

    def _forget(self, fate: Fate, now: float) -> None:
        key, expiry = self._expiry.popitem(last=False)
        self._gone[key] = Fate.EXPIRED if expiry <= now else fate
        if len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)


@lru_cache(OWNERS_KEPT)
def owner_digest(owner: Owner) -> bytes:
    """What keeps the hashes of one owner apart from all others'."""
    name = f"{len(owner.account)}:{owner.account}{owner.model}"
    return blake2b(name.encode(), digest_size=HASH_BYTES).digest()
