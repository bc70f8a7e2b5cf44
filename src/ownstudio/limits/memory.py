"""Counters in the memory of one process.

No method waits for anything in its middle, so each is one step for all tasks of the loop. A scope costs at most 61
buckets and is forgotten when it has been idle for a minute.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from ownstudio.limits.terms import (
    MINUTE,
    SECOND,
    SURGE_PREFIX,
    Ask,
    Grant,
    Pace,
    Refusal,
    Room,
    scopes_of,
)
from ownstudio.limits.window import NEVER, Leases, Obstacle, Window

# Each take looks at so many of the scopes that were idle longest: more than it can make on average, so that all
# are found, and few enough that no take is a long one.
SWEPT = 4

_EMPTY = Window()
_NOBODY = Leases()


class MemoryCounters:
    """`monotonic` and `now` are clocks in seconds, for tests to turn; `now` is that of what `restore` is told."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._now = now
        # Least recently taken from first.
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._leases: dict[str, Leases] = {}

    @property
    def scopes(self) -> int:
        """How many scopes are remembered."""
        return len(self._windows) + len(self._leases)

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        now = round(self._monotonic() * SECOND)
        self._sweep(now)
        scopes = scopes_of(ask, pace)
        windows = [self._windows.get(scope, _EMPTY) for scope in scopes]
        found = _obstacles(ask, pace, windows, now)
        for most in ask.concurrency:
            self._leases.get(most.scope, _NOBODY).judge(most, now, found)
        if found:
            return _refusal(ask, windows, max(found, key=lambda obstacle: obstacle.wait), now)
        for index, scope in enumerate(scopes):
            if windows[index] is _EMPTY:
                windows[index] = self._windows[scope] = Window()
            else:
                self._windows.move_to_end(scope)
            windows[index].take(ask.tokens, now)
        for most in ask.concurrency:
            ends = now + round(most.lease_s * SECOND)
            self._leases.setdefault(most.scope, Leases()).take(ask.receipt, ends)
        requests, tokens = _rooms(ask, windows, now)
        return Grant(
            receipt=ask.receipt,
            account=ask.account,
            scopes=scopes,
            concurrency=ask.concurrency,
            second=now // SECOND,
            reserved=ask.tokens,
            requests=requests,
            tokens=tokens,
        )

    async def put_back(self, grant: Grant, *, requests: int, tokens: int) -> None:
        if requests or tokens:
            for scope in grant.scopes:
                window = self._windows.get(scope)
                if window is not None:
                    window.put_back(grant.second, requests, tokens)
        for most in grant.concurrency:
            leases = self._leases.get(most.scope)
            if leases is not None:
                leases.release(grant.receipt)
                if not leases:
                    del self._leases[most.scope]

    def restore(self, scope: str, at: float, requests: int, tokens: int) -> None:
        """Count what was admitted at a Unix time before this process began, if that is in the last minute."""
        age = max(0, round((self._now() - at) * SECOND))
        if age >= MINUTE:
            return
        then = round(self._monotonic() * SECOND) - age
        self._windows.setdefault(scope, Window()).restore(then, requests, tokens)

    def _sweep(self, now: int) -> None:
        for _ in range(SWEPT):
            scope = next(iter(self._windows), None)
            if scope is None or self._windows[scope].empty_in(now):
                return
            del self._windows[scope]


def _obstacles(ask: Ask, pace: Pace, windows: list[Window], now: int) -> list[Obstacle]:
    """What is in the way in the windows: those of the caps, then that of the surge rule."""
    found: list[Obstacle] = []
    for window in windows:
        window.forget(now)
    for cap, window in zip(ask.caps, windows, strict=False):
        window.judge(cap, ask.tokens, now, pace.per_second, found)
    if len(windows) > len(ask.caps):
        windows[-1].judge_surge(f"{SURGE_PREFIX}{ask.surge_scope}", pace.surge, now, found)
    return found


def _refusal(ask: Ask, windows: list[Window], obstacle: Obstacle, now: int) -> Refusal:
    requests, tokens = _rooms(ask, windows, now)
    return Refusal(
        kind=obstacle.kind,
        scope=obstacle.scope,
        retry_after_s=None if obstacle.wait == NEVER else obstacle.wait / SECOND,
        limit=obstacle.limit,
        current=obstacle.current,
        window_s=obstacle.window_s,
        requests=requests,
        tokens=tokens,
    )


def _rooms(ask: Ask, windows: list[Window], now: int) -> tuple[Room | None, Room | None]:
    """Of all caps the least that is left of requests and of tokens."""
    requests: tuple[int, int, Window] | None = None
    tokens: tuple[int, int, Window] | None = None
    for cap, window in zip(ask.caps, windows, strict=False):
        rpm, tpm = cap.requests_per_minute, cap.tokens_per_minute
        if rpm is not None and (requests is None or rpm - window.requests < requests[0]):
            requests = (rpm - window.requests, rpm, window)
        if tpm is not None and (tokens is None or tpm - window.tokens < tokens[0]):
            tokens = (tpm - window.tokens, tpm, window)
    return _room(requests, now), _room(tokens, now)


def _room(tightest: tuple[int, int, Window] | None, now: int) -> Room | None:
    if tightest is None:
        return None
    left, limit, window = tightest
    return Room(limit, max(0, left), window.oldest_leaves_in(now) / SECOND)
