"""A Jinja in which a template can neither reach out nor run away.

A chat template comes with the weights, so it is a stranger's program. Jinja's own sandbox keeps it from
Python's inside; this module adds the bounds on time and size that Jinja does not have.

How it is bounded: each loop round, call, filter, comparison, and operation that makes text or a list pays from the
`Budget` of the render before it makes anything large or looks through it. So no single operation is long, and the
deadline is seen between any two. Filters and methods are those named here; what can grow without paying (`center`,
`format`, `zfill`) is not among them.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS, do_indent, do_int
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.tests import TESTS
from jinja2.utils import Namespace

from ownstudio.qwen.template_budget import (
    Budget,
    OverBudgetError,
    compared,
    current_budget,
    measured,
    searched,
    taken,
    written,
)
from ownstudio.qwen.template_meters import (
    COMPARED,
    CONCATENATED,
    MEASURED,
    PAY_FIXED,
    ROUNDS,
    SEARCHED,
    SLICED,
    with_meters,
)

MACRO_DEPTH_MAX = 32
NUMBER_BITS_MAX = 256
EXPONENT_MAX = 64
INDENT_MAX = 64
ATTRIBUTE_CHARS_MAX = 1000
SOUGHT_CHARS_FREE = 16
# What `measured` takes for a number.
LIST_ITEM_CHARS = 8
FILTERS_AS_THEY_ARE = frozenset(
    ("abs", "count", "d", "default", "first", "float", "items", "last", "length", "list", "reverse")
)
LAZY_FILTERS = frozenset(("map", "reject", "rejectattr", "select", "selectattr", "unique"))
COMPARING_FILTERS = frozenset(("dictsort", "max", "min", "sort"))
# These make a text of whatever they are given.
WRITING_FILTERS = frozenset(("capitalize", "lower", "title", "upper", "wordcount"))
# Where those filters have the path of an attribute, which they follow anew for each item.
ATTRIBUTE_AT = {
    "map": 0,
    "max": 1,
    "min": 1,
    "rejectattr": 0,
    "selectattr": 0,
    "sort": 2,
    "unique": 1,
}
COMPARING_TESTS = frozenset(
    (
        *("==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge"),
        *("<", "lt", "lessthan", "<=", "le"),
    )
)
NUMBER_TESTS = frozenset(("divisibleby", "even", "odd"))
WRITING_TESTS = frozenset(("lower", "upper"))
METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        (
            *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha"),
            *("isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper"),
            *("join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace"),
            *("rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines"),
            *("startswith", "strip", "swapcase", "title", "upper"),
        )
    ),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
}
SEEKING_METHODS = frozenset(
    ("lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip")
)
# The plain forms of `'%s' % x`: no width that a template could choose at will.
_FORMAT = re.compile(r"%(?:[sdifr%]|0?\d{1,2}d|\.\d{1,2}f)")


class _Rounds:
    """The items of a loop; each round pays for itself and for the fixed text in the loop's body."""

    def __init__(self, items: Any, fixed_chars: int) -> None:
        self._items = items
        self._fixed_chars = fixed_chars

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        budget = current_budget.get()
        for item in self._items:
            budget.step()
            budget.text(self._fixed_chars)
            yield item


def _pay_fixed(_: object, chars: int) -> None:
    current_budget.get().text(chars)


def _concatenated(values: Iterable[Any]) -> str:
    parts = [value if type(value) is str else str(written(value)) for value in values]
    current_budget.get().text(sum(map(len, parts)))
    return "".join(parts)


def _joined(items: Iterable[Any], separator: str = "") -> str:
    parts = [item if isinstance(item, str) else str(written(item)) for item in items]
    budget = current_budget.get()
    budget.text(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


def _replaced(text: str, old: str, new: str, count: int | None = None) -> str:
    text, old, new = str(written(text)), str(old), str(new)
    times = text.count(old) if count is None or count < 0 else min(text.count(old), count)
    current_budget.get().text(len(text) + times * len(new))
    return text.replace(old, new, times)


def _indented(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    each = len(width) if isinstance(width, str) else width
    if not 0 <= each <= INDENT_MAX:
        raise OverBudgetError
    current_budget.get().text(len(text) + each * (text.count("\n") + 2))
    return str(do_indent(text, width, first, blank))


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    measured(value)
    if indent is not None and not 0 <= indent <= INDENT_MAX:
        raise OverBudgetError
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=(separators[0], separators[1]) if separators else None,
        sort_keys=sort_keys,
    )
    current_budget.get().text(len(text))
    return text


def _sliced(part: Any) -> Any:
    budget = current_budget.get()
    if isinstance(part, str):
        budget.text(len(part))
    elif isinstance(part, list | tuple):
        budget.step(len(part))
        budget.text(len(part))
    return part


def _pay_for_seeking(sought: Any, text: str) -> None:
    """Python searches backwards, and for characters to strip, in the product of both lengths."""
    if isinstance(sought, str):
        current_budget.get().text(len(text) * (len(sought) // SOUGHT_CHARS_FREE))


def _trimmed(value: Any, chars: str | None = None) -> str:
    text = value if isinstance(value, str) else str(measured(value))
    _pay_for_seeking(chars, text)
    return text.strip(chars)


def _integer(value: Any, default: int = 0, base: int = 10) -> int:
    """Text in base 16 may have any length, and what is then done with the number takes the square of that."""
    number = do_int(value, default, base)
    if isinstance(number, int) and number.bit_length() > NUMBER_BITS_MAX * EXPONENT_MAX:
        raise OverBudgetError
    return number


def _is_in(value: Any, seq: Any) -> bool:
    return value in searched(seq)


def _paying(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for its call and for the text it gives back."""

    @wraps(function)
    def paying(*args: Any, **kwargs: Any) -> Any:
        budget = current_budget.get()
        budget.step()
        result = function(*args, **kwargs)
        if isinstance(result, str):
            budget.text(len(result))
        elif isinstance(result, list):
            budget.step(len(result))
            budget.text(LIST_ITEM_CHARS * len(result))
        elif isinstance(result, GeneratorType):
            return taken(result)
        return result

    return paying


def _lazy(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for each item that it takes in, and for the texts that it gives back."""

    @wraps(function)
    def lazy(context: Any, items: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        current_budget.get().step()
        return _paid_texts(function(context, taken(items) if items else items, *args, **kwargs))

    return lazy


def _paid_texts(items: Iterator[Any]) -> Iterator[Any]:
    budget = current_budget.get()
    for item in items:
        if isinstance(item, str):
            budget.text(len(item))
        yield item


def _with_short_path(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A filter that refuses a long path of an attribute."""

    @wraps(function)
    def following(context: Any, items: Any, *args: Any, **kwargs: Any) -> Any:
        path = args[place] if len(args) > place else kwargs.get("attribute")
        if isinstance(path, str) and len(path) > ATTRIBUTE_CHARS_MAX:
            raise OverBudgetError
        return function(context, items, *args, **kwargs)

    return following


def _comparing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that first pays for all that it may compare."""

    @wraps(function)
    def comparing(*args: Any, **kwargs: Any) -> Any:
        kept = [list(each) if isinstance(each, Iterator) else each for each in args]
        compared(kept)
        return function(*kept, **kwargs)

    return comparing


def _writing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that first pays for the text that it makes of its value."""

    @wraps(function)
    def writing(value: Any, *args: Any, **kwargs: Any) -> Any:
        paid = compared(value) if isinstance(value, str) else measured(value)
        return function(paid, *args, **kwargs)

    return writing


def _numeric(function: Callable[..., bool]) -> Callable[..., bool]:
    """A test of numbers. It calculates with `%`, which would format a text."""

    @wraps(function)
    def numeric(*args: Any, **kwargs: Any) -> bool:
        for number in (*args, *kwargs.values()):
            if not isinstance(number, int | float):
                raise TypeError("only numbers can be tested so")
            _check_number(number)
        return function(*args, **kwargs)

    return numeric


class _GenerationTag(Extension):
    """`{% generation %}` marks what a model wrote, for training; here its body is just there."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compiles templates that pay from `current_budget`. Make it once; it does not change afterwards."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            # Folding constants would run parts of the template while it is compiled.
            optimized=False,
            finalize=written,
            extensions=[loopcontrols, _GenerationTag],
        )
        self.filters = {
            **{name: _paying(FILTERS[name]) for name in FILTERS_AS_THEY_ARE},
            **{name: _paying(_comparing(FILTERS[name])) for name in COMPARING_FILTERS},
            **{name: _paying(_writing(FILTERS[name])) for name in WRITING_FILTERS},
            **{name: _lazy(FILTERS[name]) for name in LAZY_FILTERS},
            "int": _paying(_integer),
            "trim": _paying(_trimmed),
            "indent": _indented,
            "join": _joined,
            "replace": _replaced,
            "safe": lambda value: str(written(value)),
            "string": lambda value: str(written(value)),
            "tojson": _json,
            ROUNDS: _Rounds,
            PAY_FIXED: _pay_fixed,
            CONCATENATED: _concatenated,
            MEASURED: measured,
            COMPARED: compared,
            SEARCHED: searched,
            SLICED: _sliced,
        }
        for name, place in ATTRIBUTE_AT.items():
            self.filters[name] = _with_short_path(self.filters[name], place)
        tests: Mapping[str, Any] = TESTS
        self.tests = {
            **tests,
            **{name: _comparing(tests[name]) for name in COMPARING_TESTS},
            **{name: _numeric(tests[name]) for name in NUMBER_TESTS},
            **{name: _writing(tests[name]) for name in WRITING_TESTS},
            "in": _is_in,
        }
        self.globals = {"range": safe_range, "namespace": Namespace}

    def metered(self, source: str) -> nodes.Template:
        """The parsed template with its meters. Raises Jinja's TemplateSyntaxError."""
        return with_meters(self._parse(source, None, None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, methods in METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is not among the methods, so nothing needs to be wrapped."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = current_budget.get()
        budget.step()
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            budget.text(len(left) + len(right))
            return left + right
        if isinstance(left, int | float) and isinstance(right, int | float):
            _check_numbers(operator, left, right)
        elif operator == "*":
            _check_repeat(left, right)
        elif operator == "%" and isinstance(left, str):
            if _FORMAT.sub("", left).count("%"):
                raise TypeError("only plain forms of % are supported")
            measured(left)
            measured(right)
        elif operator == "+":
            measured(left)
            measured(right)
        return self.binop_table[operator](left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = current_budget.get()
        budget.step()
        if isinstance(obj, Macro):
            return self._call_macro(budget, context, obj, args, kwargs)
        owner = getattr(obj, "__self__", None)
        if not isinstance(owner, str):
            # `count` and `index` of a list, `changed` of a loop.
            if isinstance(owner, list | tuple):
                compared(owner)
            elif isinstance(owner, LoopContext):
                compared(args)
            return super().call(context, obj, *args, **kwargs)
        # Jinja passes the variables of a loop or block to whatever is called there.
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        if obj.__name__ == "replace":
            return _replaced(owner, *args, **kwargs)
        if obj.__name__ == "join":
            (items,) = args
            return _joined(items, owner)
        if obj.__name__ in SEEKING_METHODS:
            _pay_for_seeking(args[0] if args else kwargs.get("sep"), owner)
        result = obj(*args, **kwargs)
        if isinstance(result, str):
            budget.text(len(result))
        elif isinstance(result, tuple):
            budget.text(len(owner))
        elif isinstance(result, list):
            # A short piece of text takes far more memory than its characters.
            budget.text(len(owner) + 16 * len(result))
        return result

    def _call_macro(
        self,
        budget: Budget,
        context: Context,
        macro: Macro,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if budget.depth >= MACRO_DEPTH_MAX:
            raise OverBudgetError
        budget.depth += 1
        try:
            return super().call(context, macro, *args, **kwargs)
        finally:
            budget.depth -= 1


def _check_numbers(operator: str, left: float, right: float) -> None:
    _check_number(left)
    _check_number(right)
    if operator == "**" and abs(right) > EXPONENT_MAX:
        raise OverBudgetError


def _check_number(number: float) -> None:
    if isinstance(number, int) and number.bit_length() > NUMBER_BITS_MAX:
        raise OverBudgetError


def _check_repeat(left: Any, right: Any) -> None:
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if not isinstance(times, int) or not isinstance(repeated, str | list | tuple):
        raise TypeError("only text and lists can be repeated")
    budget = current_budget.get()
    before = budget.chars
    measured(repeated)
    budget.text((before - budget.chars) * max(0, times))
