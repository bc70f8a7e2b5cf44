"""The SSE decoder: whole events out of any split, and only real line ends end a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.core.sse import SSEDecoder


def decode(pieces: list[bytes]) -> list[bytes]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)


@given(st.lists(lines, min_size=1), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_any_split_gives_the_same_events(texts: list[str], end: str, data: st.DataObject) -> None:
    stream = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(pieces) == [text.encode() for text in texts]


def test_line_separators_inside_json_do_not_end_a_line() -> None:
    text = '{"content": "line\u2028sep\x85 end"}'.encode()
    assert decode([b"data: " + text + b"\n\n"]) == [text]


def test_comments_and_other_fields_are_no_data() -> None:
    stream = b": ping\n\nid:1\nevent:result\n:HTTP_STATUS/200\ndata:{}\n\nretry: 3\n\n"
    assert decode([stream]) == [b"{}"]


def test_data_lines_of_one_event_are_joined() -> None:
    assert decode([b"data: a\ndata: b\n\n"]) == [b"a\nb"]


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert decode([b"data: a\n\ndata: b"]) == [b"a", b"b"]


def test_an_event_without_end_is_refused() -> None:
    decoder = SSEDecoder(event_bytes_max=100)
    decoder.feed(b"data: ")
    with pytest.raises(ValueError, match="longer than 100"):
        decoder.feed(b"x" * 100)
