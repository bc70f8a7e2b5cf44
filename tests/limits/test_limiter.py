"""The limiter without waiting: what clients are told, and what happens without Redis."""

import logging

import pytest

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.limits import (
    Ask,
    Cap,
    Concurrency,
    CountersDown,
    Grant,
    Limiter,
    LimitReached,
    MemoryCounters,
    Pace,
    Policy,
    Refusal,
    Room,
)
from support.turned_clock import TurnedClock

MINUTE_ALONE = Pace(per_second=False)


class Absent:
    """Counters that can be away."""

    def __init__(self, counters: MemoryCounters) -> None:
        self.away = True
        self.asked = 0
        self._counters = counters

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        self.asked += 1
        if self.away:
            raise CountersDown("Redis: gone")
        return await self._counters.take(ask, pace)

    async def put_back(self, grant: Grant, *, requests: int, tokens: int) -> None:
        self.asked += 1
        if self.away:
            raise CountersDown("Redis: gone")
        await self._counters.put_back(grant, requests=requests, tokens=tokens)


def ask(
    rpm: int | None = None,
    tpm: int | None = None,
    tokens: int = 0,
    at_once: int | None = None,
    surge: bool = False,
) -> Ask:
    return Ask(
        receipt="receipt",
        account="account",
        turn="key",
        caps=(Cap("account:model", rpm, tpm),),
        tokens=tokens,
        concurrency=() if at_once is None else (Concurrency("key:one", at_once, 30),),
        surge_scope="account:model" if surge else None,
    )


def limiter(clock: TurnedClock, policy: Policy | None = None) -> Limiter:
    return Limiter(MemoryCounters(monotonic=clock), policy or Policy(MINUTE_ALONE), monotonic=clock)


@pytest.mark.parametrize(
    ("asked", "times", "kind", "message", "retry_after", "detail"),
    [
        (
            ask(rpm=3),
            3,
            ErrorKind.REQUESTS_LIMITED,
            "Requests rate limit exceeded, please try again later.",
            60,
            "account:model: 3 of 3 requests in 60 s",
        ),
        (
            ask(tpm=100, tokens=60),
            1,
            ErrorKind.TOKENS_LIMITED,
            "Allocated quota exceeded, please increase your quota limit.",
            60,
            "account:model: 60 of 100 tokens in 60 s",
        ),
        (
            ask(tpm=100, tokens=101),
            0,
            ErrorKind.TOKENS_LIMITED,
            "Allocated quota exceeded, please increase your quota limit.",
            None,
            "account:model: 0 of 100 tokens in 60 s",
        ),
        (
            ask(surge=True),
            10,
            ErrorKind.BURST_LIMITED,
            "Request rate increased too quickly. To ensure system stability, please adjust your client logic to "
            "scale requests more smoothly over time.",
            10,
            "surge:account:model: 10 of 10 requests in 10 s",
        ),
        (
            ask(at_once=2),
            2,
            ErrorKind.CONCURRENCY_LIMITED,
            "Too many concurrent requests.",
            1,
            "key:one: 2 of 2 requests at once",
        ),
    ],
    ids=["requests", "tokens", "never", "burst", "concurrency"],
)
async def test_each_refusal_has_its_words_and_says_when_to_come_back(
    clock: TurnedClock,
    asked: Ask,
    times: int,
    kind: ErrorKind,
    message: str,
    retry_after: float | None,
    detail: str,
) -> None:
    limits = limiter(clock, Policy(Pace(per_second=False, surge=2)))
    for number in range(times):
        # Concurrency counts receipts.
        await limits.admit(Ask(**{**_fields(asked), "receipt": str(number)}))
    with pytest.raises(LimitReached) as refusal:
        await limits.admit(asked)
    assert refusal.value.kind is kind
    assert refusal.value.message == message
    assert refusal.value.retry_after == retry_after
    assert refusal.value.detail == detail
    assert limits.waiting == 0


def _fields(asked: Ask) -> dict[str, object]:
    return {name: getattr(asked, name) for name in asked.__struct_fields__}


async def test_a_refusal_has_what_the_headers_tell(clock: TurnedClock) -> None:
    limits = limiter(clock)
    await limits.admit(ask(2, 1000, 300))
    await clock.turn(15)
    await limits.admit(ask(2, 1000, 300))
    with pytest.raises(LimitReached) as refusal:
        await limits.admit(ask(2, 1000, 300))
    assert refusal.value.refusal.requests == Room(2, 0, 45)
    assert refusal.value.refusal.tokens == Room(1000, 400, 45)


async def test_a_settled_request_gives_back_what_it_did_not_use(clock: TurnedClock) -> None:
    limits = limiter(clock)
    grant = await limits.admit(ask(5, 1000, 1000, at_once=1))
    await limits.settle(grant, 250)
    grant = await limits.admit(ask(5, 1000, 750, at_once=1))
    assert grant.requests == Room(5, 3, 60)
    assert grant.tokens == Room(1000, 0, 60)


async def test_a_withdrawn_request_was_never_there(clock: TurnedClock) -> None:
    limits = limiter(clock)
    for _ in range(5):
        grant = await limits.admit(ask(1, 1000, 1000, at_once=1))
        await limits.withdraw(grant)


@pytest.mark.parametrize("caps", [(), (Cap("account"), Cap("key"))], ids=["none", "empty"])
async def test_without_limits_nobody_is_asked(clock: TurnedClock, caps: tuple[Cap, ...]) -> None:
    counters = Absent(MemoryCounters(monotonic=clock))
    limits = Limiter(counters, Policy(), monotonic=clock)
    grant = await limits.admit(Ask("receipt", "account", "key", caps, 10**9, (), "account"))
    await limits.settle(grant, 10**9)
    await limits.withdraw(grant)
    assert (grant.requests, grant.tokens) == (None, None)
    assert counters.asked == 0


async def test_without_redis_requests_are_refused_by_default(
    clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Absent(MemoryCounters(monotonic=clock))
    limits = Limiter(counters, Policy(MINUTE_ALONE), monotonic=clock)
    with pytest.raises(StudioError) as refusal:
        await limits.admit(ask(5))
    assert refusal.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert refusal.value.retry_after
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "gone" in caplog.text


async def test_an_absent_redis_is_not_tried_by_everybody_and_found_again_soon(
    clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Absent(MemoryCounters(monotonic=clock))
    limits = Limiter(counters, Policy(MINUTE_ALONE), monotonic=clock)
    for _ in range(1000):
        with pytest.raises(StudioError):
            await limits.admit(ask(5))
        await clock.turn(0.001)
    assert counters.asked <= 2
    assert len(caplog.records) == 1
    counters.away = False
    await clock.turn(0.5)
    await limits.admit(ask(5))
    counters.away = True
    await clock.turn(60)
    with pytest.raises(StudioError):
        await limits.admit(ask(5))
    assert len(caplog.records) == 2


async def test_without_redis_this_process_may_count_alone(
    clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    shared = MemoryCounters(monotonic=clock)
    counters = Absent(shared)
    limits = Limiter(counters, Policy(MINUTE_ALONE, when_down="allow"), monotonic=clock)
    first = await limits.admit(ask(2, 100, 50, at_once=2))
    await limits.admit(ask(2, 100, 50, at_once=2))
    with pytest.raises(LimitReached):
        await limits.admit(ask(2, 100, 50, at_once=2))
    assert len(caplog.records) == 1
    # What was taken here is given back here, also when Redis is back.
    counters.away = False
    await clock.turn(1)
    asked = counters.asked
    await limits.settle(first, 10)
    assert counters.asked == asked
    grant = await limits.admit(ask(2, 100, 50))
    assert grant.tokens == Room(100, 50, 60)


async def test_settling_without_redis_harms_nobody(
    clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Absent(MemoryCounters(monotonic=clock))
    counters.away = False
    limits = Limiter(counters, Policy(MINUTE_ALONE), monotonic=clock)
    grants = [await limits.admit(ask(9, 100, 10)) for _ in range(2)]
    counters.away = True
    await limits.settle(grants[0], 5)
    await limits.withdraw(grants[1])
    assert len(caplog.records) == 1
