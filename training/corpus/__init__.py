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

# Shares of samples, not of tokens: a conversation with functions is four times as long.
MIXTURE: tuple[tuple[float, str, Generator], ...] = (
    (0.13, "tools", tools.generate),
    (0.22, "python", python_code.generate),
    (0.30, "fim", fim.generate),
    (0.07, "identity", identity.generate),
    (0.09, "json", json_objects.generate),
    (0.035, "thinking", thinking.generate),
    (0.055, "partial", partial.generate),
    (0.11, "copying", copying.generate),
)


def samples(source: Source) -> Iterator[tuple[str, Sample]]:
    choices = [(share, (name, generate)) for share, name, generate in MIXTURE]
    while True:
        name, generate = source.weighted(choices)
        yield name, generate(source)
