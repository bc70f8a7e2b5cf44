"""Tells a worker that hangs from one that is busy, and ends it.

Every event, of whichever stream, is a sign of life of the worker as a whole: a stream without any may merely stand
behind the prefill of another. Two rules follow, for as long as somebody waits:

* No sign for `probe_after_s`: the worker is asked whether it answers HTTP at all. One that does not has hung.
* No sign for `silence_s`, though it answers: its computation has hung.

The question is asked even if whoever waited has left: clients less patient than these rules must not keep a dead
worker in its place for ever.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


class HangWatch:
    """Watches one worker for one life. `answers` asks it, within bounds; `end` puts it away."""

    def __init__(
        self,
        answers: Callable[[], Awaitable[bool]],
        end: Callable[[], None],
        *,
        probe_after_s: float,
        silence_s: float,
    ) -> None:
        self._answers = answers
        self._end = end
        self._probe_after_s = min(probe_after_s, silence_s)
        self._silence_s = silence_s
        self._waiting = 0
        self._waiting_since = 0.0
        self._heard_at = 0.0
        self._watching: asyncio.Task[None] | None = None
        self.signs = 0

    def heard(self) -> None:
        """Note a sign of life. `signs` counts them."""
        self.signs += 1
        self._heard_at = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each wait for the worker: a stream whose own reader pauses waits for nothing."""
        if self._waiting == 0:
            self._waiting_since = time.monotonic()
        self._waiting += 1
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(time.monotonic()))
        try:
            yield
        finally:
            self._waiting -= 1

    def close(self) -> None:
        if self._watching:
            self._watching.cancel()

    async def _watch(self, quiet_since: float) -> None:
        try:
            while True:
                await asyncio.sleep(quiet_since + self._probe_after_s - time.monotonic())
                if self._heard_at > quiet_since:
                    quiet_since = self._heard_at
                elif await self._hangs():
                    self._end()
                    return
                else:
                    quiet_since = time.monotonic()
                if not self._waiting:
                    return
        finally:
            self._watching = None

    async def _hangs(self) -> bool:
        signs = self.signs
        answers = await self._answers()
        if self.signs != signs:
            return False
        silent_s = time.monotonic() - max(self._heard_at, self._waiting_since)
        return not answers or (self._waiting > 0 and silent_s >= self._silence_s)
