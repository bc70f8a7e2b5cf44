"""Keeps text that a client sent from becoming special tokens on its way through a chat template.

A template mixes its own special tokens with the client's text, and afterwards nothing tells them apart. So
before rendering a marker is put inside everything in the client's text that is a special token or could become
one beside the template's own text; after rendering, what holds a marker is no special token, and the
marker is taken out again. A marker that the client sent comes back as it was.

In the same way an end mark, which has a number, follows a place in a client's text through the template.
"""

import re
from collections.abc import Iterable

from ownstudio.qwen.tokenizer import one_of

# A private-use character: no template looks for it and no trimming removes it.
MARK = "\U0010fffd"
MARK_ITSELF = MARK + "0"
MARK_INSIDE = MARK + "1"
# The number of an end mark is a private-use character too.
END_FIRST = 0x100000
ENDS_MAX = 1024

_ESCAPE = re.compile(f"{MARK}[01]")
_END = re.compile(f"{MARK}([{chr(END_FIRST)}-{chr(END_FIRST + ENDS_MAX - 1)}])")


class PlainText:
    """Protects text from becoming one of `names`; `unmarked` undoes it, piece by piece."""

    def __init__(self, names: Iterable[str]) -> None:
        names = frozenset(names)
        self._names = one_of(names)
        self._ends = tuple({name[place:] for name in names for place in range(1, len(name))})
        self._beginnings = tuple({name[:place] for name in names for place in range(1, len(name))})
        self._middles = frozenset(
            name[start:end]
            for name in names
            for start in range(1, len(name))
            for end in range(start + 1, len(name))
        )

    def marked(self, text: str) -> str:
        if MARK in text:
            text = text.replace(MARK, MARK_ITSELF)
        text = self._names.sub(_mark_inside, text)
        return self._with_marked_edges(text)

    def _with_marked_edges(self, text: str) -> str:
        """A template may put its text right beside this one, after trimming it."""
        body = text.strip()
        if not body:
            return text
        first = body.startswith(self._ends) or body in self._middles
        last = body.endswith(self._beginnings)
        if not (first or last):
            return text
        start = text.index(body[0])
        end = start + len(body)
        return (
            text[:start]
            + (MARK_INSIDE if first else "")
            + body
            + (MARK_INSIDE if last else "")
            + text[end:]
        )


def unmarked(text: str) -> str:
    if MARK not in text:
        return text
    return text.replace(MARK_INSIDE, "").replace(MARK_ITSELF, MARK)


def with_ends(marked: str, ends: Iterable[tuple[int, int]]) -> str:
    """`marked` with an end mark at each place that is given, in order, as a place in the client's own text."""
    escapes = _ESCAPE.finditer(marked)
    escape = next(escapes, None)
    pieces: list[str] = []
    done = added = 0
    for end, number in ends:
        while escape is not None and escape.start() - added < end:
            added += len(escape[0]) - len(unmarked(escape[0]))
            escape = next(escapes, None)
        pieces += (marked[done : end + added], MARK, chr(END_FIRST + number))
        done = end + added
    return "".join([*pieces, marked[done:]])


def without_ends(text: str) -> tuple[str, dict[int, int]]:
    """`text` less its end marks, and where each of them stood first."""
    pieces: list[str] = []
    places: dict[int, int] = {}
    done = length = 0
    for mark in _END.finditer(text):
        piece = text[done : mark.start()]
        pieces.append(piece)
        length += len(piece)
        places.setdefault(ord(mark[1]) - END_FIRST, length)
        done = mark.end()
    return "".join([*pieces, text[done:]]), places


def _mark_inside(match: re.Match[str]) -> str:
    name = match[0]
    return name[0] + MARK_INSIDE + name[1:]
