"""Requests and streamed chunks per second on one core, against a pass-through that checks nothing.

Load, engine and gateway share few cores, so wall time would measure who got them. The figure is therefore CPU time:
what the server's process spends, all threads, over the requests that it answered; one core does the
inverse of that per second. The server has one core to itself, the double and the load another, so that the wall-clock
rate, told beside it, is that of one core too, as long as the load keeps up.
"""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from benchmarks.client import NUMBER, Load, Target, closed_loop
from benchmarks.engine_load import chat_body
from benchmarks.figures import Budget, Effort, Figure, Step
from benchmarks.processes import Process, gateway, on_load_core, passthrough

BUDGET = Budget(0.5, at_least=True)
TEXT = f"Tell me about house {NUMBER.decode()} by the river that runs through town."
CLIENTS = 16
SLOTS = 64
ANSWER_TOKENS = 16
STREAM_TOKENS = 64
# A fast engine's step; no reader can fall so far behind that two steps reach it as one.
STREAM_GAP_S = 0.005
WARM_UP_S = 0.5

PASSTHROUGH = "a raw-ASGI pass-through that checks nothing"


class Side(Struct, frozen=True):
    """One of the two servers, where to ask it, and how many units an answer counts for."""

    process: Process
    target: Target


class Rates(Struct, frozen=True):
    """Units per second: of the server's own CPU time, and of wall-clock time."""

    per_core: float
    wall: float


async def requests_per_second(effort: Effort, step: Step) -> Sequence[Figure]:
    ours, theirs = await _compare(effort, step, stream=False)
    return [_figure("requests", "requests/s of the whole gateway on one core", ours, theirs)]


async def chunks_per_second(effort: Effort, step: Step) -> Sequence[Figure]:
    ours, theirs = await _compare(effort, step, stream=True)
    return [_figure("chunks", "streamed chunks/s on one core", ours, theirs)]


def steps(effort: Effort) -> int:
    return 2 * effort.turns


async def _compare(effort: Effort, step: Step, *, stream: bool) -> tuple[Rates, Rates]:
    """The median rates of the gateway and of the pass-through, in turns against the same double."""
    body = chat_body(TEXT, tokens=STREAM_TOKENS if stream else ANSWER_TOKENS, stream=stream)
    gap_s = STREAM_GAP_S if stream else 0.0
    with (
        gateway(gap_s=gap_s, slots=SLOTS, context=1024, pinned=True) as studio,
        passthrough(studio.engine, pinned=True) as bare,
        on_load_core(),
    ):
        sides = (
            Side(studio, studio.target),
            Side(bare, Target(path="/stream" if stream else "/answer", port=bare.port)),
        )
        for side in sides:
            await closed_loop(side.target, body, clients=CLIENTS, seconds=WARM_UP_S)
        return await in_turns(sides, body, effort, step, stream=stream)


async def in_turns(
    sides: tuple[Side, Side], body: bytes, effort: Effort, step: Step, *, stream: bool
) -> tuple[Rates, Rates]:
    """The median rates of both sides."""
    measured: tuple[list[Rates], list[Rates]] = ([], [])
    for turn in range(effort.turns):
        # First one begins, then the other: a disturbance that grows or fades hits both alike.
        for index in (0, 1) if turn % 2 == 0 else (1, 0):
            rates = await _turn(sides[index], body, effort.load_s, stream=stream)
            measured[index].append(rates)
            step()
    return _median(measured[0]), _median(measured[1])


async def _turn(side: Side, body: bytes, seconds: float, *, stream: bool) -> Rates:
    before = side.process.cpu_s()
    load = await closed_loop(side.target, body, clients=CLIENTS, seconds=seconds)
    cpu_s = side.process.cpu_s() - before
    units = _units(load, stream=stream)
    return Rates(per_core=units / cpu_s, wall=units / load.seconds)


def _units(load: Load, *, stream: bool) -> int:
    """Answers, or tokens that came as chunks. Raises ValueError for a stream that is not whole."""
    if not stream:
        return len(load.answers)
    for answer in load.answers:
        if answer.events < STREAM_TOKENS:
            raise ValueError(f"a stream of {answer.events} events is not whole")
    return len(load.answers) * STREAM_TOKENS


def _median(rates: list[Rates]) -> Rates:
    return Rates(median(one.per_core for one in rates), median(one.wall for one in rates))


def _figure(row: str, what: str, ours: Rates, theirs: Rates) -> Figure:
    return Figure(
        row=row,
        what=what,
        against=PASSTHROUGH,
        value=ours.per_core / theirs.per_core,
        unit="",
        budget=BUDGET,
        behind=behind(ours, theirs),
    )


def behind(ours: Rates, theirs: Rates) -> str:
    return (
        f"{ours.per_core:,.0f} against {theirs.per_core:,.0f} per CPU second, "
        f"{1e6 / ours.per_core:,.0f} against {1e6 / theirs.per_core:,.0f} µs each; "
        f"by the clock {ours.wall:,.0f} against {theirs.wall:,.0f}"
    )
