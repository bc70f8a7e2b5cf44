"""What the gateway adds to one request of one client: its time through Ownstudio less its time at the engine.

Ownstudio, the engine and the pass-through are asked one after the other, in changing order, so that all meet the same
machine. The engine is asked as the product asks it: a connection of its own for each request. The real engine answers
one token, its prompt in its cache; the double answers at once and shows the gateway's own share with less noise
around it. What the pass-through adds is told beside it: so much of the figure is the foundations'.
"""

from collections.abc import Sequence
from statistics import quantiles

from msgspec import Struct

from benchmarks.client import Connection, Target, ask_once
from benchmarks.engine_load import Ask, both_forms, chat_body
from benchmarks.figures import Budget, Effort, Figure, Step
from benchmarks.processes import Gateway, Process, gateway, passthrough
from benchmarks.throughput import TEXT

BUDGETS_MS = {50: Budget(1.0, at_least=False), 99: Budget(3.0, at_least=False)}
SLOTS = 4
CONTEXT = 1024
STEPS_EACH = 10
WARM_UP = 20


class Times(Struct, frozen=True):
    """Seconds of each request, by the way that it took."""

    studio: list[float]
    bare: list[float]
    direct: list[float]


def steps(effort: Effort) -> int:
    return 2 * STEPS_EACH


async def added_latency(effort: Effort, step: Step) -> Sequence[Figure]:
    real = await compare("the bundled model", None, effort, step)
    double = await compare("an engine that computes nothing", 0.0, effort, step)
    return [*real, *double]


async def compare(engine: str, gap_s: float | None, effort: Effort, step: Step) -> list[Figure]:
    """The figures with one engine: the real one, or the double where `gap_s` is given."""
    body = chat_body(TEXT, tokens=1, stream=False)
    (ask,) = await both_forms([body], slots=SLOTS, context=CONTEXT)
    with (
        gateway(gap_s=gap_s, slots=SLOTS, context=CONTEXT) as studio,
        passthrough(studio.engine) as bare,
    ):
        times = await take_times(studio, bare, ask, effort.pairs, step)
    return [_figure(percent, engine, times) for percent in BUDGETS_MS]


async def take_times(studio: Gateway, bare: Process, ask: Ask, rounds: int, step: Step) -> Times:
    """Ask all three ways, `rounds` times each."""
    bare_target = Target(path="/answer", port=bare.port)
    engine_request = studio.engine_target.request(ask.engine)
    to_studio = await Connection.open(studio.target)
    to_bare = await Connection.open(bare_target)
    times = Times([], [], [])

    async def ask_studio() -> None:
        times.studio.append((await to_studio.ask(studio.target.request(ask.studio))).seconds)

    async def ask_bare() -> None:
        times.bare.append((await to_bare.ask(bare_target.request(ask.engine))).seconds)

    async def ask_engine() -> None:
        times.direct.append((await ask_once(studio.engine_target, engine_request)).seconds)

    ways = [ask_studio, ask_bare, ask_engine]
    try:
        for number in range(WARM_UP + rounds):
            for offset in range(len(ways)):
                await ways[(number + offset) % len(ways)]()
            if number >= WARM_UP and (number - WARM_UP + 1) % max(1, rounds // STEPS_EACH) == 0:
                step()
    finally:
        to_studio.close()
        to_bare.close()
    return Times(times.studio[WARM_UP:], times.bare[WARM_UP:], times.direct[WARM_UP:])


def _figure(percent: int, engine: str, times: Times) -> Figure:
    studio, bare, direct = (
        1000 * quantiles(way, n=100)[percent - 1]
        for way in (times.studio, times.bare, times.direct)
    )
    return Figure(
        row="latency",
        what=f"added latency at one client, p{percent}, with {engine}",
        against="the engine called directly",
        value=studio - direct,
        unit=" ms",
        budget=BUDGETS_MS[percent],
        behind=f"{studio:.2f} ms against {direct:.2f} ms; the pass-through adds {bare - direct:.2f} ms",
    )
