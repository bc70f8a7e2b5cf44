"""Stop texts and stop token sequences: what is given on, what is held back, where an answer ends."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.core.request import Stop
from ownstudio.qwen.stop import StopMatcher

SMALL = st.text(alphabet="ab\n", max_size=24)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), min_size=1, max_size=4)


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition, read word for word: cut at the stop that is complete first, the longest of several."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


def run(matcher: StopMatcher, chunks: list[str]) -> str:
    return "".join([matcher.feed(chunk) for chunk in chunks]) + matcher.finish()


def split(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


@settings(deadline=None)
@given(SMALL, STOPS, st.lists(st.integers(0, 24), max_size=8))
def test_any_split_gives_what_the_definition_says(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    matcher = StopMatcher(Stop(texts=tuple(stops)))
    assert (run(matcher, split(text, cuts)), matcher.stopped) == expected(text, stops)


@settings(deadline=None)
@given(SMALL, STOPS)
def test_only_what_may_become_a_stop_is_held_back(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(Stop(texts=tuple(stops)))
    given_on = ""
    for end, character in enumerate(text, 1):
        given_on += matcher.feed(character)
        if matcher.stopped:
            return
        held = text[len(given_on) : end]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_no_stop_gives_every_chunk_on_as_it_is() -> None:
    matcher = StopMatcher(Stop())
    assert matcher.feed("end", (1, 2)) == "end"
    assert matcher.finish() == ""
    assert not matcher.stopped


def test_nothing_follows_a_stop() -> None:
    matcher = StopMatcher(Stop(texts=("end",)))
    assert matcher.feed("the end of it") == "the "
    assert matcher.feed("and more") == ""
    assert matcher.finish() == ""


def test_what_was_held_back_comes_at_the_end() -> None:
    matcher = StopMatcher(Stop(texts=("###",)))
    assert matcher.feed("a##") == "a"
    assert matcher.finish() == "##"
    assert matcher.finish() == ""


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_stop_across_chunks(cut: int) -> None:
    matcher = StopMatcher(Stop(texts=("\nUser:",)))
    assert run(matcher, ["yes" + "\nUser:"[:cut], "\nUser:"[cut:] + " no"]) == "yes"
    assert matcher.stopped


def test_a_sequence_of_tokens_across_chunks() -> None:
    matcher = StopMatcher(Stop(token_ids=((7, 8),)))
    assert matcher.feed("a", (6,)) == "a"
    assert matcher.feed("b", (7,)) == ""
    assert matcher.feed("c", (7,)) == "b"
    assert matcher.feed("d", (8,)) == ""
    assert matcher.stopped
    assert matcher.finish() == ""


def test_tokens_held_back_come_at_the_end() -> None:
    matcher = StopMatcher(Stop(token_ids=((7, 8),)))
    assert matcher.feed("a", (7,)) == ""
    assert matcher.finish() == "a"


def test_a_chunk_in_which_a_sequence_begins_is_dropped_whole() -> None:
    matcher = StopMatcher(Stop(token_ids=((7, 8), (9,))))
    assert matcher.feed("before", (1, 2)) == "before"
    assert matcher.feed("inside", (3, 7)) == ""
    assert matcher.feed("after", (8, 4)) == ""
    assert matcher.stopped


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=20),
    st.lists(
        st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4
    ),
)
def test_tokens_one_by_one_end_where_texts_would(
    ids: list[int], sequences: list[tuple[int, ...]]
) -> None:
    by_id = StopMatcher(Stop(token_ids=tuple(sequences)))
    by_text = StopMatcher(Stop(texts=tuple("".join(map(str, s)) for s in sequences)))
    answer = "".join([by_id.feed(str(token_id), (token_id,)) for token_id in ids]) + by_id.finish()
    assert answer == run(by_text, [str(token_id) for token_id in ids])
    assert by_id.stopped == by_text.stopped


def test_a_chunk_without_tokens_keeps_its_place() -> None:
    matcher = StopMatcher(Stop(token_ids=((7, 8),)))
    assert matcher.feed("a", (7,)) + matcher.feed("b", ()) == ""
    assert matcher.feed("c", (1,)) == "abc"
