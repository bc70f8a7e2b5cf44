"""Tokens per second and time to first token: the engine through Ownstudio, against the same engine process directly.

Both sides send the same token ids with the same sampling, but for a number at the beginning of each prompt that keeps
the engine's prompt cache from serving whoever comes second, and both ignore the end token, so that all answers are
equally long. A turn is a few waves of requests that all start at
once. The ratio is taken turn by turn, since neighbours on the machine slow an engine more than a gateway does, and
the figure is the median of the ratios. On a slow machine fewer turns are made, never fewer than two.
"""

from collections.abc import Sequence
from statistics import median
from time import perf_counter

from msgspec import Struct

from benchmarks.client import Load, wave
from benchmarks.engine_load import (
    Ask,
    both_forms,
    chat_body,
    engine_tokens,
    fresh_text,
    studio_tokens,
)
from benchmarks.figures import Budget, Effort, Figure, Step
from benchmarks.processes import Gateway, gateway

SPEED_BUDGET = Budget(0.97, at_least=True)
FIRST_TOKEN_BUDGET = Budget(1.05, at_least=False)
# Clients, and how many waves of them make a turn: few clients need more for a steady figure.
WAVES = {1: 4, 4: 2, 16: 1}
SLOTS = 16
CONTEXT = 1024
TOKENS = 64
SENTENCES = 20
TURNS_MIN = 2
CLIENTS_S_MAX = 30.0
BARE = "the bare engine worker"


class Turn(Struct, frozen=True):
    """Tokens per second, and the median time to first token in seconds."""

    speed: float
    first_s: float


class Asks:
    """Requests in both forms, each to be sent once."""

    def __init__(self, asks: list[Ask]) -> None:
        self._asks = iter(asks)

    def waves(self, clients: int) -> list[list[Ask]]:
        """The work of one side in one turn."""
        return [[next(self._asks) for _ in range(clients)] for _ in range(WAVES[clients])]


def steps(effort: Effort) -> int:
    return len(WAVES) * effort.engine_turns


async def speed_and_first_token(effort: Effort, step: Step) -> Sequence[Figure]:
    needed = SLOTS * 2 + 2 * effort.engine_turns * sum(n * waves for n, waves in WAVES.items())
    bodies = [
        chat_body(fresh_text(number, SENTENCES), tokens=TOKENS, stream=True)
        for number in range(needed)
    ]
    asks = Asks(await both_forms(bodies, slots=SLOTS, context=CONTEXT, endless=True))
    figures: list[Figure] = []
    with gateway(slots=SLOTS, context=CONTEXT, endless=True) as studio:
        await _through(studio, asks.waves(SLOTS))
        await _direct(studio, asks.waves(SLOTS))
        for clients in WAVES:
            figures += await _at(clients, studio, asks, effort.engine_turns, step)
    return figures


async def _at(clients: int, studio: Gateway, asks: Asks, turns: int, step: Step) -> list[Figure]:
    ours: list[Turn] = []
    theirs: list[Turn] = []
    begun = perf_counter()
    for turn in range(turns):
        if turn < TURNS_MIN or perf_counter() - begun < CLIENTS_S_MAX:
            for is_gateway in (True, False) if turn % 2 else (False, True):
                if is_gateway:
                    ours.append(await _through(studio, asks.waves(clients)))
                else:
                    theirs.append(await _direct(studio, asks.waves(clients)))
        step()
    return _figures(clients, ours, theirs)


async def _through(studio: Gateway, work: list[list[Ask]]) -> Turn:
    loads = [
        await wave(studio.target, [ask.studio for ask in asks], reconnect=False) for asks in work
    ]
    return _turn(loads, [studio_tokens(answer.body()) for load in loads for answer in load.answers])


async def _direct(studio: Gateway, work: list[list[Ask]]) -> Turn:
    target = studio.engine_target
    loads = [await wave(target, [ask.engine for ask in asks], reconnect=True) for asks in work]
    return _turn(loads, [engine_tokens(answer.body()) for load in loads for answer in load.answers])


def _turn(loads: list[Load], tokens: list[int]) -> Turn:
    return Turn(
        speed=sum(tokens) / sum(load.seconds for load in loads),
        first_s=median(answer.first_s for load in loads for answer in load.answers),
    )


def _figures(clients: int, ours: list[Turn], theirs: list[Turn]) -> list[Figure]:
    turns = list(zip(ours, theirs, strict=True))
    at = f"at {clients} client{'s' * (clients > 1)}"
    speeds = median(one.speed for one in ours), median(one.speed for one in theirs)
    firsts = median(one.first_s for one in ours), median(one.first_s for one in theirs)
    return [
        Figure(
            row="engine",
            what=f"tokens/s {at}",
            against=BARE,
            value=median(one.speed / other.speed for one, other in turns),
            unit="",
            budget=SPEED_BUDGET,
            behind=f"{speeds[0]:,.0f} against {speeds[1]:,.0f} tokens/s, {len(turns)} turns each",
        ),
        Figure(
            row="engine",
            what=f"time to first token {at}",
            against=BARE,
            value=median(one.first_s / other.first_s for one, other in turns),
            unit=" times",
            budget=FIRST_TOKEN_BUDGET,
            behind=f"{1000 * firsts[0]:.1f} ms against {1000 * firsts[1]:.1f} ms",
        ),
    ]
