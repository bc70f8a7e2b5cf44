"""What a chat template may use while it renders: steps, characters and time."""

from collections.abc import Iterator
from contextvars import ContextVar
from time import perf_counter
from types import NoneType
from typing import Any

from jinja2 import Undefined

BIG_TEXT = 1 << 20
STEPS_PER_CLOCK_READ = 32
ITEMS_PER_STEP = 16
# What takes as long to compare or to search as one item of a list.
CHARS_PER_ITEM = 256

_COMPARED_AT_ONCE = frozenset((bool, float, int, NoneType))
_EMPTY: dict[str, str] = {}
_COMPARED_BY_ITEM = (list, tuple, type(_EMPTY.items()), type(_EMPTY.values()))


class OverBudgetError(Exception):
    """The template wanted more than its budget."""


class Budget:
    """What one render may still use. `deadline` is in seconds of `perf_counter`."""

    __slots__ = ("_chars_at_clock_read", "_clock_read_at", "chars", "deadline", "depth", "steps")

    def __init__(self, steps: int, chars: int, seconds: float) -> None:
        self.steps = steps
        self.chars = chars
        self.depth = 0
        self.deadline = perf_counter() + seconds
        self._clock_read_at = steps - STEPS_PER_CLOCK_READ
        self._chars_at_clock_read = max(0, chars - BIG_TEXT)

    def step(self, items: int = 0) -> None:
        """One operation, with more to do where it handles many `items`."""
        self.steps -= 1 + items // ITEMS_PER_STEP
        if self.steps <= self._clock_read_at:
            self._clock_read_at = self.steps - STEPS_PER_CLOCK_READ
            self._check()

    def text(self, chars: int) -> None:
        self.chars -= chars
        if self.chars < self._chars_at_clock_read:
            # Many texts take as long as a big one.
            self._chars_at_clock_read = max(0, self.chars - BIG_TEXT)
            self._check()

    def _check(self) -> None:
        if self.steps <= 0 or self.chars < 0 or perf_counter() > self.deadline:
            raise OverBudgetError


current_budget: ContextVar[Budget] = ContextVar("budget")


def measured(value: Any) -> Any:
    """Pay for `value` as if it were written out in full, however often its parts refer to the same text."""
    pay = current_budget.get().text
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            pay(len(item) + 1)
        elif isinstance(item, dict):
            pay(1)
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            pay(1)
            waiting.extend(item)
        elif item is None or isinstance(item, int | float | Undefined | range):
            pay(8)
        else:
            raise TypeError(f"a template cannot write out or collect a {type(item).__name__}")
    return value


def compared(value: Any) -> Any:
    """Pay for looking through all of `value`, however often its parts refer to the same list."""
    if type(value) in _COMPARED_AT_ONCE or (isinstance(value, str) and len(value) < CHARS_PER_ITEM):
        return value
    step = current_budget.get().step
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if len(item) >= CHARS_PER_ITEM:
                step(len(item) // CHARS_PER_ITEM)
        elif isinstance(item, dict):
            step(len(item))
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, range):
            step(len(item))
        elif isinstance(item, _COMPARED_BY_ITEM):
            step(len(item))
            waiting.extend([part for part in item if type(part) not in _COMPARED_AT_ONCE])
    return value


def searched(container: Any) -> Any:
    """What `in` may look through, paid for. A dict finds its keys without looking."""
    if isinstance(container, dict):
        return container
    if isinstance(container, Iterator):
        return (compared(item) for item in taken(container))
    return compared(container)


def taken(items: Any) -> Iterator[Any]:
    """The items one by one, each paid for."""
    budget = current_budget.get()
    for item in items:
        budget.step()
        yield item


def written(value: Any) -> Any:
    """What may be written out with `str`, paid for."""
    if type(value) is str:
        current_budget.get().text(len(value))
        return value
    return measured(value)
