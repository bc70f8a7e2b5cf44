"""What a benchmark yields: one figure with its budget, and the numbers behind it."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct


class Budget(Struct, frozen=True):
    """A bound: at least `limit` where `at_least`, else below it."""

    limit: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def words(self, unit: str) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}{unit}"


class Figure(Struct, frozen=True):
    """`unit` is empty for a ratio. `behind` tells, in a few words, the absolute numbers of this machine."""

    row: str
    what: str
    against: str
    value: float
    unit: str
    budget: Budget
    behind: str

    @property
    def met(self) -> bool:
        return self.budget.met_by(self.value)

    def value_words(self) -> str:
        return f"{self.value:.3g}{self.unit}"


class Effort(Struct, frozen=True):
    """How long to measure. `turns` is how often each side of a ratio has its turn, `load_s` how long one turn loads.

    `pairs` is how many requests are compared one by one, `engine_turns` the turns of the real engine, which are
    longer, `streams` how many are held open, and `starts` how many starts are timed.
    """

    turns: int
    load_s: float
    pairs: int
    engine_turns: int
    streams: int
    starts: int


FULL = Effort(turns=6, load_s=2.5, pairs=1200, engine_turns=8, streams=1000, starts=3)
QUICK = Effort(turns=2, load_s=0.8, pairs=200, engine_turns=1, streams=200, starts=2)

# Told after each turn, so that the progress bar moves.
Step = Callable[[], None]


class Benchmark(Struct, frozen=True):
    """One row of the budgets: `steps` says how many times `run` will call its Step."""

    row: str
    title: str
    steps: Callable[[Effort], int]
    run: Callable[[Effort, Step], Coroutine[Any, Any, Sequence[Figure]]]
