"""Draws the loss curve of the last run: `python -m training.plot`."""

from __future__ import annotations

import argparse
import csv
from itertools import accumulate
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
MEMORY = 0.93  # of the running mean that is drawn over the single steps


def smoothed(values: list[float]) -> list[float]:
    return list(accumulate(values, lambda mean, value: MEMORY * mean + (1 - MEMORY) * value))


def draw(losses: Path, picture: Path) -> None:
    with losses.open(newline="") as file:
        # After an interruption the steps since the last checkpoint come twice: the later one counts.
        rows = {int(step): (float(loss), int(read)) for step, loss, _, read, _ in csv.reader(file)}
    ordered = [rows[step] for step in sorted(rows)]
    values, millions = [loss for loss, _ in ordered], [read / 1e6 for _, read in ordered]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(millions, values, color="#c9d3e6", linewidth=0.6, label="step")
    axes.plot(millions, smoothed(values), color="#1f4e9c", linewidth=1.6, label="running mean")
    axes.set_yscale("log")
    axes.set_xlabel("million tokens read")
    axes.set_ylabel("loss of answer tokens (nats)")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.plot", description=__doc__)
    parser.add_argument("--recipe", default="cpu")
    parser.add_argument("--run", type=Path, default=HERE / "run")
    parser.add_argument("--picture", type=Path, default=HERE / "loss.png")
    chosen = parser.parse_args()
    draw(chosen.run / chosen.recipe / "losses.csv", chosen.picture)


if __name__ == "__main__":
    main()
