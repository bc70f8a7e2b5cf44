"""`python -m benchmarks`: measure every budget, print the table, exit 0 when all are met and 1 when not."""

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import generation, latency, ledger, parsing, start, streams, throughput
from benchmarks.client import RequestFailed
from benchmarks.figures import FULL, QUICK, Benchmark, Effort, Figure
from benchmarks.machine import machine
from benchmarks.processes import StartFailed
from benchmarks.report import Report, print_table, write_json, write_page

BENCHMARKS = (
    Benchmark("requests", "requests on one core", throughput.steps, throughput.requests_per_second),
    Benchmark("chunks", "chunks on one core", throughput.steps, throughput.chunks_per_second),
    Benchmark("parser", "parser and stop matcher", parsing.steps, parsing.per_chunk),
    Benchmark("ledger", "hold and settle", ledger.steps, ledger.hold_and_settle),
    Benchmark("latency", "added latency", latency.steps, latency.added_latency),
    Benchmark(
        "engine", "tokens and first tokens", generation.steps, generation.speed_and_first_token
    ),
    Benchmark("streams", "memory per stream", streams.steps, streams.memory_per_stream),
    Benchmark("start", "start to first token", start.steps, start.start_to_first_token),
)


def main(
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures there, too.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A short look: figures that nobody should rely on.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help=f"One of {', '.join(one.row for one in BENCHMARKS)}."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replace the figures of a Markdown page.")
    ] = None,
) -> None:
    """Measure the budgets as ratios, side by side on this machine."""
    if sys.platform != "linux":
        raise typer.BadParameter(
            "CPU time and memory are read from /proc: the benchmarks need Linux"
        )
    chosen = [one for one in BENCHMARKS if not only or one.row in only]
    if not chosen or (only and len(chosen) < len(set(only))):
        raise typer.BadParameter(f"there is no such row among {', '.join(only or ())}")
    report = measure(chosen, QUICK if quick else FULL, quick=quick)
    console = Console()
    print_table(report, console)
    if json is not None:
        write_json(report, json)
    if page is not None:
        write_page(report, page)
    raise typer.Exit(0 if report.met else 1)


def measure(chosen: Sequence[Benchmark], effort: Effort, *, quick: bool) -> Report:
    """Run the benchmarks one after the other; one that fails is a fault of the report, not its end."""
    here = machine()
    begun = time.monotonic()
    figures: list[Figure] = []
    faults: dict[str, str] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with progress:
        for one in chosen:
            task = progress.add_task(one.title, total=one.steps(effort))
            step = partial(progress.advance, task)
            try:
                figures += uvloop.run(one.run(effort, step))
            except* (StartFailed, RequestFailed, OSError, ValueError) as failed:
                faults[one.row] = str(failed.exceptions[0])
    return Report(
        machine=here,
        seconds=time.monotonic() - begun,
        quick=quick,
        figures=figures,
        faults=faults,
    )


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
