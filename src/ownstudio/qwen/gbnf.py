"""Writes grammars in GBNF, the notation of llama.cpp: named rules over literals, character classes and repetition.

A `Rules` object is bounded: what would make the grammar longer than the engine reads in a moment raises
`TooLargeError`, and `undo` takes back all that was added since a `mark`. What has been spent stays spent.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

RULES_CHARS_MAX = 256 * 1024
REPEATS_MAX = 4000  # the engine writes out every bounded repetition
PARTS_MAX = 10_000  # of schemas, all that the grammar is made from

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class TooLargeError(Exception):
    """The grammar would be too large."""


class Rules:
    """The rules of one grammar. An expression is GBNF text; a name stands for its rule in any expression."""

    def __init__(self, chars_max: int = RULES_CHARS_MAX) -> None:
        self._rules: dict[str, str] = {}
        self._chars_left = chars_max
        self._numbers = 0
        self._repeats_left = REPEATS_MAX
        self._parts_left = PARTS_MAX

    def __contains__(self, name: str) -> bool:
        return name in self._rules

    def named(self, name: str, expression: str) -> str:
        """Define `name`, which must be new."""
        self._chars_left -= len(name) + len(expression) + 6
        if self._chars_left < 0:
            raise TooLargeError
        self._rules[name] = expression
        return name

    def new(self, expression: str) -> str:
        """The name of a new rule."""
        return self.named(self.new_name(), expression)

    def new_name(self) -> str:
        self._numbers += 1
        return f"r{self._numbers}"

    @contextmanager
    def unbounded(self) -> Iterator[None]:
        """For what must be had whatever is left, and is small: what stands in for a schema, what holds all together."""
        left, self._chars_left = self._chars_left, sys.maxsize
        try:
            yield
        finally:
            self._chars_left = left

    def spend_part(self) -> None:
        """Count one more part of a schema."""
        self._parts_left -= 1
        if self._parts_left < 0:
            raise TooLargeError

    def may_repeat(self, times: int) -> bool:
        """Whether there is room for something that is repeated up to `times` times; if so, it is taken."""
        if times > self._repeats_left:
            return False
        self._repeats_left -= times
        return True

    def mark(self) -> tuple[int, int]:
        return len(self._rules), self._chars_left

    def undo(self, mark: tuple[int, int]) -> None:
        """Forget the rules defined since `mark`."""
        count, self._chars_left = mark
        for name in list(self._rules)[count:]:
            del self._rules[name]

    def text(self, root: str) -> str:
        """The whole grammar; an answer is what `root` describes."""
        lines = [f"root ::= {root}", *(f"{name} ::= {rule}" for name, rule in self._rules.items())]
        return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    return (
        '"'
        + "".join(_ESCAPES.get(c) or (c if c >= " " else f"\\x{ord(c):02x}") for c in text)
        + '"'
    )


def one_of(expressions: Iterable[str]) -> str:
    """Any of the expressions, repeated ones taken once."""
    choices = list(dict.fromkeys(expressions))
    return choices[0] if len(choices) == 1 else "(" + " | ".join(choices) + ")"


def repeated(expression: str, least: int, most: int | None) -> str:
    """`expression` from `least` to `most` times; None is no limit."""
    match least, most:
        case 0, None:
            return f"{expression}*"
        case 1, None:
            return f"{expression}+"
        case 0, 1:
            return f"{expression}?"
    return f"{expression}{{{least},{'' if most is None else most}}}"


def without(words: Iterable[str], rules: Rules) -> str:
    """The name of a rule for any text that holds none of `words`, each of which has one `<`, at its start.

    One rule for each beginning of a word; since only `<` begins a word, whatever does not go on with one starts
    over, as a `<` does with its first character.
    """
    words = tuple(words)
    beginnings = sorted({word[:length] for word in words for length in range(len(word))})
    names = {beginning: rules.new_name() for beginning in beginnings}
    for beginning in beginnings:
        going_on = [b[-1] for b in beginnings if b[:-1] == beginning and b != beginning]
        last = {w[-1] for w in words if w[:-1] == beginning}
        known = "".join(dict.fromkeys([*going_on, *last, "<"]))
        choices = [f"[{c}] {names[beginning + c]}" for c in going_on if c != "<"]
        choices += [f"[<] {names['<']}", f"[^{known}] {names['']}"]
        rules.named(names[beginning], "(" + " | ".join(choices) + ")?")
    return names[""]
