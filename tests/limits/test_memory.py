"""What counters in memory do besides counting: they stay small, and they outlive a restart."""

import pytest

from ownstudio.limits import Ask, Cap, Concurrency, Grant, MemoryCounters, Pace, Refusal
from ownstudio.limits.window import Window
from support.turned_clock import TurnedClock

PACE = Pace(per_second=False)


def ask(scope: str, rpm: int | None = None, tpm: int | None = None, tokens: int = 0) -> Ask:
    return Ask("receipt", "account", "key", (Cap(scope, rpm, tpm),), tokens)


async def test_scopes_are_forgotten_when_they_have_been_idle_for_a_minute(
    clock: TurnedClock,
) -> None:
    counters = MemoryCounters(monotonic=clock)
    await counters.take(ask("busy", 10**6), PACE)
    for number in range(1000):
        await counters.take(ask(f"scope {number}", 10), PACE)
        await clock.turn(0.01)
    assert counters.scopes == 1001
    for _ in range(300):
        await clock.turn(1)
        await counters.take(ask("busy", 10**6), PACE)
    assert counters.scopes == 1


async def test_whoever_has_nothing_running_leaves_no_lease_behind(clock: TurnedClock) -> None:
    counters = MemoryCounters(monotonic=clock)
    for number in range(100):
        one = Ask("receipt", "account", "key", concurrency=(Concurrency(f"key {number}", 1, 30),))
        grant = await counters.take(one, PACE)
        assert isinstance(grant, Grant)
        await counters.put_back(grant, requests=0, tokens=0)
    assert counters.scopes == 0


def test_a_window_never_has_more_than_61_buckets() -> None:
    window = Window()
    for number in range(5000):
        now = number * 100_003
        window.forget(now)
        window.take(1, now)
        assert len(window._buckets) <= 61
    assert 590 <= window.requests <= 610


async def test_the_last_minute_counts_again_after_a_restart() -> None:
    """Whatever the clock of the new process says, and in whatever order the rows come."""
    clock, wall = TurnedClock(7), TurnedClock(1_900_000_000)
    counters = MemoryCounters(monotonic=clock, now=wall)
    counters.restore("account", wall() - 61, 5, 5000)
    assert counters.scopes == 0
    counters.restore("account", wall() - 10.75, 1, 100)
    counters.restore("account", wall() - 40.25, 2, 100)
    counters.restore("account", wall() - 10.5, 1, 300)
    refusal = await counters.take(ask("account", 4, tokens=1), PACE)
    assert isinstance(refusal, Refusal)
    assert refusal.current == 4
    assert refusal.retry_after_s == pytest.approx(19.75)
    refusal = await counters.take(ask("account", None, 500, tokens=400), PACE)
    assert isinstance(refusal, Refusal)
    assert refusal.current == 500
    assert refusal.retry_after_s == pytest.approx(49.5)
    await clock.turn(49.5)
    assert isinstance(await counters.take(ask("account", 1, 1, tokens=1), PACE), Grant)


async def test_a_row_of_the_future_counts_as_of_now() -> None:
    clock = TurnedClock()
    counters = MemoryCounters(monotonic=clock, now=clock)
    counters.restore("account", clock() + 3600, 1, 0)
    refusal = await counters.take(ask("account", 1), PACE)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == 60
