"""What a chat template may use while it renders: steps, characters and time."""

from contextvars import ContextVar
from time import perf_counter
from typing import Any

from jinja2 import Undefined

BIG_TEXT = 1 << 20
STEPS_PER_CLOCK_READ = 32
ITEMS_PER_STEP = 16


class OverBudgetError(Exception):
    """The template wanted more than its budget."""


class Budget:
    """What one render may still use. `deadline` is in seconds of `perf_counter`."""

    __slots__ = ("_clock_read_at", "chars", "deadline", "depth", "steps")

    def __init__(self, steps: int, chars: int, seconds: float) -> None:
        self.steps = steps
        self.chars = chars
        self.depth = 0
        self.deadline = perf_counter() + seconds
        self._clock_read_at = steps - STEPS_PER_CLOCK_READ

    def step(self, items: int = 0) -> None:
        """One operation, with more to do where it handles many `items`."""
        self.steps -= 1 + items // ITEMS_PER_STEP
        if self.steps <= self._clock_read_at:
            self._clock_read_at = self.steps - STEPS_PER_CLOCK_READ
            self._check()

    def text(self, chars: int) -> None:
        self.chars -= chars
        if self.chars < 0 or chars > BIG_TEXT:
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


def written(value: Any) -> Any:
    """What may be written out with `str`, paid for."""
    if type(value) is str:
        current_budget.get().text(len(value))
        return value
    return measured(value)
