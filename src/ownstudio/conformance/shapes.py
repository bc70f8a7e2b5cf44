"""Shapes of JSON: what a value may be, and in words how another one differs.

A shape is a class with `differences(value, path)`; a difference is a sentence that begins with the path, such as
`output.choices[0].finish_reason: expected "stop", got null`. Fields that a shape does not name are no difference:
services add fields.
"""

import json
import re
from collections.abc import Iterator
from typing import Protocol

SHOWN_CHARACTERS_MAX = 80


class Shape(Protocol):
    def differences(self, value: object, path: str) -> Iterator[str]: ...


class Text:
    """A text: any, one of `values`, or one that `pattern` matches as a whole."""

    def __init__(self, *values: str, pattern: str | None = None) -> None:
        self._values = values
        self._pattern = pattern

    def differences(self, value: object, path: str) -> Iterator[str]:
        if self._values:
            if value not in self._values:
                yield _differs(path, " or ".join(json.dumps(one) for one in self._values), value)
        elif type(value) is not str:
            yield _differs(path, "a text", value)
        elif self._pattern is not None and not re.fullmatch(self._pattern, value, re.DOTALL):
            yield _differs(path, f"a text like /{self._pattern}/", value)


class Whole:
    """A whole number of at least `low`."""

    def __init__(self, low: int = 0) -> None:
        self._low = low

    def differences(self, value: object, path: str) -> Iterator[str]:
        if type(value) is not int or value < self._low:
            yield _differs(path, f"a whole number from {self._low}", value)


class Number:
    """A number of at most `high`."""

    def __init__(self, high: float) -> None:
        self._high = high

    def differences(self, value: object, path: str) -> Iterator[str]:
        if (type(value) is not int and type(value) is not float) or value > self._high:
            yield _differs(path, f"a number up to {self._high:g}", value)


class Null:
    def differences(self, value: object, path: str) -> Iterator[str]:
        if value is not None:
            yield _differs(path, "null", value)


class Absent:
    """The shape of a field that must not be there."""

    def differences(self, value: object, path: str) -> Iterator[str]:
        yield _differs(path, "no such field", value)


class Either:
    """Any of several shapes."""

    def __init__(self, *shapes: Shape) -> None:
        self._shapes = shapes

    def differences(self, value: object, path: str) -> Iterator[str]:
        found = [list(shape.differences(value, path)) for shape in self._shapes]
        if all(found):
            yield " / or ".join(differences[0] for differences in found)


class Items:
    """A list whose items have one shape, of at least `low` and at most `high` of them."""

    def __init__(self, shape: Shape, low: int = 0, high: int | None = None) -> None:
        self._shape = shape
        self._low = low
        self._high = high

    def differences(self, value: object, path: str) -> Iterator[str]:
        if type(value) is not list:
            yield _differs(path, "a list", value)
            return
        if len(value) < self._low or (self._high is not None and len(value) > self._high):
            upto = "" if self._high is None else f" to {self._high}"
            yield f"{path}: expected {self._low}{upto} items, got {len(value)}"
        for place, item in enumerate(value):
            yield from self._shape.differences(item, f"{path}[{place}]")


class Fields:
    """An object that has these fields. A name that ends with `?` may be missing."""

    def __init__(self, **fields: Shape) -> None:
        self._fields = fields

    def but(self, **fields: Shape) -> "Fields":
        """The same with some fields more, or of another shape."""
        return Fields(**{**self._fields, **fields})

    def maybe(self, **fields: Shape) -> "Fields":
        """The same with some fields more that may be missing."""
        return Fields(**{**self._fields, **{f"{name}?": shape for name, shape in fields.items()}})

    def differences(self, value: object, path: str) -> Iterator[str]:
        if type(value) is not dict:
            yield _differs(path, "an object", value)
            return
        for key, shape in self._fields.items():
            name = key.removesuffix("?")
            where = f"{path}.{name}" if path else name
            if name in value:
                yield from shape.differences(value[name], where)
            elif not key.endswith("?") and not isinstance(shape, Absent):
                yield f"{where}: missing"


class JsonText:
    """A text that holds JSON of a shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def differences(self, value: object, path: str) -> Iterator[str]:
        try:
            held = json.loads(value) if type(value) is str else None
        except ValueError:
            held = None
        if held is None:
            yield _differs(path, "a text that is JSON", value)
        else:
            yield from self._shape.differences(held, path)


def _differs(path: str, expected: str, value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    if len(shown) > SHOWN_CHARACTERS_MAX:
        shown = shown[:SHOWN_CHARACTERS_MAX] + "…"
    return f"{path or 'the body'}: expected {expected}, got {shown}"
