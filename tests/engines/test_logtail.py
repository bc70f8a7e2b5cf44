"""What is kept of a child's log."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.engines.logtail import LogTail


@given(st.lists(st.binary(max_size=60), max_size=40), st.integers(10, 100))
def test_the_tail_is_the_end_of_the_log_and_bounded(pieces: list[bytes], bytes_max: int) -> None:
    tail = LogTail(logging.getLogger("quiet"), bytes_max)
    for piece in pieces:
        tail.feed(piece)
    text = tail.text()
    assert b"".join(pieces).decode(errors="replace").endswith(text.lstrip("�"))
    assert len(text) <= bytes_max


def test_it_is_cut_at_a_line() -> None:
    tail = LogTail(logging.getLogger("quiet"), 20)
    tail.feed(b"one two three\nfour\nfive six\n")
    assert tail.text() == "four\nfive six\n"


def test_every_line_goes_to_the_log_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="child"):
        tail = LogTail(logging.getLogger("child"))
        tail.feed(b"first li")
        tail.feed(b"ne\nsecond\nthi")
    assert caplog.messages == ["first line", "second"]


def test_a_line_without_end_is_passed_on_in_pieces(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="child"):
        LogTail(logging.getLogger("child")).feed(b"x" * 10_000)
    assert [len(message) for message in caplog.messages] == [4096, 4096]
