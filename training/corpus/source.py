"""Where every generator gets its chance and its words, split into two sides that never meet.

Training draws from one side of each pool, evaluation from the other: other names, other numbers,
other wordings, other functions, by construction and not by a later comparison.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

Value = TypeVar("Value")

HELD_OUT_SHARE = 6  # one value in so many, and always at least one


def mark(text: str) -> int:
    """A number that depends on the text alone, so that the split survives any reordering."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Pool:
    """Values of one kind; the ones with the lowest marks are held out.

    `always` goes to training, so that the questions of the documentation are known ones.
    """

    def __init__(self, values: Sequence[str], always: Sequence[str] = ()) -> None:
        ordered = sorted(set(values), key=lambda value: (value in always, mark(value)))
        border = max(1, len(ordered) // HELD_OUT_SHARE)
        self.held_out = ordered[:border]
        self.training = ordered[border:]


def spaced(text: str) -> Pool:
    return Pool(text.split())


def lines(text: str, *always: str) -> Pool:
    return Pool([*(line.strip() for line in text.strip().splitlines()), *always], always)


@dataclass(frozen=True)
class Piece:
    """A stretch of text; only what the model itself writes is `answer`."""

    text: str
    answer: bool


Sample = tuple[Piece, ...]


class Source:
    def __init__(self, seed: int | str, *, held_out: bool) -> None:
        self.random = random.Random(f"{seed}/{held_out}")
        self.held_out = held_out

    def side(self, pool: Pool) -> list[str]:
        return pool.held_out if self.held_out else pool.training

    def pick(self, pool: Pool) -> str:
        return self.random.choice(self.side(pool))

    def several(self, pool: Pool, count: int) -> list[str]:
        side = self.side(pool)
        return self.random.sample(side, min(count, len(side)))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def number(self, low: int, high: int) -> int:
        """Uniform over [low, high], on this side: held-out numbers are those that leave 3 by 7."""
        while True:
            value = self.random.randint(low, high)
            if high - low < 7 or (value % 7 == 3) == self.held_out:
                return value

    def weighted(self, choices: Sequence[tuple[float, Value]]) -> Value:
        values = [value for _, value in choices]
        return self.random.choices(values, [share for share, _ in choices])[0]


Generator = Callable[[Source], Sample]
