"""The figures, told: a table for the terminal, JSON for machines, a Markdown table and a picture for the page."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure
from benchmarks.machine import Machine
from benchmarks.picture import picture

BEGIN = "<!-- figures: written by python -m benchmarks --page -->"
END = "<!-- end of figures -->"


class Report(Struct, frozen=True):
    """One run. `faults` are the rows that could not be measured, with the reason."""

    machine: Machine
    seconds: float
    quick: bool
    figures: Sequence[Figure]
    faults: dict[str, str]

    @property
    def met(self) -> bool:
        return not self.faults and all(figure.met for figure in self.figures)


def print_table(report: Report, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="Budgets", title_justify="left", pad_edge=False)
    table.add_column("what")
    table.add_column("against")
    table.add_column("figure", justify="right")
    table.add_column("budget", justify="right")
    table.add_column("")
    table.add_column("behind it", style="dim")
    for figure in report.figures:
        table.add_row(
            figure.what,
            figure.against,
            figure.value_words(),
            figure.budget.words(figure.unit),
            "[green]met[/]" if figure.met else "[bold red]missed[/]",
            figure.behind,
        )
    console.print(table)
    for row, fault in report.faults.items():
        console.print(f"[bold red]{row} could not be measured:[/] {fault}", highlight=False)
    console.print(f"{report.machine.words()}.", highlight=False)
    console.print(f"Measured in {report.seconds:.0f} s{_caution(report)}.", highlight=False)


def write_json(report: Report, path: Path) -> None:
    figures = [{**msgspec.to_builtins(figure), "met": figure.met} for figure in report.figures]
    document = {**msgspec.to_builtins(report), "met": report.met, "figures": figures}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def write_page(report: Report, page: Path) -> None:
    """Replace what stands between the two marks of `page`, and the picture beside it. Raises ValueError."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for figures")
    page.write_text(f"{before}{BEGIN}\n\n{markdown(report)}\n{END}{after}", "utf-8")
    page.with_suffix(".svg").write_text(picture(report.figures), "utf-8")


def markdown(report: Report) -> str:
    lines = [
        f"{report.machine.words()}. Measured in {report.seconds:.0f} s{_caution(report)}.",
        "",
        "| what | against | figure | budget | | behind it |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {figure.what} | {figure.against} | {figure.value_words()} | {figure.budget.words(figure.unit)} | "
        f"{'met' if figure.met else '**missed**'} | {figure.behind} |"
        for figure in report.figures
    ]
    return "\n".join(lines) + "\n"


def _caution(report: Report) -> str:
    return ", quickly: too short for figures to rely on" if report.quick else ""
