"""How commands print what there is: JSON for scripts, plain columns for people."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import typer


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Plain columns, never folded: an ID is there to be copied, and a line to be grepped."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def when(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
