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
    thinking,
    tools,
)
from training.corpus.source import Generator, Sample, Source
from training.corpus.stirring import stirred

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
    (0.14, "tools", tools.generate),
    (0.27, "python", stirred(python_code.generate, 0.1)),
    (0.3, "fim", fim.generate),
    (0.075, "identity", stirred(identity.generate, 0.3)),
    (0.09, "json", json_objects.generate),
    (0.03, "thinking", thinking.generate),
    (0.045, "partial", partial.generate),
    (0.05, "copying", copying.generate),
)
# Read last: short answers to requests that are worded as nobody foresaw.
POLISH: Mixture = (
    (0.26, "identity", stirred(identity.generate, 0.6)),
    (0.24, "python", stirred(python_code.generate, 0.6)),
    (0.05, "declining", tools.declining),
    (0.07, "tools", tools.generate),
    (0.03, "loops", tools.looping),
    (0.21, "fim", fim.generate),
    (0.06, "json", json_objects.generate),
    (0.03, "thinking", thinking.generate),
    (0.05, "partial", partial.generate),
)


def samples(source: Source, mixture: Mixture = EVERYTHING) -> Iterator[tuple[str, Sample]]:
    choices = [(share, (name, generate)) for share, name, generate in mixture]
    while True:
        name, generate = source.weighted(choices)
        yield name, generate(source)
