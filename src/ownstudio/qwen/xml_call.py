"""Reads one call in the XML form: `<function=f>`, then `<parameter=a>` VALUE `</parameter>` each, then `</function>`.

The arguments become JSON while they are written, each value typed by the function's schema. What can only be a string
goes on as it comes; anything else waits for its end, since `5` may turn out to be `5 apples`. Of a value, the one
line break at either end that templates put there is not part. A value ends at `</parameter>`, and also where the
model forgets that and closes the whole call. A parameter that is given twice is in the arguments twice.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from ownstudio.qwen.cursor import Cursor, Progress
from ownstudio.qwen.pieces import CallArguments, CallStart, Piece
from ownstudio.qwen.tools import NAME_PATTERN, ToolSet, json_string, json_value

FUNCTION_OPEN, FUNCTION_CLOSE = "<function=", "</function>"
PARAMETER_OPEN, PARAMETER_CLOSE = "<parameter=", "</parameter>"
CALL_CLOSE = "</tool_call>"

_NAME = re.compile(f"({NAME_PATTERN})>")
_NAME_BEGUN = re.compile(r"[A-Za-z0-9_-]{0,64}\Z")
_KEY = re.compile(r"([^<>\n]{1,256})>")
_KEY_BEGUN = re.compile(r"[^<>\n]{0,256}\Z")
_BETWEEN = (PARAMETER_OPEN, FUNCTION_CLOSE, CALL_CLOSE)
_ENDS = (PARAMETER_CLOSE, FUNCTION_CLOSE + "\n" + CALL_CLOSE, FUNCTION_CLOSE + CALL_CLOSE)
_END = re.compile("|".join(_ENDS))
_LONGEST_END = max(map(len, _ENDS))

_STRING = frozenset({"string"})
_STRING_OR_NULL = frozenset({"string", "null"})


class _State(Enum):
    NAME = 0
    BETWEEN = 1
    KEY = 2
    VALUE_START = 3
    VALUE = 4
    END = 5


class XmlCallReader:
    """Begins behind `<function=`. A `bare` call, without `<tool_call>` before it, counts only for a known function."""

    def __init__(self, call: int, tools: ToolSet, *, bare: bool) -> None:
        self.started = False
        self._call = call
        self._tools = tools
        self._bare = bare
        self._state = _State.NAME
        self._name = ""
        self._key = ""
        self._types = _STRING
        self._value: list[str] = []
        self._in_string = False
        self._comma = "{"
        self._raw = [FUNCTION_OPEN]
        self._fragments: list[str] = []

    def read(self, cursor: Cursor, out: list[Piece]) -> Progress:
        progress: Progress | None = None
        while progress is None:
            place = cursor.place
            progress = self._STEPS[self._state](self, cursor, out)
            if not self.started:
                self._raw.append(cursor.text[place : cursor.place])
            if self._state is _State.END:
                progress = Progress.DONE
        if self.started and progress is not Progress.MORE:
            self._close()
        self._release(out)
        return progress

    def finish(self, out: list[Piece]) -> None:
        """The answer is over: close a call that has started. A value that was not released is left out: it is cut."""
        if self.started:
            self._close()
            self._release(out)

    @property
    def unread(self) -> str:
        """What was read and is part of no piece."""
        return "".join(self._raw)

    def _read_name(self, cursor: Cursor, _out: list[Piece]) -> Progress | None:
        match = _NAME.match(cursor.text, cursor.place)
        if match is None:
            begun = _NAME_BEGUN.match(cursor.text, cursor.place)
            return Progress.MORE if begun else Progress.BROKEN
        if self._bare and match[1] not in self._tools:
            return Progress.BROKEN
        cursor.place = match.end()
        self._name = match[1]
        self._state = _State.BETWEEN
        return None

    def _read_between(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        space = cursor.take_space()
        if cursor.is_at(PARAMETER_OPEN):
            cursor.place += len(PARAMETER_OPEN)
            self._raw += (space, PARAMETER_OPEN) if self.started else ()
            self._state = _State.KEY
        elif cursor.is_at(FUNCTION_CLOSE) or cursor.is_at(CALL_CLOSE):
            if cursor.is_at(FUNCTION_CLOSE):
                cursor.place += len(FUNCTION_CLOSE)
            self._announce(out)
            self._state = _State.END
        elif cursor.may_become(_BETWEEN):
            return Progress.MORE
        else:
            return Progress.BROKEN
        return None

    def _read_key(self, cursor: Cursor, out: list[Piece]) -> Progress | None:
        match = _KEY.match(cursor.text, cursor.place)
        if match is None:
            begun = _KEY_BEGUN.match(cursor.text, cursor.place)
            return Progress.MORE if begun else Progress.BROKEN
        cursor.place = match.end()
        self._announce(out)
        self._raw.clear()
        self._key = match[1]
        self._types = self._tools.types(self._name, self._key)
        self._state = _State.VALUE_START
        return None

    def _read_value_start(self, cursor: Cursor, _out: list[Piece]) -> Progress | None:
        if cursor.at_end:
            return Progress.MORE
        if cursor.is_at("\n"):
            cursor.place += 1
        self._state = _State.VALUE
        return None

    def _read_value(self, cursor: Cursor, _out: list[Piece]) -> Progress | None:
        text = cursor.text
        match = _END.search(text, cursor.place)
        end = match.start() if match else cursor.undecided(_ENDS, _LONGEST_END)
        if end > cursor.place and text[end - 1] == "\n":
            end -= 1  # it belongs to the tag, if this is one
        self._add(cursor.take(end))
        if match is None:
            return Progress.MORE
        cursor.place = match.end() if match[0] == PARAMETER_CLOSE else match.start()
        self._end_value()
        self._state = _State.BETWEEN
        return None

    def _add(self, text: str) -> None:
        """Take more of a value; let it go on if it is a string for certain."""
        if self._in_string:
            self._fragments.append(json_string(text)[1:-1])
            return
        self._value.append(text)
        if self._types == _STRING or (
            self._types == _STRING_OR_NULL and not _may_be_null("".join(self._value))
        ):
            self._open_value()
            self._fragments.append(json_string("".join(self._value))[:-1])
            self._in_string = True

    def _end_value(self) -> None:
        if self._in_string:
            self._fragments.append('"')
        else:
            self._open_value()
            self._fragments.append(json_value("".join(self._value), self._types))
        self._in_string = False
        self._value.clear()

    def _open_value(self) -> None:
        self._fragments.append(f"{self._comma}{json_string(self._key)}: ")
        self._comma = ", "

    def _announce(self, out: list[Piece]) -> None:
        if not self.started:
            self.started = True
            self._raw.clear()
            out.append(CallStart(self._call, self._name))

    def _close(self) -> None:
        opening = "{" if self._comma == "{" else ""
        self._fragments.append(opening + ('"' if self._in_string else "") + "}")

    def _release(self, out: list[Piece]) -> None:
        released = "".join(self._fragments)
        self._fragments.clear()
        if released:
            out.append(CallArguments(self._call, released))

    _STEPS: ClassVar[
        dict[_State, Callable[["XmlCallReader", Cursor, list[Piece]], Progress | None]]
    ] = {
        _State.NAME: _read_name,
        _State.BETWEEN: _read_between,
        _State.KEY: _read_key,
        _State.VALUE_START: _read_value_start,
        _State.VALUE: _read_value,
    }


def _may_be_null(text: str) -> bool:
    return len(text) < 20 and any(word.startswith(text.strip()) for word in ("null", "None"))
