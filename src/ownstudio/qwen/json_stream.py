"""Follows a JSON value while a model writes it, and releases it in pieces that can be closed at any time.

Rules:

* What has been released is the beginning of valid JSON, and `closers` makes it whole: a comma or a key waits for its
  value, a number or a word for its end, an escape for its last character.
* What models get wrong without any doubt about what they meant is put right: control characters inside strings,
  backslashes that escape nothing, halves of surrogate pairs, commas before a closing bracket, Python's
  `True`, `False` and `None`. Anything else breaks the value where it goes wrong.
* The work for each character is constant, however long the value.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from ownstudio.qwen.cursor import Cursor, Progress

DEPTH_MAX = 128  # far beyond what functions take, and within every client's own parser

_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_NUMBER_PART = re.compile(r"[-+.0-9eE]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORD_PART = re.compile(r"[A-Za-z]*")
_WORDS = {
    "true": "true", "false": "false", "null": "null",
    "True": "true", "False": "false", "None": "null",
}  # fmt: skip
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})')
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UNFINISHED_ESCAPE = re.compile(
    r"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}"
    r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?))?\Z"
)


class _State(Enum):
    VALUE = 0
    KEY = 1
    KEY_TEXT = 2
    COLON = 3
    TEXT = 4
    NUMBER = 5
    WORD = 6
    AFTER = 7
    END = 8


class JsonStream:
    """Reads one value. `released` collects its text; whoever takes pieces from it may clear it."""

    def __init__(self) -> None:
        self.released: list[str] = []
        self._held: list[str] = []
        self._token: list[str] = []
        self._open: list[str] = []
        self._state = _State.VALUE

    def read(self, cursor: Cursor) -> Progress:
        progress: Progress | None = None
        while progress is None:
            progress = self._STEPS[self._state](self, cursor)
            if self._state is _State.END:
                return Progress.DONE
        return progress

    @property
    def closers(self) -> str:
        """What closes all that has been released."""
        quote = '"' if self._state is _State.TEXT else ""
        return quote + "".join(reversed(self._open))

    @property
    def held(self) -> str:
        """What was read and not released."""
        return "".join(self._held) + "".join(self._token)

    def _value(self, cursor: Cursor) -> Progress | None:
        self._held.append(cursor.take_space())
        if cursor.at_end:
            return Progress.MORE
        character = cursor.text[cursor.place]
        if character == '"':
            self._release(cursor.take(cursor.place + 1))
            self._state = _State.TEXT
        elif character in "{[":
            if len(self._open) == DEPTH_MAX:
                return Progress.BROKEN
            self._release(cursor.take(cursor.place + 1))
            self._open.append("}" if character == "{" else "]")
            self._state = _State.KEY if character == "{" else _State.VALUE
        elif character == "]" and self._closes(character):
            self._close(cursor)
        elif character in "-0123456789":
            self._state = _State.NUMBER
        elif character.isascii() and character.isalpha():
            self._state = _State.WORD
        else:
            return Progress.BROKEN
        return None

    def _key(self, cursor: Cursor) -> Progress | None:
        self._held.append(cursor.take_space())
        if cursor.at_end:
            return Progress.MORE
        if cursor.is_at('"'):
            self._held.append(cursor.take(cursor.place + 1))
            self._state = _State.KEY_TEXT
        elif cursor.is_at("}"):
            self._close(cursor)
        else:
            return Progress.BROKEN
        return None

    def _key_text(self, cursor: Cursor) -> Progress | None:
        if not _read_text(cursor, self._held):
            return Progress.MORE
        self._state = _State.COLON
        return None

    def _colon(self, cursor: Cursor) -> Progress | None:
        self._held.append(cursor.take_space())
        if cursor.at_end:
            return Progress.MORE
        if not cursor.is_at(":"):
            return Progress.BROKEN
        self._held.append(cursor.take(cursor.place + 1))
        self._state = _State.VALUE
        return None

    def _text(self, cursor: Cursor) -> Progress | None:
        if not _read_text(cursor, self.released):
            return Progress.MORE
        self._after_value()
        return None

    def _number(self, cursor: Cursor) -> Progress | None:
        number = self._whole_token(cursor, _NUMBER_PART)
        if number is None:
            return Progress.MORE
        return self._release_token(number if _NUMBER.fullmatch(number) else None)

    def _word(self, cursor: Cursor) -> Progress | None:
        word = self._whole_token(cursor, _WORD_PART)
        if word is None:
            return Progress.MORE
        return self._release_token(_WORDS.get(word))

    def _after(self, cursor: Cursor) -> Progress | None:
        self._held.append(cursor.take_space())
        if cursor.at_end:
            return Progress.MORE
        character = cursor.text[cursor.place]
        if character == ",":
            self._held.append(cursor.take(cursor.place + 1))
            self._state = _State.KEY if self._open[-1] == "}" else _State.VALUE
        elif self._closes(character):
            self._close(cursor)
        else:
            return Progress.BROKEN
        return None

    def _closes(self, bracket: str) -> bool:
        return bool(self._open) and self._open[-1] == bracket

    def _close(self, cursor: Cursor) -> None:
        if "," in self._held:  # which nothing followed
            self._held.clear()
        self._release(cursor.take(cursor.place + 1))
        self._open.pop()
        self._after_value()

    def _release(self, text: str) -> None:
        self._held.append(text)
        self.released.append("".join(self._held))
        self._held.clear()

    def _whole_token(self, cursor: Cursor, part: re.Pattern[str]) -> str | None:
        match = part.match(cursor.text, cursor.place)
        assert match is not None  # it matches nothing, too
        self._token.append(cursor.take(match.end()))
        return None if cursor.at_end else "".join(self._token)

    def _release_token(self, token: str | None) -> Progress | None:
        if token is None:
            return Progress.BROKEN
        self._token.clear()
        self._release(token)
        self._after_value()
        return None

    def _after_value(self) -> None:
        self._state = _State.AFTER if self._open else _State.END

    _STEPS: ClassVar[dict[_State, Callable[["JsonStream", Cursor], Progress | None]]] = {
        _State.VALUE: _value,
        _State.KEY: _key,
        _State.KEY_TEXT: _key_text,
        _State.COLON: _colon,
        _State.TEXT: _text,
        _State.NUMBER: _number,
        _State.WORD: _word,
        _State.AFTER: _after,
    }


def as_json(text: str) -> str | None:
    """`text`, put right where that is safe, if all of it is one JSON value."""
    stream = JsonStream()
    cursor = Cursor(text + " ")  # which ends a number
    if stream.read(cursor) is Progress.DONE and not cursor.rest.strip(" \t\r\n"):
        return "".join(stream.released)
    return None


def _read_text(cursor: Cursor, into: list[str]) -> bool:
    """Read the rest of a string with its closing quote; False where more of it is to come."""
    while True:
        match = _PLAIN.match(cursor.text, cursor.place)
        assert match is not None  # it matches nothing, too
        if match.end() > cursor.place:
            into.append(cursor.take(match.end()))
        if cursor.at_end:
            return False
        character = cursor.text[cursor.place]
        if character == '"':
            into.append(cursor.take(cursor.place + 1))
            return True
        if character != "\\":
            cursor.place += 1
            into.append(
                f"\\u{ord(character):04x}" if character not in "\n\t" else _SHORT[character]
            )
        elif not _read_escape(cursor, into):
            return False


_SHORT = {"\n": "\\n", "\t": "\\t"}


def _read_escape(cursor: Cursor, into: list[str]) -> bool:
    text, place = cursor.text, cursor.place
    if escape := _ESCAPE.match(text, place) or _PAIR.match(text, place):
        into.append(cursor.take(escape.end()))
        return True
    if _UNFINISHED_ESCAPE.match(text, place):
        return False
    if half := _HALF_PAIR.match(text, place):
        cursor.place = half.end()
        into.append("\\ufffd")
    elif text.startswith("\\'", place):
        cursor.place += 2
        into.append("'")
    else:
        cursor.place += 1
        into.append("\\\\")
    return True
