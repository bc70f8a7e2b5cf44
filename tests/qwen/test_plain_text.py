"""Marks in a client's text: never a special token afterwards, always the same text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.qwen.plain_text import MARK, PlainText, unmarked, with_ends, without_ends

NAMES = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
PLAIN = PlainText(NAMES)
PIECES = [
    *NAMES,
    MARK,
    "<",
    "|",
    ">",
    "im_end",
    "think",
    "<|im_",
    "end|>",
    " ",
    "\n",
    "0",
    "1",
    "x",
]
BEFORE = ["", "<", "<|", "<|im_", "</", "a "]
AFTER = ["", ">", "|>", "end|>", "nk>", " b"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@settings(deadline=None)
@given(TEXTS)
def test_the_text_comes_back(text: str) -> None:
    assert unmarked(PLAIN.marked(text)) == text


@settings(deadline=None)
@given(TEXTS, st.sampled_from(BEFORE), st.sampled_from(AFTER))
def test_no_name_is_left_even_beside_other_text(text: str, before: str, after: str) -> None:
    for marked in (PLAIN.marked(text), PLAIN.marked(text).strip()):
        rendered = before + marked + after
        if marked.strip():
            assert not any(name in rendered for name in NAMES)


@pytest.mark.parametrize("text", ["", "hello", " a > b ", "1 < 2 | 3", "\n\n", "x<y"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert PLAIN.marked(text) == text


def test_without_names_nothing_happens() -> None:
    assert PlainText(()).marked("<|im_end|>") == "<|im_end|>"


@settings(deadline=None)
@given(TEXTS, st.lists(st.integers(0, 40), max_size=5))
def test_an_end_mark_keeps_its_place_and_leaves_no_trace(text: str, ends: list[int]) -> None:
    ends = sorted({min(end, len(text)) for end in ends})
    marked = PLAIN.marked(text)
    bare, places = without_ends(with_ends(marked, [(end, n) for n, end in enumerate(ends)]))
    assert bare == marked
    assert [unmarked(marked[: places[n]]) for n in range(len(ends))] == [text[:end] for end in ends]


def test_of_an_end_mark_that_a_template_writes_twice_the_first_counts() -> None:
    (marked, other) = (with_ends("ab", [(1, 7)]), with_ends("cd", [(0, 8)]))
    assert without_ends(marked + marked) == ("abab", {7: 1})
    assert without_ends(other + marked) == ("cdab", {7: 3, 8: 0})


def test_an_end_mark_that_a_client_wrote_is_text() -> None:
    sent = with_ends("ab", [(1, 7)])
    assert without_ends(PLAIN.marked(sent)) == (PLAIN.marked(sent), {})
    assert unmarked(PLAIN.marked(sent)) == sent
