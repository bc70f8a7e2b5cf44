"""Admits requests or refuses them, and lets them wait for their turn where that is wished.

Whoever is admitted is settled or withdrawn exactly once. With waiting switched on, all who are refused in one account
stand in one line, which a task of its own serves. It asks the counters for the head of each turn, and again when as
much has left the window as the refusal said, or when something comes back: timers and events, no polling, save that a
place which another process frees under a concurrency cap is found within a second.

Nobody is overtaken in a scope that is in somebody's way: who comes later in the order waits too, so that a large
request gets its tokens in the end. Whoever is held up by a scope of their own holds up nobody else. A newcomer joins
the line while there is one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.limits.line import Line, Waiter
from ownstudio.limits.memory import MemoryCounters
from ownstudio.limits.terms import (
    Ask,
    Counters,
    CountersDown,
    Grant,
    Kind,
    Pace,
    Refusal,
    scopes_of,
)

# After counters could not be reached, nobody tries again for so long: each try may take as long as its timeout.
DOWN_REST_S = 0.5
DOWN_RETRY_AFTER_S = 1.0
WARN_EVERY_S = 60.0

_WORDS: dict[Kind, tuple[ErrorKind, str]] = {
    "requests": (
        ErrorKind.REQUESTS_LIMITED,
        "Requests rate limit exceeded, please try again later.",
    ),
    "tokens": (
        ErrorKind.TOKENS_LIMITED,
        "Allocated quota exceeded, please increase your quota limit.",
    ),
    "burst": (
        ErrorKind.BURST_LIMITED,
        "Request rate increased too quickly. To ensure system stability, please adjust your client logic to scale "
        "requests more smoothly over time.",
    ),
    "concurrency": (
        ErrorKind.CONCURRENCY_LIMITED,
        "Too many concurrent requests.",
    ),
}

_UNLIMITED = Grant()

log = logging.getLogger(__name__)


class Handle(Protocol):
    def cancel(self) -> None: ...


# As `loop.call_later`, which it is unless a test turns the clock.
CallLater = Callable[[float, Callable[[], None]], Handle]


class Policy(Struct, frozen=True):
    """How limits are kept: with `wait_s` above 0 at most `waiting_max` requests wait, each so long at most.

    `when_down`: while the shared counters are away, `refuse` answers 503 and `allow` counts in this process alone.
    """

    pace: Pace = Pace()
    wait_s: float = 0.0
    waiting_max: int = 10_000
    when_down: Literal["refuse", "allow"] = "refuse"


class LimitReached(StudioError):
    """A limit is in the way; `refusal` has what the headers of the answer tell of it."""

    def __init__(self, refusal: Refusal, retry_after: float | None) -> None:
        kind, message = _WORDS[refusal.kind]
        within = f" in {refusal.window_s} s" if refusal.window_s else " at once"
        super().__init__(
            kind,
            message,
            detail=f"{refusal.scope}: {refusal.current} of {refusal.limit} {_unit(refusal)}{within}",
            retry_after=retry_after,
        )
        self.refusal = refusal


class Limiter:
    """`fallback` counts while `counters` are away, if the policy says so. The clocks are for tests to turn."""

    def __init__(
        self,
        counters: Counters,
        policy: Policy,
        *,
        fallback: MemoryCounters | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        call_later: CallLater | None = None,
    ) -> None:
        self._counters = counters
        self._policy = policy
        self._fallback = fallback or MemoryCounters(monotonic=monotonic)
        self._monotonic = monotonic
        self._call_later = call_later
        self._lines: dict[str, Line] = {}
        self._waiting = 0
        self._owned: set[asyncio.Task[None]] = set()
        self._resting_until = float("-inf")
        self._warned_at = float("-inf")

    @property
    def waiting(self) -> int:
        return self._waiting

    async def admit(self, ask: Ask) -> Grant:
        """Let a request pass, now or after a wait. Raises LimitReached, StudioError STORE_UNAVAILABLE."""
        if not self._limited(ask):
            return _UNLIMITED
        line = self._lines.get(ask.account)
        if line:
            # Why others wait is all that is known, and what is left of their limits is not this one's to know.
            refusal = msgspec.structs.replace(line.refusal, requests=None, tokens=None)
            return await self._wait(ask, refusal, 0.0)
        taken = await self._take(ask)
        if isinstance(taken, Grant):
            return taken
        now = self._monotonic()
        if _hopeless(taken, now, now + self._policy.wait_s):
            raise LimitReached(taken, taken.retry_after_s)
        return await self._wait(ask, taken, taken.retry_after_s or 0.0)

    async def settle(self, grant: Grant, tokens: int) -> None:
        """Count what a request really used instead of what was reserved, and end its concurrency. Never raises."""
        await self._put_back(grant, 0, grant.reserved - tokens)

    async def withdraw(self, grant: Grant) -> None:
        """Undo an admission of which nothing came. Never raises."""
        await self._put_back(grant, 1, grant.reserved)

    async def close(self) -> None:
        """Send everybody away who still waits, and finish what is under way. The counters must stay open until then."""
        for line in list(self._lines.values()):
            for waiter in line.everybody():
                self._fail(
                    line,
                    waiter,
                    StudioError(
                        ErrorKind.SHUTTING_DOWN,
                        "The service is shutting down, please try again later.",
                        retry_after=DOWN_RETRY_AFTER_S,
                    ),
                )
        while self._owned:
            await asyncio.wait(self._owned)

    def _limited(self, ask: Ask) -> bool:
        if ask.concurrency:
            return True
        if ask.surge_scope is not None and self._policy.pace.surge > 0:
            return True
        # A loop, since most servers limit nothing and every request comes by here.
        for cap in ask.caps:  # noqa: SIM110
            if cap.requests_per_minute is not None or cap.tokens_per_minute is not None:
                return True
        return False

    # --- The counters, and what happens without them.

    async def _take(self, ask: Ask) -> Grant | Refusal:
        if self._monotonic() >= self._resting_until:
            try:
                return await self._counters.take(ask, self._policy.pace)
            except CountersDown as error:
                self._resting_until = self._monotonic() + DOWN_REST_S
                self._warn(error)
        if self._policy.when_down == "refuse":
            raise StudioError(
                ErrorKind.STORE_UNAVAILABLE,
                "The limits could not be checked, please try again later.",
                detail="the shared counters are away",
                retry_after=DOWN_RETRY_AFTER_S,
            )
        taken = await self._fallback.take(ask, self._policy.pace)
        if isinstance(taken, Grant):
            return msgspec.structs.replace(taken, from_fallback=True)
        return taken

    async def _put_back(self, grant: Grant, requests: int, tokens: int) -> None:
        if grant is _UNLIMITED or not (requests or tokens or grant.concurrency):
            return
        counters: Counters = self._fallback if grant.from_fallback else self._counters
        try:
            await counters.put_back(grant, requests=requests, tokens=tokens)
        except CountersDown as error:
            self._warn(error)
            return
        line = self._lines.get(grant.account)
        if line is not None:
            line.loosen((*grant.scopes, *(most.scope for most in grant.concurrency)))

    def _warn(self, error: CountersDown) -> None:
        now = self._monotonic()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            what = "answering 503" if self._policy.when_down == "refuse" else "counting here alone"
            log.warning("limits: %s; %s until it is back", error, what)

    # --- Waiting.

    async def _wait(self, ask: Ask, refusal: Refusal, ready_in_s: float) -> Grant:
        """Stand in line. `refusal` is why, as far as is known; there is no use in asking before `ready_in_s`."""
        if self._waiting >= self._policy.waiting_max:
            raise LimitReached(refusal, refusal.retry_after_s)
        line = self._lines.get(ask.account)
        if line is None:
            line = self._lines[ask.account] = Line()
            self._own(self._serve(ask.account, line))
        waiter = Waiter(ask, self._obstacles(ask), self._monotonic(), self._policy.wait_s)
        waiter.refuse(refusal, waiter.since, ready_in_s)
        line.join(waiter)
        timer = self._later(self._policy.wait_s, lambda: self._expire(line, waiter))
        self._waiting += 1
        try:
            return await waiter.outcome
        except asyncio.CancelledError:
            line.leave(waiter)
            outcome = waiter.outcome
            if outcome.done() and not outcome.cancelled() and outcome.exception() is None:
                # The grant and the hang-up came in the same turn of the loop.
                self._own(self.withdraw(outcome.result()))
            raise
        finally:
            timer.cancel()
            self._waiting -= 1

    def _expire(self, line: Line, waiter: Waiter) -> None:
        told = waiter.refusal.retry_after_s
        left = None if told is None else max(0.0, waiter.refused_at + told - self._monotonic())
        self._fail(line, waiter, LimitReached(waiter.refusal, left))

    async def _serve(self, account: str, line: Line) -> None:
        """Serve a line until nobody is left in it. Whatever ends this, nobody is left standing."""
        timer: Handle | None = None
        try:
            while line:
                line.kicked.clear()
                began = self._monotonic()
                await self._pass(line)
                if timer is not None:
                    timer.cancel()
                    timer = None
                # Compared with when the pass began: what has become ready since was not ready when it was looked at.
                ready = [head.ready_at for head in line.heads() if head.ready_at > began]
                if ready:
                    delay_s = max(0.0, min(ready) - self._monotonic())
                    timer = self._later(delay_s, line.kicked.set)
                if line:
                    await line.kicked.wait()
        finally:
            if timer is not None:
                timer.cancel()
            del self._lines[account]
            for waiter in line.everybody():
                self._fail(
                    line,
                    waiter,
                    StudioError(ErrorKind.INTERNAL, "The request could not be admitted."),
                )

    async def _pass(self, line: Line) -> None:
        """Admit, turn by turn, all who can be admitted now."""
        in_the_way: set[str] = set()
        moved = True
        while moved:
            moved = False
            for waiter in line.heads():
                if await self._try(line, waiter, in_the_way):
                    moved = True

    async def _try(self, line: Line, waiter: Waiter, in_the_way: set[str]) -> bool:
        """Whether somebody left the line, so that the next of their turn may be tried."""
        now = self._monotonic()
        if waiter.outcome.done() or not in_the_way.isdisjoint(waiter.scopes):
            return False
        if waiter.ready_at > now:
            in_the_way.add(waiter.refusal.scope)
            return False
        try:
            taken = await self._take(waiter.ask)
        except StudioError as error:
            self._fail(line, waiter, error)
            return True
        if isinstance(taken, Grant):
            if waiter.outcome.done():
                await self.withdraw(taken)
                return True
            line.serve(waiter)
            waiter.outcome.set_result(msgspec.structs.replace(taken, waited_s=now - waiter.since))
            return True
        waiter.refuse(taken, now, taken.retry_after_s or 0.0)
        if _hopeless(taken, now, waiter.deadline):
            self._fail(line, waiter, LimitReached(taken, taken.retry_after_s))
            return True
        in_the_way.add(taken.scope)
        return False

    def _fail(self, line: Line, waiter: Waiter, error: StudioError) -> None:
        line.leave(waiter)
        if not waiter.outcome.done():
            waiter.outcome.set_exception(error)

    def _obstacles(self, ask: Ask) -> tuple[str, ...]:
        """Every scope that a refusal of this ask may name."""
        return (*scopes_of(ask, self._policy.pace), *(most.scope for most in ask.concurrency))

    def _later(self, delay_s: float, callback: Callable[[], None]) -> Handle:
        call_later = self._call_later or asyncio.get_running_loop().call_later
        return call_later(delay_s, callback)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)


def _hopeless(refusal: Refusal, now: float, deadline: float) -> bool:
    """Whether what is in the way will be so until the deadline. A running request may end at any moment."""
    if refusal.kind == "concurrency":
        return now >= deadline
    return refusal.retry_after_s is None or now + refusal.retry_after_s >= deadline


def _unit(refusal: Refusal) -> str:
    return "tokens" if refusal.kind == "tokens" else "requests"
