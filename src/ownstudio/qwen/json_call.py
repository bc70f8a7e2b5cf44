"""Reads one call in the Hermes form: `{"name": "f", "arguments": {"a": 1}}`.

The arguments go on as the model writes them, from the first value on. A call whose arguments come before its name
waits for the name. Arguments may also be missing, `null`, or an object inside a string. Other keys are passed over.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

import msgspec

from ownstudio.qwen.cursor import Cursor, Progress
from ownstudio.qwen.json_stream import JsonStream, as_json
from ownstudio.qwen.pieces import CallArguments, CallStart, Piece
from ownstudio.qwen.tools import is_function_name

_WORD = re.compile(r'"([^"\\\x00-\x1f]{0,64})"')
_WORD_BEGUN = re.compile(r'"[^"\\\x00-\x1f]{0,64}\Z')


class _State(Enum):
    KEY = 0
    COLON = 1
    NAME = 2
    ARGUMENTS_START = 3
    ARGUMENTS = 4
    OTHER = 5
    AFTER = 6
    END = 7


class JsonCallReader:
    """Begins behind the opening brace. `started` says that the call has been announced, and is one for certain."""

    def __init__(self, call: int) -> None:
        self.started = False
        self._call = call
        self._state = _State.KEY
        self._key = ""
        self._name = ""
        self._arguments: str | None = None
        self._value = JsonStream()
        self._may_stream = False
        self._streaming = False
        self._raw = ["{"]

    def read(self, cursor: Cursor, out: list[Piece]) -> Progress:
        progress: Progress | None = None
        while progress is None:
            state, place, was_started = self._state, cursor.place, self.started
            progress = self._STEPS[state](self, cursor, out)
            if self.started and not was_started:
                self._raw.clear()
            elif not (self.started and state is _State.ARGUMENTS):
                self._raw.append(cursor.text[place : cursor.place])
            if self._state is _State.END:
                return Progress.DONE
        if progress is Progress.BROKEN and self._streaming:
            self._release(out, self._value.closers)
        return progress

    def finish(self, out: list[Piece]) -> None:
        """The answer is over: close a call that has started."""
        if self._streaming:
            self._release(out, self._value.closers)

    @property
    def unread(self) -> str:
        """What was read and is part of no piece."""
        return self._value.held if self._streaming else "".join(self._raw)

    def _read_key(self, cursor: Cursor, _out: list[Piece]) -> Progress | None:
        cursor.take_space()
        if cursor.is_at("}"):
            return self._end(cursor, _out)
        key = self._short_string(cursor)
        if isinstance(key, Progress):
            return key
        self._key = key
        self._state = _State.COLON
        return None

    def _read_colon(self, cursor: Cursor, _out: list[Piece]) -> Progress | None:
        cursor.take_space()
        if cursor.at_end:
            return Progress.MORE
        if not cursor.is_at(":"):
            return Progress.BROKEN
        cursor.place += 1
        if self._key == "name" and not self._name:
            self._state = _State.NAME
        elif self._key == "arguments" and self._arguments is None:
            self._state = _State.ARGUMENTS_START
        else:
            self._state = _State.OTHER
        self._value = JsonStream()
        return None

    def _read_name(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        cursor.take_space()
        name = self._short_string(cursor)
        if isinstance(name, Progress):
            return name
        if not is_function_name(name):
            return Progress.BROKEN
        self._name = name
        self._state = _State.AFTER
        if self._arguments is not None:
            self._announce(out, self._arguments)
        return None

    def _read_arguments_start(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        cursor.take_space()
        if cursor.at_end:
            return Progress.MORE
        self._may_stream = bool(self._name) and cursor.is_at("{")
        self._state = _State.ARGUMENTS
        return None

    def _read_arguments(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        progress = self._value.read(cursor)
        if self._may_stream and len(self._value.released) > 1:  # more than the opening brace
            self._may_stream = False
            self._streaming = True
            self._announce(out, "")
        if self._streaming:
            self._release(out, "")
        if progress is not Progress.DONE:
            return progress
        self._state = _State.AFTER
        if self._streaming:
            self._streaming = False
            self._arguments = ""  # given already
            return None
        self._arguments = _object("".join(self._value.released))
        if self._arguments is None:
            return Progress.BROKEN
        if self._name:
            self._announce(out, self._arguments)
        return None

    def _read_other(self, cursor: Cursor, _out: list[Piece]) -> Progress | None:
        progress = self._value.read(cursor)
        self._value.released.clear()
        if progress is Progress.DONE:
            self._state = _State.AFTER
            return None
        return progress

    def _read_after(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        cursor.take_space()
        if cursor.at_end:
            return Progress.MORE
        if cursor.is_at("}"):
            return self._end(cursor, out)
        if not cursor.is_at(","):
            return Progress.BROKEN
        cursor.place += 1
        self._state = _State.KEY
        return None

    def _end(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        if not self._name:
            return Progress.BROKEN
        cursor.place += 1
        self._state = _State.END
        if not self.started:
            self._announce(out, "{}")
        return None

    def _short_string(self, cursor: Cursor) -> str | Progress:
        match = _WORD.match(cursor.text, cursor.place)
        if match is not None:
            cursor.place = match.end()
            return match[1]
        begun = cursor.at_end or _WORD_BEGUN.match(cursor.text, cursor.place)
        return Progress.MORE if begun else Progress.BROKEN

    def _announce(self, out: list[Piece], arguments: str) -> None:
        self.started = True
        out.append(CallStart(self._call, self._name))
        if arguments:
            out.append(CallArguments(self._call, arguments))

    def _release(self, out: list[Piece], ending: str) -> None:
        released = "".join(self._value.released) + ending
        self._value.released.clear()
        if released:
            out.append(CallArguments(self._call, released))

    _STEPS: ClassVar[
        dict[_State, Callable[["JsonCallReader", Cursor, list[Piece]], Progress | None]]
    ] = {
        _State.KEY: _read_key,
        _State.COLON: _read_colon,
        _State.NAME: _read_name,
        _State.ARGUMENTS_START: _read_arguments_start,
        _State.ARGUMENTS: _read_arguments,
        _State.OTHER: _read_other,
        _State.AFTER: _read_after,
    }


def _object(value: str) -> str | None:
    """The arguments that a whole JSON value stands for; None where these are no object."""
    if value == "null":
        return "{}"
    if value.startswith('"'):
        try:
            inside = as_json(msgspec.json.decode(value, type=str).strip())
        except msgspec.DecodeError:
            return None
        value = inside or ""
    return value if value.startswith("{") else None
