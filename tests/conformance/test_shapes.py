"""Each shape lets through what it names and says how anything else differs."""

from collections.abc import Callable
from typing import Any

import pytest

from ownstudio.conformance.shapes import (
    Absent,
    Either,
    Fields,
    Items,
    JsonText,
    Null,
    Number,
    Shape,
    Text,
    Whole,
)


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (Text(), ["", "a"], [None, 1, True, ["a"]]),
        (Text("a", "b"), ["a", "b"], ["c", ""]),
        (Text(pattern="a.*"), ["a", "a\nb"], ["ba"]),
        (Whole(), [0, 7], [-1, 1.0, True, "1", None]),
        (Whole(1), [1], [0]),
        (Number(0), [0, -1.5], [0.1, True, "0"]),
        (Null(), [None], [0, "", "null"]),
        (Absent(), [], [None, 1]),
        (Either(Null(), Text("a")), [None, "a"], ["b", 1]),
        (Items(Whole()), [[], [1, 2]], [{}, None, ["a"], [1, None]]),
        (Items(Whole(), 1, 2), [[1], [1, 2]], [[], [1, 2, 3]]),
        (Fields(a=Whole()), [{"a": 1}, {"a": 1, "b": 2}], [{}, {"a": None}, [], None]),
        (Fields(a=Absent()), [{}, {"b": 1}], [{"a": 1}, {"a": None}]),
        (Fields().maybe(a=Whole()), [{}, {"a": 1}], [{"a": None}]),
        (Fields(a=Whole()).but(a=Text()), [{"a": "x"}], [{"a": 1}]),
        (JsonText(Fields(a=Whole())), ['{"a": 1}'], ["{", '{"a": "x"}', None, {"a": 1}]),
    ],
)
def test_shapes(shape: Shape, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert list(shape.differences(value, "x")) == []
    for value in bad:
        assert list(shape.differences(value, "x")), value


def test_a_difference_says_where_and_what() -> None:
    shape = Fields(choices=Items(Fields(finish_reason=Text("stop"))))
    body = {"choices": [{"finish_reason": "stop"}, {"finish_reason": None}, {}]}
    assert list(shape.differences(body, "")) == [
        'choices[1].finish_reason: expected "stop", got null',
        "choices[2].finish_reason: missing",
    ]


def test_a_long_value_is_cut() -> None:
    (told,) = Whole().differences("x" * 1000, "x")
    assert len(told) < 200


@pytest.mark.parametrize("make", [Text, Whole, Null])
def test_the_body_itself_has_a_name(make: Callable[[], Shape]) -> None:
    (told,) = make().differences({}, "")
    assert told.startswith("the body: expected")
