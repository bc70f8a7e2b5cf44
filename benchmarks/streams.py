"""Memory per stream: many streams held open, each writing a token every two seconds.

The double writes; what is weighed is the resident memory of the gateway's process, before the streams and with all of
them under way. Streams of a first, small wave come before the weighing, so that what is built once is not counted.
"""

import asyncio
import resource
from collections.abc import Sequence

from benchmarks.client import Connection
from benchmarks.engine_load import chat_body
from benchmarks.figures import Budget, Effort, Figure, Step
from benchmarks.processes import Gateway, gateway
from benchmarks.throughput import TEXT

BUDGET = Budget(100.0, at_least=False)
GAP_S = 2.0
TOKENS = 60
OPENED_AT_ONCE = 50
# Long enough for each stream to write a few times.
HELD_S = 3 * GAP_S
FILES_PER_STREAM = 2


def steps(effort: Effort) -> int:
    return -(-effort.streams // OPENED_AT_ONCE) + 1


async def memory_per_stream(effort: Effort, step: Step) -> Sequence[Figure]:
    _allow_files(FILES_PER_STREAM * effort.streams + 256)
    with gateway(gap_s=GAP_S, slots=effort.streams + OPENED_AT_ONCE, context=128) as studio:
        for connection in await _open(studio, OPENED_AT_ONCE):
            connection.close()
        await asyncio.sleep(GAP_S)
        before = studio.resident_bytes()
        connections: list[Connection] = []
        while len(connections) < effort.streams:
            wanted = min(OPENED_AT_ONCE, effort.streams - len(connections))
            connections += await _open(studio, wanted)
            step()
        await asyncio.sleep(HELD_S)
        after = studio.resident_bytes()
        alive = sum(not one.closed and one.answer.events > 1 for one in connections)
        for connection in connections:
            connection.close()
        step()
    if alive < effort.streams:
        raise ValueError(f"only {alive} of {effort.streams} streams were under way")
    return [
        Figure(
            row="streams",
            what=f"memory per stream at {effort.streams:,} idle-ish streams",
            against="nothing",
            value=(after - before) / effort.streams / 1024,
            unit=" KiB",
            budget=BUDGET,
            behind=f"{before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB with them",
        )
    ]


async def _open(studio: Gateway, number: int) -> list[Connection]:
    """Streams that have written their first token."""
    request = studio.target.request(chat_body(TEXT, tokens=TOKENS, stream=True))
    connections = [await Connection.open(studio.target) for _ in range(number)]
    for connection in connections:
        connection.send(request)
    await asyncio.gather(*(connection.started() for connection in connections))
    return connections


def _allow_files(number: int) -> None:
    """Raise this process's bound on open files, which its children inherit, as far as is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))
