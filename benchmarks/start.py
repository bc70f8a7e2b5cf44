"""From `ownstudio serve` to the first token of the bundled model, as its user waits for it.

The data directory is warm: an earlier start made the database and the key. The clock runs from the making of the
process to the first text that a request gets which is sent as soon as the server listens.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.client import Connection, Target
from benchmarks.engine_load import chat_body
from benchmarks.figures import Budget, Effort, Figure, Step
from benchmarks.processes import CHAT, Process, free_port
from benchmarks.throughput import TEXT

BUDGET = Budget(3.0, at_least=False)
POLL_S = 0.005


def steps(effort: Effort) -> int:
    return effort.starts + 1


async def start_to_first_token(effort: Effort, step: Step) -> Sequence[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        data = Path(directory) / "data"
        times = []
        for _ in range(effort.starts + 1):
            times.append(await _start(data, Path(directory)))
            step()
    warm = times[1:]
    return [
        Figure(
            row="start",
            what="start: `serve` to the first token of the bundled model",
            against="nothing",
            value=median(warm),
            unit=" s",
            budget=BUDGET,
            behind=f"{min(warm):.2f} to {max(warm):.2f} s in {len(warm)} starts; {times[0]:.2f} s the first ever",
        )
    ]


async def _start(data: Path, home: Path) -> float:
    """Seconds of one start."""
    port = free_port()
    command = [sys.executable, "-m", "ownstudio", "serve", "--port", str(port), "--data", str(data)]
    process = Process(command, port, home / "log", cwd=home)
    try:
        await asyncio.to_thread(process.wait_listening, POLL_S)
        key = (data / "first-key").read_text("utf-8").strip()
        target = Target(path=CHAT, port=port, key=key)
        connection = await Connection.open(target)
        connection.send(target.request(chat_body(TEXT, tokens=4, stream=True)))
        await connection.started()
        seconds = perf_counter() - process.begun
        connection.close()
    finally:
        process.stop()
    return seconds
