"""Limits: how many requests and tokens a minute, in one process or over several.

`Limiter` admits or refuses; `MemoryCounters` and `RedisCounters` count, and answer alike.
"""

from ownstudio.limits.limiter import Limiter, LimitReached, Policy
from ownstudio.limits.memory import MemoryCounters
from ownstudio.limits.redis import RedisCounters
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
    "RedisCounters",
    "Refusal",
    "Room",
]
