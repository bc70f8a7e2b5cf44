"""The last minute of one scope, in buckets of a second, and what in it is in the way of one more request.

Pure: times come in, as microseconds. `scripts.py` has the same rules for Redis, in the same order.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ownstudio.limits.terms import (
    CONCURRENCY_RETRY,
    MINUTE,
    SECOND,
    SURGE_FREE,
    SURGE_SECONDS,
    Cap,
    Concurrency,
    Kind,
)

NEVER = float("inf")


class Obstacle(NamedTuple):
    """What is in the way, and for how many microseconds."""

    wait: float
    kind: Kind
    scope: str
    limit: int
    current: int
    window_s: int


class _Bucket:
    """What was taken within one second; `last` is when it was taken from last."""

    __slots__ = ("last", "requests", "second", "tokens")

    def __init__(self, second: int, last: int) -> None:
        self.second = second
        self.last = last
        self.requests = 0
        self.tokens = 0


class Window:
    """At most 61 buckets, oldest first, with their sums."""

    __slots__ = ("_buckets", "requests", "tokens")

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque()
        self.requests = 0
        self.tokens = 0

    def forget(self, now: int) -> None:
        """Drop what has left the window."""
        buckets = self._buckets
        while buckets and buckets[0].last <= now - MINUTE:
            gone = buckets.popleft()
            self.requests -= gone.requests
            self.tokens -= gone.tokens

    def take(self, tokens: int, now: int) -> None:
        second = now // SECOND
        if not self._buckets or self._buckets[-1].second != second:
            self._buckets.append(_Bucket(second, now))
        bucket = self._buckets[-1]
        bucket.last = now
        bucket.requests += 1
        bucket.tokens += tokens
        self.requests += 1
        self.tokens += tokens

    def put_back(self, second: int, requests: int, tokens: int) -> None:
        """Take out of the bucket of a second what it still has of this; negative tokens are put in."""
        for bucket in reversed(self._buckets):
            if bucket.second == second:
                requests = min(requests, bucket.requests)
                tokens = min(tokens, bucket.tokens)
                bucket.requests -= requests
                bucket.tokens -= tokens
                self.requests -= requests
                self.tokens -= tokens
            if bucket.second <= second:
                return

    def restore(self, at: int, requests: int, tokens: int) -> None:
        """Put in what was taken at a time in the past, whatever is there already."""
        second = at // SECOND
        place = len(self._buckets)
        while place and self._buckets[place - 1].second > second:
            place -= 1
        if not place or self._buckets[place - 1].second != second:
            self._buckets.insert(place, _Bucket(second, at))
            place += 1
        bucket = self._buckets[place - 1]
        bucket.last = max(bucket.last, at)
        bucket.requests += requests
        bucket.tokens += tokens
        self.requests += requests
        self.tokens += tokens

    def empty_in(self, now: int) -> int:
        """Microseconds until nothing is left of it."""
        return max(0, self._buckets[-1].last + MINUTE - now) if self._buckets else 0

    def oldest_leaves_in(self, now: int) -> int:
        return self._buckets[0].last + MINUTE - now if self._buckets else 0

    def judge(
        self, cap: Cap, tokens: int, now: int, per_second: bool, found: list[Obstacle]
    ) -> None:
        """Add to `found` all that keeps one more request with so many tokens from passing under a cap."""
        rpm, tpm = cap.requests_per_minute, cap.tokens_per_minute
        this_requests, this_tokens = self._this_second(now) if per_second else (0, 0)
        if rpm is not None and self.requests >= rpm:
            left_in = self._requests_leave_in(self.requests + 1 - rpm, now)
            found.append(Obstacle(left_in, "requests", cap.scope, rpm, self.requests, 60))
        if rpm is not None and per_second:
            share = -(-rpm // 60)
            if this_requests >= share:
                next_second = SECOND - now % SECOND
                found.append(Obstacle(next_second, "requests", cap.scope, share, this_requests, 1))
        if tpm is not None and self.tokens + tokens > tpm:
            wait: float = NEVER
            if tokens <= tpm:
                wait = self._tokens_leave_in(self.tokens + tokens - tpm, now)
            found.append(Obstacle(wait, "tokens", cap.scope, tpm, self.tokens, 60))
        if tpm is not None and per_second:
            share = -(-tpm // 60)
            if this_tokens and this_tokens + tokens > share:
                next_second = SECOND - now % SECOND
                found.append(Obstacle(next_second, "tokens", cap.scope, share, this_tokens, 1))

    def judge_surge(self, scope: str, surge: float, now: int, found: list[Obstacle]) -> None:
        """The surge rule, over the requests of this window."""
        second = now // SECOND
        counts = {bucket.second: bucket.requests for bucket in self._buckets}

        def ten_until(end: int) -> int:
            return sum(counts.get(end - back, 0) for back in range(SURGE_SECONDS))

        def over(end: int) -> bool:
            allowed = surge * ten_until(end - SURGE_SECONDS) + SURGE_FREE
            return ten_until(end) + 1 > allowed

        later = 0
        while over(second + later):
            later += 1
        if later:
            allowed = int(surge * ten_until(second - SURGE_SECONDS)) + SURGE_FREE
            wait = (second + later) * SECOND - now
            found.append(Obstacle(wait, "burst", scope, allowed, ten_until(second), SURGE_SECONDS))

    def _this_second(self, now: int) -> tuple[int, int]:
        """Requests and tokens taken in it so far."""
        if self._buckets:
            newest = self._buckets[-1]
            if newest.second == now // SECOND:
                return newest.requests, newest.tokens
        return 0, 0

    def _requests_leave_in(self, count: int, now: int) -> int:
        return _leave_in(((bucket.requests, bucket.last) for bucket in self._buckets), count, now)

    def _tokens_leave_in(self, count: int, now: int) -> int:
        return _leave_in(((bucket.tokens, bucket.last) for bucket in self._buckets), count, now)


def _leave_in(taken: Iterable[tuple[int, int]], count: int, now: int) -> int:
    """Microseconds until `count` of what is in the window will have left it."""
    for amount, last in taken:
        count -= amount
        if count <= 0:
            return last + MINUTE - now
    raise AssertionError(f"{count} more should leave the window than are in it")


class Leases:
    """Who runs now in one scope: receipts, each with the time when it counts as dead."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def judge(self, most: Concurrency, now: int, found: list[Obstacle]) -> None:
        if len(self._ends) < most.limit:
            return
        self._ends = {receipt: end for receipt, end in self._ends.items() if end > now}
        running = len(self._ends)
        if running >= most.limit:
            found.append(
                Obstacle(CONCURRENCY_RETRY, "concurrency", most.scope, most.limit, running, 0)
            )

    def take(self, receipt: str, end: int) -> None:
        self._ends[receipt] = end

    def release(self, receipt: str) -> None:
        self._ends.pop(receipt, None)
