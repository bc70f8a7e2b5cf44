"""What counts as hanging, with a worker that is two functions."""

import asyncio

import pytest

from ownstudio.engines.hangwatch import HangWatch


class Worker:
    """Answers or not, and notes that it was asked and that it was ended."""

    def __init__(
        self, *, answers: bool, probe_after_s: float = 0.02, silence_s: float = 60.0
    ) -> None:
        self.questions = 0
        self.asked = asyncio.Event()
        self.ended = asyncio.Event()
        self._alive = answers
        self.watch = HangWatch(
            self._answers, self.ended.set, probe_after_s=probe_after_s, silence_s=silence_s
        )

    async def _answers(self) -> bool:
        self.questions += 1
        self.asked.set()
        return self._alive


async def hears_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def test_one_that_does_not_answer_is_ended() -> None:
    worker = Worker(answers=False)
    with worker.watch.waiting():
        assert await hears_within(worker.ended, 2.0)
    assert worker.questions == 1


async def test_one_that_answers_may_be_silent_until_its_silence_is_too_long() -> None:
    worker = Worker(answers=True, silence_s=0.2)
    with worker.watch.waiting():
        assert not await hears_within(worker.ended, 0.1)
        assert await hears_within(worker.ended, 2.0)
    assert worker.questions > 1


async def test_a_sign_to_anybody_is_one_for_all() -> None:
    worker = Worker(answers=True, silence_s=0.2)
    with worker.watch.waiting(), worker.watch.waiting():
        for _ in range(30):
            worker.watch.heard()
            await asyncio.sleep(0.01)
    assert not worker.ended.is_set()


async def test_one_that_is_heard_while_it_is_asked_lives() -> None:
    ended = asyncio.Event()
    asked = asyncio.Event()

    async def answers() -> bool:
        watch.heard()
        asked.set()
        return False

    watch = HangWatch(answers, ended.set, probe_after_s=0.01, silence_s=60.0)
    with watch.waiting():
        assert await hears_within(asked, 2.0)
        await asyncio.sleep(0)
    assert not ended.is_set()
    watch.close()


async def test_it_is_asked_though_nobody_waits_any_more() -> None:
    worker = Worker(answers=False)
    with worker.watch.waiting():
        pass
    assert await hears_within(worker.ended, 2.0)


@pytest.mark.parametrize("pauses", [1, 3])
async def test_a_reader_that_pauses_is_no_silence(pauses: int) -> None:
    """However long nobody listens: silence is counted only while somebody waits."""
    worker = Worker(answers=True, silence_s=0.1)
    for _ in range(pauses):
        with worker.watch.waiting():
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.15)
    assert not worker.ended.is_set()


async def test_an_idle_one_is_asked_nothing() -> None:
    worker = Worker(answers=True)
    with worker.watch.waiting():
        worker.watch.heard()
    assert not await hears_within(worker.asked, 0.15)


async def test_a_closed_watch_ends_nobody() -> None:
    worker = Worker(answers=False)
    with worker.watch.waiting():
        worker.watch.close()
        assert not await hears_within(worker.ended, 0.1)
