"""How long and how fast to learn. A recipe and a seed fix the model, but for rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    corpus_tokens: int
    steps: int
    decay_from: int  # the rates are constant until here, then go straight down to nothing
    round_from: int  # from here on the embedding is rounded as it will be in the file
    batch_tokens: int  # each worker reads so many in a step
    drill_tokens: int  # and so many that only practise copying
    warmup: int = 20
    matrix_rate: float = 0.012  # Muon
    vector_rate: float = 0.0015  # AdamW: embedding and norms
    seed: int = 1


# Two cores, PyTorch for CPU.
CPU = Recipe(
    13_000_000,
    steps=2_700,
    decay_from=500,
    round_from=1_900,
    batch_tokens=1_920,
    drill_tokens=128,
)

RECIPES = {
    "cpu": CPU,
    # A first model after a quarter of an hour.
    "short": replace(CPU, steps=800, decay_from=300, round_from=500),
    # One GPU for ten minutes. Nobody has run it yet: see README.md.
    "gpu": Recipe(
        300_000_000,
        steps=6_000,
        decay_from=1_500,
        round_from=4_000,
        batch_tokens=48_000,
        drill_tokens=2_000,
        warmup=200,
    ),
    # Shows that everything runs, in a minute or two.
    "smoke": replace(CPU, corpus_tokens=200_000, steps=30, decay_from=10, round_from=20, warmup=5),
}
