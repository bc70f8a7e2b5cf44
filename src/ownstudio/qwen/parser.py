"""What a model's text means: what it thinks, what it answers, what it calls.

An `OutputParser` follows one choice. Feed it the text as it comes; it gives on each piece as soon as it is certain, and
`finish` whatever was held back. However the text is cut, the joined pieces are the same, and the work for each
character is constant.

Thinking begins where the prompt has opened it, or where the answer begins with `<think>`; it ends at `</think>`.
A call ends it, too, since models forget the tag; the one that may follow is then dropped. The line breaks that
templates put around thinking and before and after calls are not part of any text.

Calls are read in both forms, `<tool_call>` with JSON in it and `<tool_call>` with `<function=…>` in it, whichever the
template asks for. `<function=…>` alone counts for functions that were offered. In `<tool_call>` any well-formed
name counts, offered or not: whoever runs the calls can tell the model better than its raw text would. What
does not become a call is text, tags and all. Once a call has been announced it is always completed to valid
JSON; where its text breaks, the rest is text again.
"""

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import ClassVar, Protocol

from ownstudio.qwen.cursor import Cursor, Progress
from ownstudio.qwen.json_call import JsonCallReader
from ownstudio.qwen.pieces import Piece, Reasoning, Text
from ownstudio.qwen.tools import ToolSet
from ownstudio.qwen.xml_call import CALL_CLOSE, FUNCTION_OPEN, XmlCallReader

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN = "<tool_call>"
CALLS_MAX = 128


class Thinking(Enum):
    """Whether a choice thinks: not at all, if it opens `<think>` itself, or from its first token on."""

    NEVER = "never"
    MAY = "may"
    OPEN = "open"


class _Mode(Enum):
    BEGIN = 0  # nothing but space so far: thinking may still open
    THINKING = 1
    ANSWER = 2
    OPENING = 3  # behind `<tool_call>`
    CALL = 4
    CLOSING = 5  # behind a call, where `</tool_call>` should be
    ENDED = 6


_IN_CALL = (_Mode.OPENING, _Mode.CALL, _Mode.CLOSING)
_PLAIN: dict[_Mode, Callable[[str], Piece]] = {_Mode.THINKING: Reasoning, _Mode.ANSWER: Text}


class _CallReader(Protocol):
    started: bool

    def read(self, cursor: Cursor, out: list[Piece]) -> Progress: ...

    def finish(self, out: list[Piece]) -> None: ...

    @property
    def unread(self) -> str: ...


class OutputParser:
    """Reads calls only where there are `tools`, and at most `calls_max` of them."""

    def __init__(
        self,
        *,
        thinking: Thinking = Thinking.NEVER,
        tools: ToolSet | None = None,
        calls_max: int = CALLS_MAX,
    ) -> None:
        self.calls = 0
        self._tools = tools or ToolSet(())
        self._calls_max = calls_max
        self._mode = {Thinking.NEVER: _Mode.ANSWER, Thinking.MAY: _Mode.BEGIN}.get(
            thinking, _Mode.THINKING
        )
        self._cursor = Cursor()
        self._origin = self._mode  # where a call began
        self._opening: list[str] = []  # what was read and may have to be text
        self._reader: _CallReader | None = None
        self._thinking_unclosed = False
        # Line breaks that are written only if text follows, and whether those that come next are dropped.
        self._breaks = 0
        self._skips_breaks = self._mode is _Mode.THINKING
        self._settle()

    @property
    def thinking(self) -> bool:
        """Whether what comes next is, for all that is known, still thought and not answered."""
        return self._mode is _Mode.THINKING or (
            self._origin is _Mode.THINKING and self._mode in (_Mode.OPENING, _Mode.CALL)
        )

    @property
    def in_call(self) -> bool:
        """Whether what comes next belongs, for all that is known, to a call: from behind its opening tag to its end."""
        return self._mode in _IN_CALL

    @property
    def ended(self) -> bool:
        """All calls that were asked for are complete; what follows is ignored."""
        return self._mode is _Mode.ENDED

    def feed(self, text: str) -> list[Piece]:
        """Take the next text; the pieces that it makes certain, in order."""
        if self._plain is not None and (not self._tags or ("<" not in text and text[-1:] != "\n")):
            return [self._plain(text)] if text else []  # what most chunks are
        out: list[Piece] = []
        if not self.ended:
            self._cursor.feed(text)
            while self._STEPS[self._mode](self, out):
                pass
            self._settle()
        return out

    def feed_call(self, text: str, out: list[Piece]) -> str:
        """Take `text` as far as the call goes that is being read. Returns what lies behind it, still to be fed."""
        self._cursor.feed(text)
        while self.in_call and self._STEPS[self._mode](self, out):
            pass
        rest = "" if self.in_call else self._cursor.take(len(self._cursor.text))
        self._settle()
        return rest

    def finish(self) -> list[Piece]:
        """The answer is over: the pieces held back, a call that has started made whole."""
        out: list[Piece] = []
        match self._mode:
            case _Mode.OPENING:
                self._back_to_text(out)
            case _Mode.CALL if self._reader is not None:
                self._reader.finish(out)
                if self._reader.started:
                    self._count_call()
                else:
                    self._opening.append(self._reader.unread)
                    self._back_to_text(out)
            case _Mode.BEGIN:
                self._back_to_text(out)
        if self._mode in (_Mode.THINKING, _Mode.ANSWER):
            self._say(self._cursor.rest, out)
        if self._mode is _Mode.ANSWER and self._breaks:
            out.append(Text("\n" * self._breaks))
        self._mode = _Mode.ENDED
        self._settle()
        return out

    def _settle(self) -> None:
        """After a step: which tags matter, and whether text without any may pass at once."""
        self._tags = _tags(self._mode, calls=len(self._tools) > 0, unclosed=self._thinking_unclosed)
        between = self._cursor.at_end and not self._breaks and not self._skips_breaks
        self._plain = _PLAIN.get(self._mode) if between else None

    def _begin(self, out: list[Piece]) -> bool:
        cursor = self._cursor
        self._opening.append(cursor.take_space())
        if cursor.is_at(THINK_OPEN):
            cursor.place += len(THINK_OPEN)
            self._opening.clear()
            self._turn(_Mode.THINKING)
            self._skips_breaks = True
            return True
        if cursor.may_become((THINK_OPEN,)):
            return False
        self._origin = _Mode.ANSWER
        self._back_to_text(out)
        return True

    def _prose(self, out: list[Piece]) -> bool:
        cursor, tags = self._cursor, self._tags
        if not tags:
            self._say(cursor.take(len(cursor.text)), out)
            return False
        match = _any_of(tags).search(cursor.text, cursor.place)
        if match is None:
            self._say(cursor.take(cursor.undecided(tags, len(CALL_CLOSE))), out)
            return False
        self._say(cursor.take(match.start()), out)
        cursor.place = match.end()
        self._meet(match[0])
        return True

    def _meet(self, tag: str) -> None:
        if tag == THINK_CLOSE:
            if self._mode is _Mode.THINKING:
                self._breaks = 0
            self._thinking_unclosed = False
            self._skips_breaks = True
            self._turn(_Mode.ANSWER)
        elif self.calls >= self._calls_max:
            self._turn(_Mode.ENDED)
        else:
            self._origin = self._mode
            if tag == CALL_OPEN:
                self._opening = [tag]
                self._turn(_Mode.OPENING)
            else:
                self._read_with(XmlCallReader(self.calls, self._tools, bare=True))

    def _open_call(self, out: list[Piece]) -> bool:
        cursor = self._cursor
        self._opening.append(cursor.take_space())
        if cursor.is_at("{"):
            cursor.place += 1
            self._read_with(JsonCallReader(self.calls))
        elif cursor.is_at(FUNCTION_OPEN):
            cursor.place += len(FUNCTION_OPEN)
            self._read_with(XmlCallReader(self.calls, self._tools, bare=False))
        elif cursor.may_become((FUNCTION_OPEN,)):
            return False
        else:
            self._back_to_text(out)
        return True

    def _read_with(self, reader: _CallReader) -> None:
        self._reader = reader
        self._turn(_Mode.CALL)

    def _call(self, out: list[Piece]) -> bool:
        reader = self._reader
        assert reader is not None
        was_started = reader.started
        progress = reader.read(self._cursor, out)
        if reader.started and not was_started:
            self._breaks = 0
            self._skips_breaks = False
            self._opening.clear()
        if progress is Progress.MORE:
            return False
        self._opening.append(reader.unread if progress is Progress.BROKEN else "")
        if not reader.started:
            self._back_to_text(out)
            return True
        self._count_call()
        if "".join(self._opening).strip(" \t\r\n,"):
            self._origin = _Mode.ANSWER
            self._back_to_text(out)
        else:
            self._opening.clear()
            self._turn(_Mode.CLOSING)
        return True

    def _count_call(self) -> None:
        self.calls += 1
        self._reader = None
        if self._origin is _Mode.THINKING:
            self._thinking_unclosed = True
        self._origin = _Mode.ANSWER

    def _close_call(self, out: list[Piece]) -> bool:
        """Space and surplus braces before `</tool_call>` are dropped; without the tag the braces are text."""
        cursor = self._cursor
        while not cursor.at_end and cursor.text[cursor.place] in " \t\r\n}":
            cursor.take_space()
            if cursor.is_at("}"):
                self._opening.append(cursor.take(cursor.place + 1))
        if cursor.is_at(CALL_CLOSE):
            cursor.place += len(CALL_CLOSE)
            self._opening.clear()
        elif cursor.may_become((CALL_CLOSE, FUNCTION_OPEN)):
            return False
        elif self.calls < self._calls_max and (cursor.is_at("{") or cursor.is_at(FUNCTION_OPEN)):
            self._turn(_Mode.OPENING)  # another one inside the same tag
            return True
        if self.calls >= self._calls_max:
            self._turn(_Mode.ENDED)
            return False
        self._skips_breaks = not self._opening
        self._back_to_text(out)
        return True

    def _back_to_text(self, out: list[Piece]) -> None:
        """What was read as the opening of something is text after all, where it began."""
        opening = "".join(self._opening)
        self._opening.clear()
        self._turn(_Mode.THINKING if self._origin is _Mode.THINKING else _Mode.ANSWER)
        if opening:
            self._say(opening, out)

    def _turn(self, mode: _Mode) -> None:
        self._mode = mode
        self._settle()

    def _say(self, text: str, out: list[Piece]) -> None:
        if self._skips_breaks:
            text = text.lstrip("\n")
            if not text:
                return
            self._skips_breaks = False
        body = text.rstrip("\n") if self._tags else text
        if body:
            said = "\n" * self._breaks + body if self._breaks else body
            out.append(Reasoning(said) if self._mode is _Mode.THINKING else Text(said))
            self._breaks = len(text) - len(body)
        else:
            self._breaks += len(text)

    def _end(self, _out: list[Piece]) -> bool:
        return False

    _STEPS: ClassVar[dict[_Mode, Callable[["OutputParser", list[Piece]], bool]]] = {
        _Mode.BEGIN: _begin,
        _Mode.THINKING: _prose,
        _Mode.ANSWER: _prose,
        _Mode.OPENING: _open_call,
        _Mode.CALL: _call,
        _Mode.CLOSING: _close_call,
        _Mode.ENDED: _end,
    }


@lru_cache
def _tags(mode: _Mode, *, calls: bool, unclosed: bool) -> tuple[str, ...]:
    match mode:
        case _Mode.THINKING:
            return (THINK_CLOSE, CALL_OPEN) if calls else (THINK_CLOSE,)
        case _Mode.ANSWER:
            tags = (CALL_OPEN, FUNCTION_OPEN) if calls else ()
            return (*tags, THINK_CLOSE) if unclosed else tags
    return ()


@lru_cache
def _any_of(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, tags)))
