"""Those of one account who wait for their turn, in order.

Keys take turns: each turn's first stands at the head, and when it is admitted its turn goes to the end. A turn that
could not be served keeps its place. This is the order alone; who is admitted decides the limiter.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

from ownstudio.limits.terms import Ask, Grant, Refusal


class Waiter:
    """Somebody who waits. `refusal` is why, as of `refused_at`; there is no use in asking again before `ready_at`."""

    __slots__ = (
        "ask",
        "deadline",
        "outcome",
        "ready_at",
        "refusal",
        "refused_at",
        "scopes",
        "since",
    )

    refusal: Refusal
    refused_at: float
    ready_at: float

    def __init__(self, ask: Ask, scopes: Iterable[str], since: float, wait_s: float) -> None:
        self.ask = ask
        self.scopes = frozenset(scopes)
        self.since = since
        self.deadline = since + wait_s
        self.outcome: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()

    def refuse(self, refusal: Refusal, at: float, ready_in_s: float) -> None:
        self.refusal = refusal
        self.refused_at = at
        self.ready_at = at + ready_in_s


class Line:
    """One account's waiters. `kicked` is set whenever it is worth a look."""

    def __init__(self) -> None:
        # The order of the dictionary is the order of the turns.
        self._turns: dict[str, deque[Waiter]] = {}
        self.kicked = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._turns)

    @property
    def refusal(self) -> Refusal:
        """Why there is a line."""
        return next(iter(self._turns.values()))[0].refusal

    def join(self, waiter: Waiter) -> None:
        self._turns.setdefault(waiter.ask.turn, deque()).append(waiter)
        self.kicked.set()

    def leave(self, waiter: Waiter) -> bool:
        """Take somebody out, wherever they stand; False where they have left already."""
        turn = self._turns.get(waiter.ask.turn)
        if turn is None or waiter not in turn:
            return False
        turn.remove(waiter)
        if not turn:
            del self._turns[waiter.ask.turn]
        self.kicked.set()
        return True

    def serve(self, waiter: Waiter) -> None:
        """Take out somebody who was admitted, and let the other turns go first from now on."""
        self.leave(waiter)
        turn = self._turns.pop(waiter.ask.turn, None)
        if turn is not None:
            self._turns[waiter.ask.turn] = turn

    def heads(self) -> list[Waiter]:
        return [turn[0] for turn in self._turns.values()]

    def everybody(self) -> list[Waiter]:
        return [waiter for turn in self._turns.values() for waiter in turn]

    def loosen(self, scopes: Iterable[str]) -> None:
        """Something came back in these scopes: whoever it was refused to may ask again."""
        freed = set(scopes)
        for waiter in self.heads():
            if waiter.refusal.scope in freed:
                waiter.ready_at = waiter.refused_at
                self.kicked.set()
