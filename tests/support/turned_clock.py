"""A clock that stands still until a test turns it, with the timers that depend on it."""

import asyncio
from collections.abc import Callable


class Timer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class TurnedClock:
    """Call it for the time. `call_later` is the event loop's, in this time."""

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time
        self._timers: list[Timer] = []

    def __call__(self) -> float:
        return self.time

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.time + delay_s, callback)
        self._timers.append(timer)
        return timer

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for timer in self._timers)

    async def turn(self, seconds: float) -> None:
        """Let time pass, stopping at each timer on the way for as long as its consequences take."""
        end = self.time + seconds
        while True:
            self._timers = [timer for timer in self._timers if not timer.cancelled]
            due = min(self._timers, key=lambda timer: timer.at, default=None)
            if due is None or due.at > end:
                break
            self._timers.remove(due)
            self.time = max(self.time, due.at)
            due.callback()
            await idle()
        self.time = end
        await idle()


async def idle() -> None:
    """Until every task of the loop waits for something, as long as no task is a long chain of others."""
    for _ in range(20):
        await asyncio.sleep(0)
