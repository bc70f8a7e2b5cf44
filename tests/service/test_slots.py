"""The slot queue: never more than its slots at once, first come first served, bounded in length and time."""

import asyncio

import pytest

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.service.slots import SlotQueue


async def test_64_tasks_never_hold_more_than_the_slots_and_all_get_their_turn() -> None:
    slots = SlotQueue(5, queue_max=64, wait_s=10)
    most = served = 0

    async def work(count: int) -> None:
        nonlocal most, served
        await slots.acquire(count)
        most = max(most, slots.busy)
        await asyncio.sleep(0)
        slots.release(count)
        served += 1

    async with asyncio.TaskGroup() as group:
        for index in range(64):
            group.create_task(work(1 + index % 4))
    assert most <= 5
    assert served == 64
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_large_request_is_not_overtaken() -> None:
    slots = SlotQueue(2, queue_max=8, wait_s=10)
    order: list[str] = []
    await slots.acquire(1)

    async def work(name: str, count: int) -> None:
        await slots.acquire(count)
        order.append(name)
        slots.release(count)

    async with asyncio.TaskGroup() as group:
        group.create_task(work("large", 2))
        await asyncio.sleep(0)
        group.create_task(work("small", 1))
        await asyncio.sleep(0)
        assert order == []
        slots.release(1)
    assert order == ["large", "small"]


async def test_a_full_queue_refuses_at_once() -> None:
    slots = SlotQueue(1, queue_max=0, wait_s=10)
    await slots.acquire(1)
    with pytest.raises(StudioError) as refusal:
        await slots.acquire(1)
    assert refusal.value.kind is ErrorKind.OVERLOADED
    assert refusal.value.retry_after


async def test_waiting_has_an_end() -> None:
    slots = SlotQueue(1, queue_max=8, wait_s=0.01)
    await slots.acquire(1)
    with pytest.raises(StudioError) as refusal:
        await slots.acquire(1)
    assert refusal.value.kind is ErrorKind.OVERLOADED
    assert slots.waiting == 0


async def test_a_waiter_that_leaves_gives_its_turn_to_the_next() -> None:
    slots = SlotQueue(2, queue_max=8, wait_s=10)
    await slots.acquire(1)
    async with asyncio.TaskGroup() as group:
        leaver = group.create_task(slots.acquire(2))
        await asyncio.sleep(0)
        follower = group.create_task(slots.acquire(1))
        await asyncio.sleep(0)
        leaver.cancel()
    assert follower.done()
    assert slots.busy == 2


async def test_a_grant_that_crosses_a_cancellation_is_not_lost() -> None:
    slots = SlotQueue(1, queue_max=8, wait_s=10)
    await slots.acquire(1)
    waiter = asyncio.ensure_future(slots.acquire(1))
    await asyncio.sleep(0)
    slots.release(1)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert slots.busy == 0
    await slots.acquire(1)


async def test_a_release_that_crosses_a_cancelled_waiter_finds_it_gone() -> None:
    slots = SlotQueue(1, queue_max=8, wait_s=10)
    await slots.acquire(1)
    waiter = asyncio.ensure_future(slots.acquire(1))
    await asyncio.sleep(0)
    waiter.cancel()
    slots.release(1)
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_release_that_crosses_a_wait_that_ends_is_an_answer_or_a_refusal() -> None:
    for _ in range(50):
        slots = SlotQueue(1, queue_max=8, wait_s=0.001)
        await slots.acquire(1)
        waiter = asyncio.ensure_future(slots.acquire(1))
        await asyncio.sleep(0.001)
        slots.release(1)
        (outcome,) = await asyncio.gather(waiter, return_exceptions=True)
        if outcome is None:
            slots.release(1)
        else:
            assert isinstance(outcome, StudioError)
        assert (slots.busy, slots.waiting) == (0, 0)
