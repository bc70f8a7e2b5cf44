"""Limits: how many requests and tokens a minute, in one process or over several.

`Limiter` admits or refuses; `MemoryCounters` and `limits.redis.RedisCounters` count, and answer alike. The latter
stands apart: its driver takes a tenth of a second to import, and most servers have no Redis.
"""

from ownstudio.limits.limiter import Limiter, LimitReached, Policy
from ownstudio.limits.memory import MemoryCounters
from ownstudio.limits.terms import (
    Ask,
    Cap,
    Concurrency,
    Counters,
    CountersDown,
    Grant,
    Pace,
    Refusal,
    Room,
)

__all__ = [
    "Ask",
    "Cap",
    "Concurrency",
    "Counters",
    "CountersDown",
    "Grant",
    "LimitReached",
    "Limiter",
    "MemoryCounters",
    "Pace",
    "Policy",
    "Refusal",
    "Room",
]
