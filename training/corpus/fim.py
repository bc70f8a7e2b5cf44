"""Fill in the middle: cut a piece of code in three and ask for the part between.

The locals of every function are drawn at random, so that only the suffix tells what the middle
has to assign: a model that ignores it cannot do well.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.corpus import standard_library
from training.corpus.python_code import any_exercise, any_task, class_task
from training.corpus.source import Piece, Sample, Source

END = "<|endoftext|>"


@dataclass(frozen=True)
class FimTask:
    prefix: str
    middle: str
    suffix: str
    checks: str = ""  # statements that fail where the completed code is wrong

    def prompt(self) -> str:
        return f"<|fim_prefix|>{self.prefix}<|fim_suffix|>{self.suffix}<|fim_middle|>"


def cut_task(source: Source) -> FimTask:
    if not source.held_out and source.chance(0.1):
        return FimTask(*cut(source, standard_library.function(source)))
    if source.chance(0.15):
        task = class_task(source)
        return FimTask(*cut(source, task.code), task.checks)
    exercise = any_exercise(source, free_locals=True)
    return FimTask(*cut(source, exercise.code), exercise.checks)


def cut(source: Source, text: str) -> tuple[str, str, str]:
    """Whole lines, the rest of a line, or a stretch between two arbitrary places."""
    rows = text.split("\n")
    roll = source.random.random()
    if roll < 0.55 and len(rows) > 2:
        return _cut_lines(source, rows)
    if roll < 0.8:
        row = source.random.randrange(len(rows))
        column = source.random.randrange(len(rows[row]) + 1)
        before = "\n".join([*rows[:row], rows[row][:column]])
        after = "".join(f"\n{rest}" for rest in rows[row + 1 :])
        return before, rows[row][column:], after
    first, last = sorted(source.random.randrange(len(text) + 1) for _ in range(2))
    last = min(last, first + 120)
    return text[:first], text[first:last], text[last:]


def _cut_lines(source: Source, rows: list[str]) -> tuple[str, str, str]:
    first = source.random.randrange(1, len(rows) - 1)
    last = min(first + source.random.choice((1, 1, 2, 3, 4)), len(rows) - 1)
    prefix = "\n".join(rows[:first]) + "\n"
    middle, suffix = "\n".join(rows[first:last]) + "\n", "\n".join(rows[last:])
    if source.chance(0.4):
        # Callers often strip the suffix, so its indentation belongs to the middle.
        stripped = suffix.lstrip(" ")
        middle += suffix[: len(suffix) - len(stripped)]
        suffix = stripped
    return prefix, middle, suffix


def head_task(source: Source) -> FimTask:
    """The suffix is empty: write the rest of the function."""
    if source.chance(0.3):
        task = any_task(source)
        head, _, rest = task.code.partition("\n")
        lead = task.request.rstrip(".")
        lead = f"{lead}, " if source.chance(0.5) else f"{task.request}\n"
        return FimTask(f"{lead}{head}", f"\n{rest}", "")
    exercise = any_exercise(source)
    head, _, rest = exercise.code.partition("\n")
    if exercise.own_name:
        head = f"# {exercise.does}\n{head}"  # the name alone would say nothing
    if source.chance(0.3):
        return FimTask(f"{head}\n", rest, "", exercise.checks)
    return FimTask(head, f"\n{rest}", "", exercise.checks)


def documented_task(source: Source) -> FimTask:
    """A docstring says what is wanted and the last line is already there."""
    exercise = any_exercise(source, free_locals=True)
    rows = exercise.code.split("\n")
    quotes = source.random.choice(('"""', "'''"))
    told = f"{exercise.does[0].upper()}{exercise.does[1:]}."
    doc = [quotes, told, quotes] if source.chance(0.5) else [f"{quotes}{told}{quotes}"]
    if source.chance(0.5):
        doc = [f"    {row}" for row in doc]
    suffix = rows[-1].strip()
    indent = rows[-1][: len(rows[-1]) - len(suffix)]
    middle = "".join(f"{row}\n" for row in rows[1:-1]) + indent
    return FimTask("\n".join([rows[0], *doc]) + "\n", middle, suffix)


def continuation(source: Source) -> Sample:
    """No FIM tokens at all: the start of some code, to be continued."""
    code = any_exercise(source).code
    place = source.random.randrange(5, max(6, len(code) // 2))
    return (Piece(code[:place], answer=False), Piece(code[place:] + END, answer=True))


def generate(source: Source) -> Sample:
    make = source.weighted(
        [(0.62, cut_task), (0.16, head_task), (0.14, documented_task), (0.08, None)]
    )
    if make is None:
        return continuation(source)
    task = make(source)
    # The text around the gap is code to learn, too.
    around = source.chance(0.25)
    return (
        Piece("<|fim_prefix|>", answer=False),
        Piece(task.prefix, answer=around),
        Piece("<|fim_suffix|>", answer=False),
        Piece(task.suffix, answer=around),
        Piece("<|fim_middle|>", answer=False),
        Piece(task.middle + END, answer=True),
    )
