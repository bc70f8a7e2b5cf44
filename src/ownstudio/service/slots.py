"""The right to use an engine: a bounded queue in front of a deployment's slots.

First come, first served, and a request for several slots is never overtaken by smaller ones, so it cannot starve.
"""

import asyncio
from collections import deque

from ownstudio.core.errors import ErrorKind, StudioError

# What a client that was turned away is told to wait; long enough to let a short answer finish.
RETRY_AFTER_S = 2.0


class SlotQueue:
    """Lends `slots` slots; at most `queue_max` requests wait, each at most `wait_s` seconds."""

    def __init__(self, slots: int, queue_max: int, wait_s: float) -> None:
        self._free = slots
        self.slots = slots
        self._queue_max = queue_max
        self._wait_s = wait_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def busy(self) -> int:
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def acquire(self, count: int) -> None:
        """Hold `count` slots until `release`. Raises StudioError OVERLOADED: queue full, or too long a wait."""
        if count > self.slots:
            raise ValueError(f"{count} slots asked of {self.slots}")
        if self._waiting or count > self._free:
            await self._wait(count)
        else:
            self._free -= count

    def release(self, count: int) -> None:
        self._free += count
        self._hand_out()

    async def _wait(self, count: int) -> None:
        if len(self._waiting) >= self._queue_max:
            raise _overloaded(f"{len(self._waiting)} requests are waiting already")
        granted = asyncio.get_running_loop().create_future()
        entry = (count, granted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._wait_s):
                await granted
        except BaseException as reason:
            if granted.done() and not granted.cancelled():
                # The grant and the interruption came in the same turn of the loop: give the slots back.
                self._free += count
            elif entry in self._waiting:
                # Else a release in the same turn of the loop has found it gone already.
                self._waiting.remove(entry)
            self._hand_out()
            if isinstance(reason, TimeoutError):
                raise _overloaded(f"waited {self._wait_s:g} s for a slot") from None
            raise

    def _hand_out(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            count, granted = self._waiting.popleft()
            if not granted.done():
                self._free -= count
                granted.set_result(None)


def _overloaded(detail: str) -> StudioError:
    return StudioError(
        ErrorKind.OVERLOADED,
        "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
        detail=detail,
        retry_after=RETRY_AFTER_S,
    )
