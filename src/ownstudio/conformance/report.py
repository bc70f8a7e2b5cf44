"""What came of the cases, for people and for programs."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ownstudio.conformance.run import Outcome


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    """One row a case; under a difference, where the expectation comes from."""
    table = Table(box=None, pad_edge=False)
    table.add_column("dialect")
    table.add_column("")
    table.add_column("case")
    table.add_column("ms", justify="right")
    for outcome in outcomes:
        verdict = "[green]pass[/]" if outcome.passed else "[red]differs[/]"
        lines = [escape(outcome.name)]
        if not outcome.passed:
            lines += [f"  [red]{escape(difference)}[/]" for difference in outcome.differences]
            lines.append(f"  [dim]known from: {escape(outcome.source)}[/]")
        table.add_row(outcome.dialect, verdict, "\n".join(lines), str(outcome.milliseconds))
    console.print(table)
    passed = sum(outcome.passed for outcome in outcomes)
    style = "green" if passed == len(outcomes) else "red"
    console.print(f"[{style}]{passed} of {len(outcomes)} cases pass[/]")


def as_json(url: str, outcomes: Sequence[Outcome]) -> bytes:
    passed = sum(outcome.passed for outcome in outcomes)
    return msgspec.json.encode(
        {
            "url": url,
            "passed": passed,
            "failed": len(outcomes) - passed,
            "cases": [
                {
                    "name": outcome.name,
                    "dialect": outcome.dialect,
                    "passed": outcome.passed,
                    "differences": outcome.differences,
                    "source": outcome.source,
                    "milliseconds": outcome.milliseconds,
                }
                for outcome in outcomes
            ],
        }
    )
