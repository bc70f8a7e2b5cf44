"""Where the references of one schema lead, so that none becomes a rule that cannot be read.

Two kinds of circle are looked for. A reference that stands for itself without a bracket between would be read for ever.
One that leads back to where it is being converted, with a choice between alike values on the way, would double the
ways to read a text at each turn. Any other circle is plain recursion, and fine.
"""

from collections.abc import Collection

from ownstudio.qwen.gbnf import TooLargeError

REFERENCES_MAX = 200


class References:
    """`names` are the rules of the pointers met so far."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._open: dict[str, int] = {}  # those being converted, with the choices around each
        self._choices = 0
        self._stands_for: dict[str, set[str]] = {}
        self._leads_to: dict[str, set[str]] = {}

    def enter_choice(self, *, alike: bool) -> None:
        """A choice begins whose values may begin alike, or not; each of these calls has its `leave_choice`."""
        self._choices += alike

    def leave_choice(self, *, alike: bool) -> None:
        self._choices -= alike

    def stands_for_itself(self, pointer: str, aliases: tuple[str, ...]) -> bool:
        """Whether `pointer` is one of `aliases`, the references that led here without a bracket, in other words."""
        if _reaches(pointer, self._stands_for, aliases):
            return True
        if aliases:
            self._stands_for.setdefault(aliases[-1], set()).add(pointer)
        return False

    def follow(self, pointer: str) -> None:
        """`pointer` is used. Raises TooLargeError if that closes a circle through a choice."""
        if self._open:
            self._leads_to.setdefault(next(reversed(self._open)), set()).add(pointer)
        before_choice = [name for name, count in self._open.items() if count < self._choices]
        if _reaches(pointer, self._leads_to, before_choice):
            raise TooLargeError

    def open(self, pointer: str, name: str) -> None:
        """The rule `name` for `pointer` is being made. Raises TooLargeError for one too many."""
        if len(self.names) == REFERENCES_MAX:
            raise TooLargeError
        self.names[pointer] = name
        self._open[pointer] = self._choices

    def close(self, pointer: str) -> None:
        del self._open[pointer]


def _reaches(pointer: str, ways: dict[str, set[str]], goals: Collection[str]) -> bool:
    reached: set[str] = set()
    left = [pointer] if goals else []
    while left:
        following = left.pop()
        if following in goals:
            return True
        if following not in reached:
            reached.add(following)
            left += ways.get(following, ())
    return False
