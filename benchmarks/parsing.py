"""CPU time that the stop matcher and the parser of answers take, together, for each chunk of plain text.

They are fed what a model writes that has tools and may think, beside stops that a client asked for: a paragraph again
and again, a word with its space at a time, line ends among them. That is how long a token is. Timed is one
whole paragraph, begun after so many characters; the figure is the least of many runs, since whatever disturbs a run
of a hundred microseconds only adds to it.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle
from re import findall
from time import thread_time_ns

from benchmarks.figures import Budget, Effort, Figure, Step
from ownstudio.core.request import Stop, Tool
from ownstudio.qwen.parser import OutputParser, Thinking
from ownstudio.qwen.stop import StopMatcher
from ownstudio.qwen.tools import ToolSet

BUDGET = Budget(3.0, at_least=False)
GROWTH_BUDGET = Budget(1.2, at_least=False)
LENGTHS = (100, 10_000, 100_000)
RUNS_PER_TURN = 10

PARAGRAPH = """\
The house by the river has two doors, and the one that leads to the water is open in summer.
Whoever comes in by it sees the kitchen first: a table, four chairs, a stove (it is never cold).
In winter the river freezes; the children skate to school, 2.5 km in a quarter of an hour.

Nobody remembers who built it. "It was here before us," they say, and that is all they say.
"""
CHUNKS: list[str] = findall(r"[ \n]*[^ \n]+|\n+$", PARAGRAPH)
# One begins as a line of the paragraph may, one with a letter that many of its words have.
STOP = Stop(texts=("\nObservation:", "so that ends it"))
TOOLS = (Tool("get_current_weather"), Tool("get_current_time"))


def steps(effort: Effort) -> int:
    return effort.turns


async def per_chunk(effort: Effort, step: Step) -> Sequence[Figure]:
    times: dict[int, list[int]] = {length: [] for length in LENGTHS}
    for _ in range(effort.turns):
        for _ in range(RUNS_PER_TURN):
            for length in LENGTHS:
                times[length].append(_time(length))
        step()
    least = {length: min(found) / len(CHUNKS) / 1000 for length, found in times.items()}
    behind = f"the least of {effort.turns * RUNS_PER_TURN} runs of {len(CHUNKS)} chunks"
    figures = [
        Figure(
            row="parser",
            what=f"parser and stop matcher, for each chunk of plain text after {length:,} characters",
            against="nothing",
            value=least[length],
            unit=" µs",
            budget=BUDGET,
            behind=behind,
        )
        for length in LENGTHS
    ]
    shortest, longest = LENGTHS[0], LENGTHS[-1]
    growth = Figure(
        row="parser",
        what=f"the same after {longest:,} characters",
        against=f"after {shortest:,} characters",
        value=least[longest] / least[shortest],
        unit=" times",
        budget=GROWTH_BUDGET,
        behind=f"{least[longest]:.2f} against {least[shortest]:.2f} µs",
    )
    return [*figures, growth]


def _time(length: int) -> int:
    """Nanoseconds of CPU time for one paragraph after `length` characters. Raises ValueError where text is lost."""
    stop = StopMatcher(STOP)
    parser = OutputParser(thinking=Thinking.MAY, tools=ToolSet(TOOLS))
    before = _before(length)
    pieces = sum(len(parser.feed(stop.feed(chunk))) for chunk in before)
    begun = thread_time_ns()
    for chunk in CHUNKS:
        pieces += len(parser.feed(stop.feed(chunk)))
    spent = thread_time_ns() - begun
    if stop.stopped or parser.calls or pieces < (len(before) + len(CHUNKS)) // 2:
        raise ValueError("what was to be plain text was taken for something else")
    return spent


def _before(length: int) -> list[str]:
    """Chunks of at least `length` characters."""
    chunks: list[str] = []
    endless: Iterable[str] = cycle(CHUNKS)
    for chunk in endless:
        if length <= 0:
            break
        chunks.append(chunk)
        length -= len(chunk)
    return chunks
