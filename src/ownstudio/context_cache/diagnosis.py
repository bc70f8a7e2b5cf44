"""Why did it miss? How much of a prompt was known, where it parted from what was, and for what reason (pure).

There are two tellings. The operator's has every reason. The client's says of what another account has sent the same
as of what nobody has: that this account has not sent it before.
"""

from enum import Enum

from msgspec import Struct

from ownstudio.context_cache.index import Fate, Found
from ownstudio.context_cache.prefix import (
    BLOCK_TOKENS,
    EXPLICIT_TOKENS_MIN,
    IMPLICIT_TOKENS_MIN,
    LOOK_BACK_BLOCKS,
    Prefix,
)


class Cause(Enum):
    """Why no more was cached, in words."""

    NOTHING = ""
    SHORT = f"fewer than {IMPLICIT_TOKENS_MIN} tokens are not cached"
    SHORT_BLOCK = f"no block of {EXPLICIT_TOKENS_MIN} tokens or more is marked"
    NEW = "not sent before by this account"
    OTHER_ACCOUNT = "sent before by another account only"
    EXPIRED = "expired"
    EVICTED = "evicted from the index"
    ENGINE = "evicted from the engine"
    NO_BLOCK = f"no cache block ends at a marker or within {LOOK_BACK_BLOCKS} blocks before one"
    NOT_ASKED = "the prefix index could not be asked"


_OF_FATE = {Fate.NEVER: Cause.NEW, Fate.EXPIRED: Cause.EXPIRED, Fate.EVICTED: Cause.EVICTED}


class Diagnosis(Struct, frozen=True):
    """Of a prompt of `tokens` tokens `cached` were reported; `shared` of them this account had sent before.

    `part` is what the first token belongs to that was missing, empty where that is not the point. `engine_cached`,
    which the engine has reused, is the operator's alone.
    """

    tokens: int
    cached: int
    shared: int
    part: str
    cause: Cause
    engine_cached: int

    @property
    def for_client(self) -> str:
        return self._told(Cause.NEW if self.cause is Cause.OTHER_ACCOUNT else self.cause)

    @property
    def for_log(self) -> str:
        return f"{self._told(self.cause)} (engine {self.engine_cached})"

    def _told(self, cause: Cause) -> str:
        told = f"cached {self.cached} of {self.tokens} tokens, shared {self.shared}"
        if self.part:
            told += f", then {self.part}"
        return f"{told}: {cause.value}" if cause is not Cause.NOTHING else told


def explain(found: Found, prefix: Prefix, engine_cached: int) -> Diagnosis:
    """What became of a request whose engine reused so many tokens."""
    broken_at, cause = _explicit(found, prefix) if found.explicit else _implicit(found, prefix)
    whole = found.explicit or cause in (Cause.SHORT, Cause.NOT_ASKED)
    if not whole and engine_cached + BLOCK_TOKENS < found.seen_tokens >= IMPLICIT_TOKENS_MIN:
        broken_at, cause = engine_cached, Cause.ENGINE
    part = ""
    if broken_at is not None:
        part = prefix.layout.part_at(broken_at, prefix.turns) if prefix.layout else "prompt"
    # An answer that comes back is new to us, but the engine that wrote it may still have it.
    answered = "(assistant)" in part
    if cause is Cause.NEW and not answered and engine_cached >= found.shared_tokens + BLOCK_TOKENS:
        cause = Cause.OTHER_ACCOUNT
    return Diagnosis(
        tokens=prefix.tokens,
        cached=found.usage(engine_cached)[0],
        shared=found.shared_tokens,
        part=part,
        cause=cause,
        engine_cached=engine_cached,
    )


def _implicit(found: Found, prefix: Prefix) -> tuple[int | None, Cause]:
    """The first token that was not known, and why."""
    if not found.asked:
        return None, Cause.NOT_ASKED
    if prefix.tokens < IMPLICIT_TOKENS_MIN:
        return None, Cause.SHORT
    if found.shared_tokens == prefix.tokens:
        return None, Cause.NOTHING
    return found.shared_tokens, _OF_FATE[found.fate]


def _explicit(found: Found, prefix: Prefix) -> tuple[int | None, Cause]:
    """The first token before the last marker that no cache block held, and why."""
    marked = max((block.tokens for block in prefix.blocks if block.marked), default=0)
    if not found.asked:
        return None, Cause.NOT_ASKED
    if not marked:
        return None, Cause.SHORT_BLOCK
    if found.hit_tokens >= marked:
        return None, Cause.NOTHING
    if found.block_fate is not Fate.NEVER:
        return None, _OF_FATE[found.block_fate]
    if found.shared_tokens >= marked:
        return None, Cause.NO_BLOCK
    return found.shared_tokens, _OF_FATE[found.fate]
