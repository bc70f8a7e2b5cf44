"""Waiting for a turn instead of being refused: in order, within bounds, fairly between keys."""

import asyncio
import random
from collections.abc import Callable

import pytest

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.limits import (
    Ask,
    Cap,
    Concurrency,
    Counters,
    CountersDown,
    Grant,
    Limiter,
    LimitReached,
    MemoryCounters,
    Pace,
    Policy,
    Refusal,
)
from ownstudio.limits.redis import RedisCounters
from support.turned_clock import TurnedClock, idle

MINUTE_ALONE = Pace(per_second=False)
WAIT_S = 100.0


def ask(
    turn: str,
    rpm: int | None = None,
    tpm: int | None = None,
    tokens: int = 0,
    account: str = "account",
    own_rpm: int | None = None,
    at_once: int | None = None,
    all_at_once: int | None = None,
) -> Ask:
    """One request of a key under a cap of the account and perhaps one of its own."""
    caps = [Cap(f"account:{account}", rpm, tpm)] if rpm or tpm else []
    if own_rpm is not None:
        caps.append(Cap(f"key:{turn}", own_rpm))
    running = []
    if all_at_once is not None:
        running.append(Concurrency("running", all_at_once, 1000))
    if at_once is not None:
        running.append(Concurrency(f"running:{turn}", at_once, 1000))
    return Ask(
        receipt=str(random.getrandbits(64)),
        account=account,
        turn=turn,
        caps=tuple(caps),
        tokens=tokens,
        concurrency=tuple(running),
    )


class Crowd:
    """Requests that wait, by name, in the order in which they were admitted."""

    def __init__(
        self,
        clock: TurnedClock,
        counters: Counters | None = None,
        *,
        wait_s: float = WAIT_S,
        waiting_max: int = 100,
        pace: Pace = MINUTE_ALONE,
    ) -> None:
        self.clock = clock
        self.limiter = Limiter(
            counters or MemoryCounters(monotonic=clock),
            Policy(pace, wait_s=wait_s, waiting_max=waiting_max),
            monotonic=clock,
            call_later=clock.call_later,
        )
        self.admitted: list[str] = []
        self.grants: dict[str, Grant] = {}
        self.refused: dict[str, StudioError] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, asked: Ask) -> None:
        self.tasks[name] = asyncio.get_running_loop().create_task(self._wait(name, asked))
        await idle()

    async def hang_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await idle()

    async def _wait(self, name: str, asked: Ask) -> None:
        try:
            self.grants[name] = await self.limiter.admit(asked)
            self.admitted.append(name)
        except StudioError as error:
            self.refused[name] = error


@pytest.fixture
async def crowd(clock: TurnedClock) -> Crowd:
    return Crowd(clock)


async def test_a_request_waits_until_there_is_room_and_is_told_how_long(
    crowd: Crowd, clock: TurnedClock
) -> None:
    await crowd.come("first", ask("a", rpm=1))
    await clock.turn(13)
    await crowd.come("second", ask("a", rpm=1))
    assert crowd.limiter.waiting == 1
    await clock.turn(46.9)
    assert crowd.admitted == ["first"]
    await clock.turn(0.1)
    assert crowd.admitted == ["first", "second"]
    assert crowd.grants["first"].waited_s == 0
    assert crowd.grants["second"].waited_s == pytest.approx(47)
    assert crowd.limiter.waiting == 0
    assert clock.pending == 0


async def test_keys_take_turns_and_each_keeps_its_order(crowd: Crowd, clock: TurnedClock) -> None:
    await crowd.come("now", ask("z", rpm=1))
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        await crowd.come(name, ask(name[0], rpm=1))
    # One a minute, of whom each may wait for 100 s: so time is let pass a minute at a time with a larger limit.
    await clock.turn(60)
    assert crowd.admitted == ["now", "a1"]
    grown = Crowd(clock)
    await grown.come("now", ask("z", rpm=7, tpm=7, tokens=7))
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        await grown.come(name, ask(name[0], rpm=7, tpm=7, tokens=1))
    await clock.turn(60)
    assert grown.admitted == ["now", "a1", "b1", "c1", "a2", "b2", "a3", "a4"]


async def test_a_turn_that_was_served_stands_behind_the_others_also_later(
    crowd: Crowd, clock: TurnedClock
) -> None:
    for number in range(2):
        await crowd.come(f"now {number}", ask("z", rpm=2))
        await clock.turn(10)
    for name in ("a1", "a2", "b1"):
        await crowd.come(name, ask(name[0], rpm=2))
    await clock.turn(40)
    assert crowd.admitted[2:] == ["a1"]
    await clock.turn(10)
    assert crowd.admitted[2:] == ["a1", "b1"]


async def test_whoever_is_held_up_by_a_cap_of_their_own_holds_up_nobody_else(
    crowd: Crowd, clock: TurnedClock
) -> None:
    await crowd.come("a1", ask("a", rpm=3, own_rpm=1))
    await crowd.come("a2", ask("a", rpm=3, own_rpm=1))
    await crowd.come("b1", ask("b", rpm=3))
    assert crowd.admitted == ["a1", "b1"]
    await crowd.come("b2", ask("b", rpm=3))
    await crowd.come("b3", ask("b", rpm=3))
    assert crowd.admitted == ["a1", "b1", "b2"]
    await clock.turn(60)
    assert set(crowd.admitted[3:]) == {"a2", "b3"}


async def test_a_newcomer_overtakes_nobody_who_could_be_admitted(
    crowd: Crowd, clock: TurnedClock
) -> None:
    """Small requests never keep a large one from its tokens."""
    await crowd.come("half", ask("a", tpm=100, tokens=50))
    await clock.turn(10)
    await crowd.come("large", ask("b", tpm=100, tokens=80))
    await crowd.come("small", ask("c", tpm=100, tokens=10))
    assert crowd.admitted == ["half"]
    await clock.turn(50)
    assert crowd.admitted == ["half", "large", "small"]


async def test_whoever_is_refused_in_the_middle_is_not_overtaken_either(
    clock: TurnedClock,
) -> None:
    crowd = Crowd(clock, wait_s=200)
    await crowd.come("now", ask("z", tpm=100, tokens=100))
    await crowd.come("first", ask("a", tpm=100, tokens=60))
    await clock.turn(1)
    await crowd.come("large", ask("b", tpm=100, tokens=80))
    await crowd.come("small", ask("c", tpm=100, tokens=10))
    await clock.turn(59)
    assert crowd.admitted == ["now", "first"]
    await crowd.limiter.settle(crowd.grants["first"], 20)
    await idle()
    assert crowd.admitted == ["now", "first", "large"]
    await crowd.limiter.settle(crowd.grants["large"], 20)
    await idle()
    assert crowd.admitted == ["now", "first", "large", "small"]


async def test_within_a_key_the_order_is_that_of_arrival(crowd: Crowd, clock: TurnedClock) -> None:
    await crowd.come("half", ask("a", tpm=100, tokens=50))
    await crowd.come("large", ask("b", tpm=100, tokens=80))
    await crowd.come("other", ask("b", own_rpm=5))
    assert crowd.admitted == ["half"]
    await clock.turn(60)
    assert crowd.admitted == ["half", "large", "other"]


async def test_accounts_do_not_wait_for_each_other(crowd: Crowd) -> None:
    await crowd.come("one", ask("a", rpm=1))
    await crowd.come("two", ask("a", rpm=1))
    await crowd.come("other", ask("b", rpm=1, account="other"))
    assert crowd.admitted == ["one", "other"]
    assert crowd.limiter.waiting == 1
    await crowd.limiter.close()


async def test_a_wait_that_cannot_succeed_is_refused_at_once(clock: TurnedClock) -> None:
    crowd = Crowd(clock, wait_s=30)
    await crowd.come("first", ask("a", rpm=1))
    await clock.turn(29)
    await crowd.come("early", ask("a", rpm=1))
    await crowd.come("huge", ask("a", tpm=10, tokens=11))
    assert crowd.limiter.waiting == 0
    assert crowd.refused["early"].retry_after == 31
    assert crowd.refused["huge"].retry_after is None
    await clock.turn(1)
    await crowd.come("just too early", ask("a", rpm=1))
    assert crowd.refused["just too early"].retry_after == 30
    await clock.turn(0.5)
    await crowd.come("late", ask("a", rpm=1))
    await clock.turn(29.5)
    assert crowd.admitted == ["first", "late"]


async def test_the_next_of_a_key_is_tried_when_its_first_has_no_hope(clock: TurnedClock) -> None:
    crowd = Crowd(clock, wait_s=70)
    await crowd.come("now", ask("a", rpm=1))
    await crowd.come("head", ask("b", rpm=1))
    await crowd.come("huge", ask("b", tpm=10, tokens=11))
    await crowd.come("small", ask("b", tpm=10, tokens=10))
    await clock.turn(60)
    assert crowd.admitted == ["now", "head", "small"]
    assert crowd.refused["huge"].retry_after is None


async def test_waiting_ends_at_the_deadline_with_the_refusal(clock: TurnedClock) -> None:
    crowd = Crowd(clock, wait_s=70)
    await crowd.come("now", ask("a", rpm=1))
    for name in ("b1", "b2", "c1"):
        await crowd.come(name, ask(name[0], rpm=1))
    await clock.turn(60)
    assert crowd.admitted == ["now", "b1"]
    # The room that b1 took comes back long after their deadlines.
    await clock.turn(0.1)
    assert set(crowd.refused) == {"c1", "b2"}
    for name in ("c1", "b2"):
        error = crowd.refused[name]
        assert error.kind is ErrorKind.REQUESTS_LIMITED
        assert error.retry_after == pytest.approx(60)
    assert crowd.limiter.waiting == 0
    assert clock.pending == 0


async def test_whoever_stands_behind_another_gives_up_in_time_too(clock: TurnedClock) -> None:
    crowd = Crowd(clock, wait_s=20)
    await crowd.come("running", ask("a", at_once=1))
    await crowd.come("a1", ask("a", at_once=1))
    await clock.turn(5)
    await crowd.come("a2", ask("a", at_once=1))
    await clock.turn(15)
    assert set(crowd.refused) == {"a1"}
    await clock.turn(5)
    assert set(crowd.refused) == {"a1", "a2"}
    assert crowd.refused["a2"].kind is ErrorKind.CONCURRENCY_LIMITED
    assert clock.pending == 0


async def test_what_a_settled_request_gives_back_admits_the_next_at_once(crowd: Crowd) -> None:
    await crowd.come("a1", ask("a", tpm=100, tokens=100))
    await crowd.come("b1", ask("b", tpm=100, tokens=60))
    await crowd.come("c1", ask("c", tpm=100, tokens=30))
    await crowd.limiter.settle(crowd.grants["a1"], 5)
    await idle()
    assert crowd.admitted == ["a1", "b1", "c1"]
    assert crowd.grants["b1"].waited_s == 0


async def test_the_end_of_a_request_admits_the_next_of_its_key_at_once(crowd: Crowd) -> None:
    for name in ("a1", "a2", "a3"):
        await crowd.come(name, ask("a", at_once=1))
    for last, following in (("a1", "a2"), ("a2", "a3")):
        assert crowd.admitted[-1] == last
        await crowd.limiter.settle(crowd.grants[last], 0)
        await idle()
        assert crowd.admitted[-1] == following


async def test_whoever_waits_for_two_places_is_asked_again_when_either_is_free(
    crowd: Crowd,
) -> None:
    """Without any time passing, whichever of the two was told to be in the way."""
    for ended in (("b1", "a1"), ("a1", "b1")):
        await crowd.come("a1", ask("a", at_once=1, all_at_once=2))
        await crowd.come("b1", ask("b", at_once=1, all_at_once=2))
        await crowd.come("a2", ask("a", at_once=1, all_at_once=2))
        await crowd.come("c1", ask("c", at_once=1, all_at_once=2))
        assert crowd.limiter.waiting == 2
        for name in ended:
            await crowd.limiter.settle(crowd.grants[name], 0)
            await idle()
        assert sorted(crowd.admitted) == ["a1", "a2", "b1", "c1"]
        for name in ("a2", "c1"):
            await crowd.limiter.settle(crowd.grants[name], 0)
        crowd.admitted.clear()


async def test_a_place_that_others_free_is_found_within_a_second(clock: TurnedClock) -> None:
    """As another gateway on the same Redis does it, of which nobody tells this one."""
    counters = MemoryCounters(monotonic=clock)
    crowd = Crowd(clock, counters)
    await crowd.come("a1", ask("a", at_once=1))
    await crowd.come("a2", ask("a", at_once=1))
    await clock.turn(10.5)
    await counters.put_back(crowd.grants["a1"], requests=0, tokens=0)
    await clock.turn(1)
    assert crowd.admitted == ["a1", "a2"]


async def test_a_client_that_hangs_up_leaves_nothing_behind(
    crowd: Crowd, clock: TurnedClock
) -> None:
    await crowd.come("now", ask("a", rpm=1))
    for name in ("b1", "b2", "c1"):
        await crowd.come(name, ask(name[0], rpm=1))
    await crowd.hang_up("b1")
    await crowd.hang_up("c1")
    assert crowd.limiter.waiting == 1
    await clock.turn(60)
    assert crowd.admitted == ["now", "b2"]
    await crowd.limiter.close()
    assert clock.pending == 0


async def test_the_last_who_hangs_up_ends_the_line(crowd: Crowd, clock: TurnedClock) -> None:
    await crowd.come("now", ask("a", rpm=1))
    await crowd.come("b1", ask("b", rpm=1))
    await crowd.hang_up("b1")
    assert clock.pending == 0
    await clock.turn(60)
    await crowd.come("next", ask("c", rpm=1))
    assert crowd.admitted == ["now", "next"]


async def test_a_large_request_that_hangs_up_lets_the_small_ones_pass(crowd: Crowd) -> None:
    await crowd.come("half", ask("a", tpm=100, tokens=50))
    await crowd.come("large", ask("b", tpm=100, tokens=80))
    await crowd.come("small", ask("c", tpm=100, tokens=10))
    assert crowd.admitted == ["half"]
    await crowd.hang_up("large")
    assert crowd.admitted == ["half", "small"]


class Drifting(TurnedClock):
    """Time passes while we compute, too."""

    def __call__(self) -> float:
        self.time += 0.001
        return self.time


@pytest.mark.parametrize("early", range(30))
async def test_time_that_passes_while_a_line_is_served_makes_it_miss_nothing(early: int) -> None:
    clock = Drifting()
    crowd = Crowd(clock)
    await crowd.come("now", ask("a", rpm=1))
    due = clock.time + 60
    await crowd.come("b", ask("b", rpm=1))
    # This one makes everybody be looked at, the moment before there is room.
    await clock.turn(due - early * 0.0005 - clock.time)
    await crowd.come("c", ask("c", own_rpm=1))
    await clock.turn(1)
    assert crowd.admitted[0] == "now"
    assert set(crowd.admitted) == {"now", "b", "c"}


class Telling(MemoryCounters):
    """Calls `then` in the turn of the loop after it has granted something."""

    then: Callable[[], object] | None = None

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        outcome = await super().take(ask, pace)
        if self.then is not None and isinstance(outcome, Grant):
            asyncio.get_running_loop().call_soon(self.then)
            self.then = None
        return outcome


async def test_a_grant_that_meets_a_hang_up_on_its_way_is_withdrawn(clock: TurnedClock) -> None:
    counters = Telling(monotonic=clock)
    crowd = Crowd(clock, counters)
    await crowd.come("now", ask("a", at_once=1))
    await crowd.come("b", ask("a", at_once=1))
    await crowd.come("c", ask("a", at_once=1))
    counters.then = crowd.tasks["b"].cancel
    await crowd.limiter.settle(crowd.grants["now"], 0)
    await idle()
    assert counters.then is None
    assert crowd.tasks["b"].cancelled()
    assert crowd.admitted == ["now", "c"]


class Slow:
    """Counters that take their time, as Redis does."""

    def __init__(self, counters: MemoryCounters) -> None:
        self._counters = counters
        self.held = asyncio.Event()
        self.held.set()
        self.asking = asyncio.Event()
        self.away = False

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        self.asking.set()
        await self.held.wait()
        if self.away:
            raise CountersDown("Redis: gone")
        return await self._counters.take(ask, pace)

    async def put_back(self, grant: Grant, *, requests: int, tokens: int) -> None:
        await self._counters.put_back(grant, requests=requests, tokens=tokens)


@pytest.mark.parametrize("leave", ["hang up", "deadline"])
async def test_a_grant_for_somebody_who_has_gone_meanwhile_goes_to_the_next(
    clock: TurnedClock, leave: str
) -> None:
    slow = Slow(MemoryCounters(monotonic=clock))
    crowd = Crowd(clock, slow, wait_s=60.5)
    await crowd.come("now", ask("a", rpm=1))
    await crowd.come("b", ask("b", rpm=1))
    await clock.turn(30)
    await crowd.come("c", ask("c", rpm=1))
    slow.asking.clear()
    slow.held.clear()
    await clock.turn(30)
    assert slow.asking.is_set()
    if leave == "hang up":
        await crowd.hang_up("b")
    else:
        await clock.turn(1)
    slow.held.set()
    await idle()
    assert crowd.admitted == ["now", "c"]


async def test_redis_gone_while_others_wait_is_told_to_all_of_them(clock: TurnedClock) -> None:
    slow = Slow(MemoryCounters(monotonic=clock))
    crowd = Crowd(clock, slow)
    await crowd.come("now", ask("a", rpm=1))
    for name in ("b1", "b2", "c1"):
        await crowd.come(name, ask(name[0], rpm=1))
    slow.away = True
    await clock.turn(60)
    assert {name: error.kind for name, error in crowd.refused.items()} == dict.fromkeys(
        ("b1", "b2", "c1"), ErrorKind.STORE_UNAVAILABLE
    )
    assert crowd.limiter.waiting == 0


async def test_not_more_than_so_many_wait(clock: TurnedClock) -> None:
    crowd = Crowd(clock, waiting_max=2)
    await crowd.come("now", ask("a", rpm=1))
    for name in ("a1", "a2", "a3"):
        await crowd.come(name, ask("a", rpm=1))
    assert crowd.limiter.waiting == 2
    error = crowd.refused["a3"]
    assert isinstance(error, LimitReached)
    assert error.retry_after == 60
    # Of a limit that it was not asked under it learns nothing.
    assert error.refusal.requests is None
    await crowd.come("other", ask("a", rpm=1, account="other"))
    assert crowd.admitted == ["now", "other"]
    await crowd.limiter.close()


async def test_at_the_end_all_who_wait_are_sent_away(crowd: Crowd, clock: TurnedClock) -> None:
    await crowd.come("now", ask("a", rpm=1))
    for name in ("b1", "b2", "c1"):
        await crowd.come(name, ask(name[0], rpm=1))
    await crowd.limiter.close()
    await idle()
    assert {error.kind for error in crowd.refused.values()} == {ErrorKind.SHUTTING_DOWN}
    assert len(crowd.refused) == 3
    assert clock.pending == 0


class Broken(MemoryCounters):
    broken = False

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        if self.broken:
            raise ZeroDivisionError
        return await super().take(ask, pace)


async def test_a_fault_of_ours_strands_nobody(clock: TurnedClock) -> None:
    counters = Broken(monotonic=clock)
    crowd = Crowd(clock, counters)
    await crowd.come("now", ask("a", rpm=1))
    for name in ("b1", "b2", "c1"):
        await crowd.come(name, ask(name[0], rpm=1))
    counters.broken = True
    faults: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: faults.append(context["exception"])
    )
    await clock.turn(60)
    assert {error.kind for error in crowd.refused.values()} == {ErrorKind.INTERNAL}
    assert len(crowd.refused) == 3
    counters.broken = False
    await clock.turn(1)
    await crowd.come("next", ask("a", rpm=1))
    assert crowd.admitted == ["now", "next"]


@pytest.mark.parametrize("seed", range(20))
async def test_any_crowd_is_served_within_its_limits_and_leaves_nothing_behind(
    clock: TurnedClock, seed: int
) -> None:
    """Arrivals, hang-ups and ends in any order: limits hold, everybody gets an answer, and all is given back."""
    draw = random.Random(seed)
    counters = MemoryCounters(monotonic=clock)
    crowd = Crowd(clock, counters, wait_s=draw.choice((5, 40, 90)), pace=Pace(draw.random() < 0.5))
    running: dict[str, Grant] = {}
    most_running = 0
    for number in range(150):
        key = draw.choice("abcd")
        one = ask(
            key, 60, 3000, draw.choice((10, 200, 900)), own_rpm=draw.choice((None, 20)), at_once=3
        )
        await crowd.come(f"{key}{number}", one)
        for name, grant in crowd.grants.items():
            running.setdefault(name, grant)
        for key in "abcd":
            now_running = [name for name in running if name[0] == key and name in crowd.grants]
            most_running = max(most_running, len(now_running))
        for name in list(running):
            if draw.random() < 0.3:
                await crowd.limiter.settle(running.pop(name), draw.randrange(0, 400))
                del crowd.grants[name]
        if draw.random() < 0.2:
            await crowd.hang_up(draw.choice(list(crowd.tasks)))
        await clock.turn(draw.choice((0, 0.1, 0.7, 3)))
    await clock.turn(200)
    await asyncio.wait(crowd.tasks.values())
    assert most_running <= 3
    assert crowd.limiter.waiting == 0
    assert clock.pending == 0
    for grant in crowd.grants.values():
        await crowd.limiter.settle(grant, 0)
    await clock.turn(61)
    await counters.take(ask("last", 1), MINUTE_ALONE)
    await counters.take(ask("last", 1), MINUTE_ALONE)
    assert counters.scopes == 1
    await crowd.limiter.close()


async def test_over_redis_and_a_real_clock_too(
    connect: Callable[..., RedisCounters], account: str
) -> None:
    """A request a second: three keys wait, take turns, and are told how long it took."""
    limiter = Limiter(connect(), Policy(Pace(per_second=True), wait_s=30))
    order: list[str] = []

    async def work(turn: str) -> float:
        grant = await limiter.admit(ask(turn, rpm=60, account=account))
        order.append(turn)
        return grant.waited_s

    try:
        waits = await asyncio.gather(*(work(turn) for turn in ("a", "b", "a")))
    finally:
        await limiter.close()
    assert sorted(order) == ["a", "a", "b"]
    assert min(waits) == 0
    assert 1 < max(waits) < 20
