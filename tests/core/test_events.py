"""Collecting: the whole answer is the sum of its events, and a torn stream is no answer."""

import pytest

from ownstudio.core.events import (
    Choice,
    Completion,
    Done,
    Event,
    Finish,
    FinishReason,
    TextDelta,
    Usage,
    collect,
)

USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)


def test_interleaved_choices_are_told_apart() -> None:
    events: list[Event] = [
        TextDelta(1, "b", 1),
        TextDelta(0, "a", 1),
        Finish(1, FinishReason.LENGTH, 1),
        TextDelta(0, "A", 2),
        Finish(0, FinishReason.STOP, 2),
        Done(USAGE),
    ]
    assert collect(events) == Completion(
        (Choice(0, "aA", FinishReason.STOP), Choice(1, "b", FinishReason.LENGTH)), USAGE
    )
    assert USAGE.total_tokens == 10


def test_an_answer_may_be_empty() -> None:
    answer = collect([Finish(0, FinishReason.STOP, 0), Done(USAGE)])
    assert answer.choices == (Choice(0, "", FinishReason.STOP),)


@pytest.mark.parametrize(
    "torn",
    [
        [TextDelta(0, "a", 1), Finish(0, FinishReason.STOP, 1)],
        [TextDelta(0, "a", 1), Done(USAGE)],
        [],
    ],
)
def test_a_torn_stream_is_no_answer(torn: list[Event]) -> None:
    with pytest.raises(ValueError, match="ended before"):
        collect(torn)
