"""The training text: what each generator contributes, and the endless mixture of them."""

from __future__ import annotations

from collections.abc import Iterator

from training.corpus import (
    copying,
    fim,
    identity,
    json_objects,
    partial,
    python_code,
    stirring,
    thinking,
    tools,
)
from training.corpus.source import Generator, Sample, Source

Mixture = tuple[tuple[float, str, Generator], ...]

# Shares of samples, not of tokens: a conversation with functions is four times as long.
BASICS: Mixture = (
    (0.25, "tools", tools.practice),
    (0.4, "copying", copying.generate),
    (0.2, "json", json_objects.generate),
    (0.1, "identity", identity.generate),
    (0.05, "partial", partial.generate),
)
EVERYTHING: Mixture = (
    (0.13, "tools", tools.generate),
    (0.27, "python", python_code.generate),
    (0.32, "fim", fim.generate),
    (0.07, "identity", identity.generate),
    (0.085, "json", json_objects.generate),
    (0.03, "thinking", thinking.generate),
    (0.045, "partial", partial.generate),
    (0.05, "copying", copying.generate),
)
# Read last: short answers to requests that are worded as nobody foresaw.
POLISH: Mixture = (
    (0.26, "identity", stirring.stirred(identity.generate)),
    (0.24, "python", stirring.stirred(python_code.generate)),
    (0.05, "declining", tools.declining),
    (0.09, "tools", tools.generate),
    (0.22, "fim", fim.generate),
    (0.06, "json", json_objects.generate),
    (0.03, "thinking", thinking.generate),
    (0.05, "partial", partial.generate),
)


def samples(source: Source, mixture: Mixture = EVERYTHING) -> Iterator[tuple[str, Sample]]:
    choices = [(share, (name, generate)) for share, name, generate in mixture]
    while True:
        name, generate = source.weighted(choices)
        yield name, generate(source)
