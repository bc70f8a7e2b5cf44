"""What counters promise, in memory and in Redis alike, with the same turned clock."""

import asyncio
import random
from collections.abc import Callable

import pytest

from ownstudio.limits import (
    Ask,
    Cap,
    Concurrency,
    Counters,
    Grant,
    MemoryCounters,
    Pace,
    Refusal,
    Room,
)
from ownstudio.limits.redis import RedisCounters
from support.turned_clock import TurnedClock

MINUTE_ALONE = Pace(per_second=False)

MakeAsk = Callable[..., Ask]


@pytest.fixture
def ask(account: str) -> MakeAsk:
    """An ask of one cap, unless told otherwise, with a receipt of its own."""
    made = 0

    def make(
        rpm: int | None = None,
        tpm: int | None = None,
        tokens: int = 0,
        caps: tuple[Cap, ...] | None = None,
        at_once: int | None = None,
        running: tuple[Concurrency, ...] = (),
        surge_scope: str | None = None,
    ) -> Ask:
        nonlocal made
        made += 1
        return Ask(
            receipt=f"receipt {made}",
            account=account,
            turn="key",
            caps=(Cap("account", rpm, tpm),) if caps is None else caps,
            tokens=tokens,
            concurrency=running if at_once is None else (Concurrency("key", at_once, lease_s=30),),
            surge_scope=surge_scope,
        )

    return make


async def taken(counters: Counters, ask: Ask, pace: Pace = MINUTE_ALONE) -> Grant:
    outcome = await counters.take(ask, pace)
    assert isinstance(outcome, Grant), outcome
    return outcome


async def refused(counters: Counters, ask: Ask, pace: Pace = MINUTE_ALONE) -> Refusal:
    outcome = await counters.take(ask, pace)
    assert isinstance(outcome, Refusal), outcome
    return outcome


async def test_a_minute_has_its_requests_and_waiting_as_told_is_enough_and_no_less(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    await taken(counters, ask(rpm=2))
    await clock.turn(20.25)
    await taken(counters, ask(rpm=2))
    await clock.turn(10)
    refusal = await refused(counters, ask(rpm=2))
    assert (refusal.kind, refusal.scope, refusal.limit, refusal.current) == (
        "requests",
        "account",
        2,
        2,
    )
    assert refusal.window_s == 60
    assert refusal.retry_after_s == 29.75
    await clock.turn(29.75 - 0.001)
    assert (await refused(counters, ask(rpm=2))).retry_after_s == pytest.approx(0.001)
    await clock.turn(0.001)
    await taken(counters, ask(rpm=2))
    # The next to leave is the second, 20.25 s after the first.
    assert (await refused(counters, ask(rpm=2))).retry_after_s == 20.25


async def test_a_minute_has_its_tokens(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    await taken(counters, ask(tpm=1000, tokens=300))
    await clock.turn(1)
    await taken(counters, ask(tpm=1000, tokens=600))
    await clock.turn(1)
    refusal = await refused(counters, ask(tpm=1000, tokens=101))
    assert (refusal.kind, refusal.limit, refusal.current) == ("tokens", 1000, 900)
    assert refusal.retry_after_s == 58
    assert (await refused(counters, ask(tpm=1000, tokens=401))).retry_after_s == 59
    await taken(counters, ask(tpm=1000, tokens=100))


async def test_more_tokens_than_the_whole_limit_can_never_pass(
    counters: Counters, ask: MakeAsk
) -> None:
    refusal = await refused(counters, ask(tpm=1000, tokens=1001), Pace(per_second=True))
    assert refusal.kind == "tokens"
    assert refusal.retry_after_s is None
    await taken(counters, ask(tpm=1000, tokens=1000), Pace(per_second=True))


async def test_a_second_has_a_sixtieth_of_the_requests_rounded_up(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    pace = Pace(per_second=True)
    await clock.turn(0.25)
    await taken(counters, ask(rpm=61), pace)
    await taken(counters, ask(rpm=61), pace)
    refusal = await refused(counters, ask(rpm=61), pace)
    assert (refusal.limit, refusal.current, refusal.window_s) == (2, 2, 1)
    assert refusal.retry_after_s == 0.75
    await clock.turn(0.75)
    await taken(counters, ask(rpm=61), pace)


async def test_a_request_larger_than_a_second_passes_in_an_empty_one_alone(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    pace = Pace(per_second=True)
    await taken(counters, ask(tpm=600, tokens=5), pace)
    await taken(counters, ask(tpm=600, tokens=5), pace)
    refusal = await refused(counters, ask(tpm=600, tokens=1), pace)
    assert (refusal.kind, refusal.limit, refusal.current) == ("tokens", 10, 10)
    await clock.turn(1)
    await taken(counters, ask(tpm=600, tokens=500), pace)
    assert (await refused(counters, ask(tpm=600, tokens=1), pace)).retry_after_s == 1


async def test_of_three_scopes_all_are_taken_or_none(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    wide, middle, narrow = Cap("account", 10, 1000), Cap("workspace", 10, 500), Cap("key", 2, 400)
    await taken(counters, ask(caps=(wide, middle, narrow), tokens=100))
    # Each of the three in turn is in the way of one.
    for tokens, scope in ((401, "key"), (450, "workspace"), (950, "account")):
        tight = {"key": 400, "workspace": 500, "account": 1000}[scope]
        caps = tuple(
            Cap(cap.scope, cap.requests_per_minute, tight if cap.scope == scope else 10**6)
            for cap in (wide, middle, narrow)
        )
        refusal = await refused(counters, ask(caps=caps, tokens=tokens))
        assert refusal.scope == scope
    for name, limit in (("account", 1000), ("workspace", 500), ("key", 400)):
        grant = await taken(counters, ask(caps=(Cap(name, None, limit),)))
        assert grant.tokens is not None
        assert grant.tokens.remaining == limit - 100


async def test_of_all_in_the_way_the_one_that_stays_longest_is_told(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    await taken(counters, ask(caps=(Cap("account", 1),)))
    await clock.turn(5)
    await taken(counters, ask(caps=(Cap("key", 1),)))
    refusal = await refused(counters, ask(caps=(Cap("account", 1), Cap("key", 1))))
    assert (refusal.scope, refusal.retry_after_s) == ("key", 60)


async def test_a_grant_tells_what_is_left_of_the_tightest_caps(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    caps = (Cap("account", 100, 1000), Cap("key", 7, 10_000))
    first = await taken(counters, ask(caps=caps, tokens=250))
    assert first.requests == Room(7, 6, 60)
    assert first.tokens == Room(1000, 750, 60)
    await clock.turn(12.5)
    second = await taken(counters, ask(caps=caps, tokens=250))
    assert second.requests == Room(7, 5, 47.5)
    assert second.tokens == Room(1000, 500, 47.5)
    refusal = await refused(counters, ask(caps=caps, tokens=501))
    assert (refusal.requests, refusal.tokens) == (second.requests, second.tokens)
    unlimited = await taken(counters, ask(caps=(), at_once=5))
    assert (unlimited.requests, unlimited.tokens) == (None, None)


async def test_a_correction_goes_where_the_tokens_were_taken(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    grant = await taken(counters, ask(tpm=1000, tokens=900))
    await clock.turn(30)
    await taken(counters, ask(tpm=1000, tokens=100))
    await refused(counters, ask(tpm=1000, tokens=1))
    await counters.put_back(grant, requests=0, tokens=700)
    # 300 are taken now, of which 200 leave the window half a minute from now.
    refusal = await refused(counters, ask(tpm=1000, tokens=900))
    assert (refusal.current, refusal.retry_after_s) == (300, 30)
    await clock.turn(30)
    assert (await refused(counters, ask(tpm=1000, tokens=901))).current == 100
    await taken(counters, ask(tpm=1000, tokens=900))


async def test_a_correction_may_also_add(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    grant = await taken(counters, ask(tpm=1000, tokens=100))
    await counters.put_back(grant, requests=0, tokens=-850)
    assert (await refused(counters, ask(tpm=1000, tokens=51))).current == 950


async def test_what_has_left_the_window_needs_no_correction(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    grant = await taken(counters, ask(rpm=5, tpm=1000, tokens=1000))
    await clock.turn(61)
    await taken(counters, ask(rpm=5, tpm=1000, tokens=600))
    await counters.put_back(grant, requests=1, tokens=1000)
    refusal = await refused(counters, ask(rpm=5, tpm=1000, tokens=401))
    assert refusal.current == 600
    assert refusal.requests is not None
    assert refusal.requests.remaining == 4


async def test_no_correction_makes_room_that_was_never_there(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    grant = await taken(counters, ask(rpm=3, tpm=1000, tokens=100))
    for _ in range(3):
        await counters.put_back(grant, requests=1, tokens=100)
    grant = await taken(counters, ask(rpm=3, tpm=1000, tokens=100))
    assert grant.requests == Room(3, 2, 60)
    assert grant.tokens == Room(1000, 900, 60)


async def test_a_withdrawal_is_as_if_nothing_had_been_asked(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    pace = Pace(per_second=True, surge=1)
    for _ in range(50):
        one = ask(rpm=1, tpm=10, tokens=10, at_once=1, surge_scope="account")
        grant = await taken(counters, one, pace)
        await counters.put_back(grant, requests=1, tokens=10)


async def test_the_surge_rule_compares_ten_seconds_with_the_ten_before(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    pace = Pace(per_second=False, surge=2)

    async def pass_now() -> int:
        count = 0
        while isinstance(
            await counters.take(ask(caps=(), surge_scope="account:model"), pace), Grant
        ):
            count += 1
        return count

    assert await pass_now() == 10
    await clock.turn(4)
    refusal = await refused(counters, ask(caps=(), surge_scope="account:model"), pace)
    assert (refusal.kind, refusal.limit, refusal.current, refusal.window_s) == ("burst", 10, 10, 10)
    assert refusal.retry_after_s == 6
    await clock.turn(6)
    # The ten have moved to the ten seconds before: twice as many and ten more.
    assert await pass_now() == 30
    await clock.turn(10)
    assert await pass_now() == 70
    await clock.turn(20)
    assert await pass_now() == 10


async def test_without_the_surge_rule_nothing_is_remembered_for_it(
    counters: Counters, ask: MakeAsk
) -> None:
    for _ in range(50):
        grant = await taken(counters, ask(caps=(), surge_scope="account:model", at_once=50))
        assert grant.scopes == ()


async def test_so_many_at_once_and_one_more_when_one_has_ended(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    first = await taken(counters, ask(rpm=100, at_once=2))
    await taken(counters, ask(rpm=100, at_once=2))
    refusal = await refused(counters, ask(rpm=100, at_once=2))
    assert (refusal.kind, refusal.scope, refusal.limit, refusal.current) == (
        "concurrency",
        "key",
        2,
        2,
    )
    assert refusal.retry_after_s == 1
    assert refusal.window_s == 0
    await counters.put_back(first, requests=0, tokens=0)
    grant = await taken(counters, ask(rpm=100, at_once=2))
    assert grant.requests is not None
    assert grant.requests.remaining == 97
    await refused(counters, ask(rpm=100, at_once=2))


async def test_a_request_runs_in_all_of_its_scopes_or_in_none(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    def of_key(name: str) -> Ask:
        return ask(running=(Concurrency("account", 3, 30), Concurrency(f"key {name}", 1, 30)))

    grants = {name: await taken(counters, of_key(name)) for name in "ab"}
    # Were one of these in the account, it would be full for the next key.
    for _ in range(3):
        refusal = await refused(counters, of_key("a"))
        assert (refusal.scope, refusal.limit, refusal.current) == ("key a", 1, 1)
    grants["c"] = await taken(counters, of_key("c"))
    for _ in range(3):
        refusal = await refused(counters, of_key("d"))
        assert (refusal.scope, refusal.limit, refusal.current) == ("account", 3, 3)
    # Were one of these in its key, that would be full now.
    await counters.put_back(grants["b"], requests=0, tokens=0)
    await taken(counters, of_key("d"))
    await counters.put_back(grants["a"], requests=0, tokens=0)
    await taken(counters, of_key("b"))
    assert (await refused(counters, of_key("a"))).scope == "account"


async def test_a_place_that_nobody_gives_back_is_free_after_its_lease(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    dead = await taken(counters, ask(at_once=1))
    await clock.turn(29.9)
    await refused(counters, ask(at_once=1))
    await clock.turn(0.1)
    await taken(counters, ask(at_once=1))
    # Coming back to life, it ends nobody's lease but its own.
    await counters.put_back(dead, requests=0, tokens=0)
    await refused(counters, ask(at_once=1))


async def test_a_scope_that_was_idle_begins_anew(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    for _ in range(3):
        for _ in range(5):
            await taken(counters, ask(rpm=5, tpm=50, tokens=10))
        await refused(counters, ask(rpm=5, tpm=50, tokens=10))
        await clock.turn(100_000)


async def test_large_numbers_stay_exact(
    counters: Counters, ask: MakeAsk, clock: TurnedClock
) -> None:
    limit = 10**15
    grant = await taken(counters, ask(tpm=limit, tokens=limit - 1))
    assert grant.tokens is not None
    assert grant.tokens.remaining == 1
    assert (await refused(counters, ask(tpm=limit, tokens=2))).current == limit - 1
    await counters.put_back(grant, requests=0, tokens=limit - 3)
    assert (await refused(counters, ask(tpm=limit, tokens=limit - 1))).current == 2


class Admissions:
    """What was admitted when, to be counted by hand, in whole microseconds."""

    def __init__(self, clock: TurnedClock) -> None:
        self._clock = clock
        self.rows: list[tuple[int, Ask]] = []

    def now(self) -> int:
        return round(self._clock() * 1_000_000)

    def add(self, ask: Ask) -> None:
        self.rows.append((self.now(), ask))

    def in_minute(self, end: int, scope: str) -> tuple[int, int]:
        """Requests and tokens in the 60 seconds that end then."""
        asks = [
            ask
            for at, ask in self.rows
            if end - 60_000_000 < at <= end and any(cap.scope == scope for cap in ask.caps)
        ]
        return len(asks), sum(ask.tokens for ask in asks)

    def in_second_of(self, now: int, scope: str) -> list[int]:
        """The tokens of each."""
        return [
            ask.tokens
            for at, ask in self.rows
            if at // 1_000_000 == now // 1_000_000 and any(cap.scope == scope for cap in ask.caps)
        ]


@pytest.mark.parametrize("per_second", [False, True])
@pytest.mark.parametrize("seed", range(2))
async def test_64_tasks_never_pass_any_limit_in_any_60_seconds(
    counters: Counters, account: str, clock: TurnedClock, seed: int, per_second: bool
) -> None:
    draw = random.Random(seed)
    pace = Pace(per_second=per_second)
    # With one request a second none of it would be seen.
    scale = 10 if per_second else 1
    account_and_workspace = (
        Cap("account", 40 * scale, 4000 * scale),
        Cap("workspace", 30 * scale, 3500 * scale),
    )
    keys = [Cap(f"key {number}", 15 * scale, 1500 * scale) for number in range(4)]
    admissions = Admissions(clock)
    refusals = set()

    async def work(number: int, tokens: int) -> None:
        caps = (*account_and_workspace, keys[number % 4])
        ask = Ask(f"{clock()} {number}", account, f"key {number % 4}", caps, tokens)
        outcome = await counters.take(ask, pace)
        if isinstance(outcome, Grant):
            admissions.add(ask)
        else:
            refusals.add(outcome.kind)

    for _ in range(30):
        async with asyncio.TaskGroup() as group:
            for number in range(64):
                group.create_task(work(number, draw.choice((5, 100, 300))))
        await clock.turn(draw.choice((0.05, 0.3, 0.8, 1.7, 5, 9)))

    assert len(admissions.rows) > 30
    assert refusals == {"requests", "tokens"}
    for cap in (*account_and_workspace, *keys):
        rpm, tpm = cap.requests_per_minute or 0, cap.tokens_per_minute or 0
        # A window that ends with an admission is the fullest of those around it.
        for at, _ in admissions.rows:
            requests, tokens = admissions.in_minute(at, cap.scope)
            assert requests <= rpm
            assert tokens <= tpm
            second = admissions.in_second_of(at, cap.scope)
            if per_second:
                assert len(second) <= -(-rpm // 60)
                assert len(second) <= 1 or sum(second) <= -(-tpm // 60)


@pytest.mark.parametrize("per_second", [False, True])
@pytest.mark.parametrize("limit", [1, 59, 60, 100])
async def test_64_tasks_that_always_want_more_get_the_whole_limit_in_every_60_seconds(
    counters: Counters, account: str, clock: TurnedClock, limit: int, per_second: bool
) -> None:
    draw = random.Random(limit)
    pace = Pace(per_second=per_second)
    admissions = Admissions(clock)
    memory = isinstance(counters, MemoryCounters)

    async def work(number: int) -> None:
        while True:
            ask = Ask(
                f"{clock()} {number}", account, "key", (Cap("account", limit, limit),), tokens=1
            )
            if not isinstance(await counters.take(ask, pace), Grant):
                return
            admissions.add(ask)

    began = clock()
    while clock() < began + 130:
        async with asyncio.TaskGroup() as group:
            # Redis takes its time for 64 askers, so there they come together every tenth time.
            for number in range(64 if memory or draw.random() < 0.1 else 2):
                group.create_task(work(number))
        requests, tokens = admissions.in_minute(admissions.now(), "account")
        assert requests <= limit
        assert tokens == requests
        # What falls due while its second has had its share waits for the next second.
        lost = -(-limit // 60) if per_second else 1
        if not per_second or clock() >= began + 60:
            assert requests >= limit - lost
        await clock.turn(draw.uniform(0.3, 0.9))


@pytest.mark.parametrize("limit", [1, 63, 64, 200])
async def test_64_tasks_at_once_get_exactly_what_there_is(
    counters: Counters, account: str, limit: int
) -> None:
    async def work(number: int) -> int:
        count = 0
        for turn in range(5):
            ask = Ask(f"{number} {turn}", account, "key", (Cap("account", limit),))
            count += isinstance(await counters.take(ask, MINUTE_ALONE), Grant)
        return count

    counts = await asyncio.gather(*(work(number) for number in range(64)))
    assert sum(counts) == min(limit, 320)


@pytest.mark.parametrize("seed", range(4))
async def test_memory_and_redis_give_the_same_answers(
    connect: Callable[..., RedisCounters], account: str, clock: TurnedClock, seed: int
) -> None:
    """Any order of asks, corrections, withdrawals and pauses."""
    draw = random.Random(seed)
    memory = MemoryCounters(monotonic=clock)
    shared = connect(now=clock)
    running: list[tuple[Grant, Grant]] = []
    outcomes = set()
    for number in range(600):
        pace = Pace(per_second=draw.random() < 0.5, surge=draw.choice((0, 1.2, 1.2)))
        caps = tuple(
            Cap(f"scope {scope}", draw.choice((None, 3, 20, 90)), draw.choice((None, 500, 9000)))
            for scope in draw.sample(range(4), draw.choice((0, 0, 1, 3)))
        )
        ask = Ask(
            receipt=str(number),
            account=account,
            turn="key",
            caps=caps,
            tokens=draw.choice((0, 1, 40, 200, 600)),
            concurrency=tuple(
                Concurrency(f"scope {scope}", 3, draw.choice((0.5, 20)))
                for scope in draw.sample(range(3), draw.choice((0, 0, 1, 2)))
            ),
            surge_scope="model",
        )
        ours, theirs = await memory.take(ask, pace), await shared.take(ask, pace)
        assert ours == theirs
        outcomes.add(ours.kind if isinstance(ours, Refusal) else "grant")
        if isinstance(ours, Grant) and isinstance(theirs, Grant):
            running.append((ours, theirs))
        while len(running) > 8:
            ended = running.pop(draw.randrange(len(running)))
            requests, tokens = draw.choice(((0, 0), (0, 30), (0, -30), (1, ended[0].reserved)))
            await memory.put_back(ended[0], requests=requests, tokens=tokens)
            await shared.put_back(ended[1], requests=requests, tokens=tokens)
        if draw.random() < 0.2:
            await clock.turn(draw.choice((0.001, 0.05, 0.2, 0.7, 1, 6, 25, 61)))
    assert outcomes == {"grant", "requests", "tokens", "burst", "concurrency"}
