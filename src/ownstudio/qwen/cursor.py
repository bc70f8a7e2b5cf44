"""A place in text that is still being written.

Whoever reads moves `place` forward over what it has understood and leaves the rest, which is in front again when
more text has come. What is left must be short: it is looked at anew each time.
"""

import re
from collections.abc import Iterable
from enum import Enum

_SPACE = re.compile(r"[ \t\r\n]*")


class Progress(Enum):
    """How far a reader came: it needs more text, its matter is complete, or this is not its matter."""

    MORE = "more"
    DONE = "done"
    BROKEN = "broken"


class Cursor:
    __slots__ = ("place", "text")

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.place = 0

    def feed(self, text: str) -> None:
        self.text = self.text[self.place :] + text
        self.place = 0

    @property
    def rest(self) -> str:
        return self.text[self.place :]

    @property
    def at_end(self) -> bool:
        return self.place >= len(self.text)

    def take(self, end: int) -> str:
        """Move to `end`; what lies before it."""
        taken = self.text[self.place : end]
        self.place = end
        return taken

    def take_space(self) -> str:
        return self.take(_space_end(self.text, self.place))

    def is_at(self, tag: str) -> bool:
        return self.text.startswith(tag, self.place)

    def may_become(self, tags: Iterable[str]) -> bool:
        """Whether more text could make the rest one of `tags`."""
        return len(self.text) - self.place < 64 and any(tag.startswith(self.rest) for tag in tags)

    def undecided(self, tags: Iterable[str], longest: int) -> int:
        """The place, near the end, from which on the text may become one of `tags`, all of which begin with `<`."""
        text = self.text
        place = text.find("<", max(self.place, len(text) - longest + 1))
        while place >= 0:
            ending = text[place:]
            if any(tag.startswith(ending) for tag in tags):
                return place
            place = text.find("<", place + 1)
        return len(text)


def _space_end(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None  # it matches nothing, too
    return match.end()
