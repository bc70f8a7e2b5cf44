"""Every way in which bytes can fail to be a body is refused in words of its own, and quickly."""

import itertools
import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.dialects.fields import NESTING_MAX, read_object

NOT_JSON = "Required body invalid, please check the request body format."


def refusal(body: bytes) -> StudioError:
    with pytest.raises(StudioError) as caught:
        read_object(body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "It ends too early."),
        (b'{"a":"cut off', "It ends too early."),
        (b"hello", "It is not JSON near byte 0."),
        (b'{"a":1}}', "It is not JSON near byte 8."),
        (b'{"a":1,}', "It is not JSON near byte 7."),
        (b"\xef\xbb\xbf{}", "It is not JSON near byte 0."),
        (b"null", "It must be a JSON object."),
        (b'[{"model":"m"}]', "It must be a JSON object."),
        (b'"model"', "It must be a JSON object."),
        (b'{"a":"\xff"}', "It is not valid UTF-8."),
        (b'{"a":"\xed\xa0\xbd"}', "It is not valid UTF-8."),
        (b'{"a":"\\ud83d"}', "A \\u escape in it is half of a surrogate pair."),
        (b'{"a":"\\udc00 and more"}', "A \\u escape in it is half of a surrogate pair."),
        (b'{"a":"\\ud83d\\u0041"}', "A \\u escape in it is half of a surrogate pair."),
        (b'{"\\ud83d":1}', "A \\u escape in it is half of a surrogate pair."),
        (b'{"a":NaN}', "NaN and Infinity are not JSON (byte 5)."),
        (b'{"a":-Infinity}', "NaN and Infinity are not JSON (byte 6)."),
        (b'{"a":1e999}', "A number in it is too large."),
        (b'{"a":' + b"9" * 100_000 + b"}", "A number in it is too large."),
        (b'{"a":' * 10_000, "It is nested deeper than 100 levels."),
        (b"[" * 10_000 + b"]" * 10_000, "It is nested deeper than 100 levels."),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "It is nested deeper than 100 levels."),
        (b'{"a":' + b'{"b":' * 100 + b"1" + b"}" * 101, "It is nested deeper than 100 levels."),
    ],
)
def test_each_fault_has_its_own_words(body: bytes, why: str) -> None:
    error = refusal(body)
    assert error.kind is ErrorKind.INVALID_BODY
    assert error.message == f"{NOT_JSON} {why}"
    assert not error.from_engine


def test_nesting_is_counted_in_levels_not_in_brackets() -> None:
    inside = "[" * (NESTING_MAX - 1) + "]" * (NESTING_MAX - 1)
    assert read_object(f'{{"a":{inside}}}'.encode())
    wide = {"a": [{"code": "[[{{" * 50}] * 200}
    assert read_object(json.dumps(wide).encode()) == wide


def test_of_two_equal_keys_the_last_one_counts() -> None:
    assert read_object(b'{"model":"a","model":"b"}') == {"model": "b"}


def test_a_pair_of_surrogate_escapes_is_one_character() -> None:
    assert read_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


def test_no_text_gets_through_that_utf_8_cannot_hold() -> None:
    pieces = ["\\ud83d", "\\ude00", "a", "\\n", "\\\\", "é"]
    for length in range(1, 5):
        for combination in itertools.product(pieces, repeat=length):
            body = ('{"a":"' + "".join(combination) + '"}').encode()
            meant = json.loads(body)["a"]
            half = any("\ud800" <= character <= "\udfff" for character in meant)
            if half:
                assert "surrogate" in refusal(body).message
            else:
                assert read_object(body) == {"a": meant}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused_never_a_crash(body: bytes) -> None:
    with suppress(StudioError):
        assert isinstance(read_object(body), dict)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b'{"a":[' + b"[]," * 300_000 + b"[]]}",
        b'{"a":"' + b"\\ud83d" * 1_500_000 + b'"}',
    ],
    ids=["arrays", "objects", "a wide array", "half surrogates"],
)
def test_hostile_megabytes_are_over_soon(body: bytes) -> None:
    start = time.perf_counter()
    with suppress(StudioError):
        read_object(body)
    assert time.perf_counter() - start < 5
