"""Marks in a client's text: never a special token afterwards, always the same text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownstudio.qwen.plain_text import MARK, PlainText, unmarked

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
