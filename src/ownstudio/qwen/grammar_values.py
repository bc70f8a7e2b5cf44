"""Grammar rules for JSON that fits no schema but its own syntax, and for numbers within a range.

Nesting is bounded: a model that opens brackets for ever would otherwise never write a value.
"""

from typing import NamedTuple

from ownstudio.qwen.gbnf import Rules, one_of, repeated

ANY_DEPTH = 16
ANY_WEIGHT = 8
INTEGER_DIGITS_MAX = 15  # every such integer is exact in every client's numbers

_NATURAL = f'("0" | [1-9] [0-9]{{0,{INTEGER_DIGITS_MAX - 1}}})'
_FRACTION = '("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?'
_ESCAPE = (
    r'"\\" (["\\/bfnrt] | "u" ([0-9a-cA-Ce-fE-F] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2} |'
    r' [dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F] [0-9a-fA-F]{2}))'
)
_CHARACTER = r'[^"\\\x7F\x00-\x1F]'
_CHARACTER_BUT_TAG = r'[^"\\<\x7F\x00-\x1F]'
_BEHIND_ANGLE = r'[^"\\</\x7F\x00-\x1F]'


class Spacing(NamedTuple):
    """`inside` stands behind opening and before closing brackets, `between` behind commas and colons."""

    inside: str
    between: str


# As templates write calls, and as people write JSON; neither lets a model go on with nothing but space.
IN_LINE = Spacing("", '" "?')
IN_LINES = Spacing("space", "space")
_SPACE = '(" " | "\\n" [ \\t]{0,16})?'


class JsonRules:
    """JSON of any shape. With `tagless` no string holds `</`, which would end a parameter in the XML form.

    `prefix` begins the names of these rules, so that JSON of two kinds may stand in one grammar.
    """

    def __init__(
        self, rules: Rules, spacing: Spacing, *, tagless: bool = False, prefix: str = ""
    ) -> None:
        self.rules = rules
        self._prefix = prefix
        self.spacing = spacing
        self.tagless = tagless
        if spacing is IN_LINES:
            rules.named("space", _SPACE)

    def string(self) -> str:
        name = f"{self._prefix}string"
        if name not in self.rules:
            escape = self.rules.named(f"{self._prefix}escape", _ESCAPE)
            if self.tagless:
                text = (
                    f"({_CHARACTER_BUT_TAG} | {escape} | [<]+ ({_BEHIND_ANGLE} | {escape}))* [<]*"
                )
            else:
                text = f"{self.rules.named(self._character, f'{_CHARACTER} | {escape}')}*"
            self.rules.named(name, rf'"\"" {text} "\""')
        return name

    @property
    def _character(self) -> str:
        return f"{self._prefix}character"

    def bounded_string(self, least: int, most: int | None) -> str:
        """A string of `least` to `most` characters. Not for tagless strings, whose characters cannot be counted."""
        self.string()
        return rf'"\"" {repeated(self._character, least, most)} "\""'

    def integer(self) -> str:
        return self._once("integer", f'"-"? {_NATURAL}')

    def number(self) -> str:
        return self._once("number", f"{self.integer()} {_FRACTION}")

    def natural_number(self) -> str:
        """A number that is not negative."""
        return self._once("natural", f"{_NATURAL} {_FRACTION}")

    def boolean(self) -> str:
        return self._once("boolean", '"true" | "false"')

    def any_value(self, depth: int = ANY_DEPTH) -> str:
        name = f"{self._prefix}any{depth}"
        if name not in self.rules:
            kinds = [self.string(), self.number(), self.boolean(), '"null"']
            if depth > 0:
                kinds = [self.any_object(depth), self.any_array(depth), *kinds]
            self.rules.named(name, " | ".join(kinds))
        return name

    def any_object(self, depth: int = ANY_DEPTH) -> str:
        return self._once(f"object{depth}", self.open_object(self.any_value(depth - 1)))

    def any_array(self, depth: int = ANY_DEPTH) -> str:
        return self._once(f"array{depth}", self.array(self.any_value(depth - 1), 0, None))

    def open_object(self, value: str) -> str:
        """An object with any keys, whose values are all `value`."""
        pair = self.pair(self.string(), value)
        return self.bracketed("{", f"({pair} ({self.comma} {pair})*)?", "}")

    def array(self, item: str, least: int, most: int | None) -> str:
        if most == 0:
            return self.bracketed("[", "", "]")
        more = repeated(
            f"({self.comma} {item})", max(least - 1, 0), None if most is None else most - 1
        )
        items = f"{item} {more}"
        return self.bracketed("[", items if least else f"({items})?", "]")

    def pair(self, key: str, value: str) -> str:
        return f'{key} ":" {self.spacing.between} {value}'

    @property
    def comma(self) -> str:
        return f'"," {self.spacing.between}'

    def bracketed(self, opening: str, inside: str, closing: str) -> str:
        space = self.spacing.inside
        parts = (space, inside, space) if inside else (space,)
        return " ".join([f'"{opening}"', *filter(None, parts), f'"{closing}"'])

    def _once(self, name: str, expression: str) -> str:
        name = self._prefix + name
        if name not in self.rules:
            self.rules.named(name, expression)
        return name


def integer_between(low: int, high: int) -> str:
    """An expression for the integers from `low` to `high`, each of at most `INTEGER_DIGITS_MAX` digits."""
    choices: list[str] = []
    if low < 0:
        choices += [f'"-" {digits}' for digits in _natural(max(-high, 1), -low)]
    if high >= 0:
        choices += _natural(max(low, 0), high)
    return one_of(choices)


def _natural(low: int, high: int) -> list[str]:
    """Patterns of digits for `low` to `high`: ranges are split where a digit stops to be free."""
    patterns: list[str] = []
    while low <= high:
        free = 0
        # The largest block 10^free that begins at `low` and ends by `high`, all with as many digits.
        while low % 10 ** (free + 1) == 0 and low > 0 and low + 10 ** (free + 1) - 1 <= high:
            free += 1
        step = 10**free
        digit = low // step % 10
        last = min(9, digit + (high - low + 1) // step - 1)
        head = str(low // step)[:-1]
        one = f"[{digit}-{last}]" if last > digit else f"[{digit}]"
        tail = f" [0-9]{{{free}}}" if free else ""
        patterns.append((f'"{head}" ' if head else "") + one + tail)
        low += (last - digit + 1) * step
    return patterns
