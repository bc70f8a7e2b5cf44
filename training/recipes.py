"""How long and how fast to learn. A recipe and a seed fix the model, but for rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    corpus_tokens: int
    steps: int
    decay_from: int  # constant until here, then straight down to nothing
    short_rows: int  # rows of 256 in a step
    long_rows: int  # rows of 512 in a step
    drill_rows: int  # rows of 256 in a step that only practise copying
    drilled_to: int  # the drill ends here
    held_to: int  # the wired start stays as it is until here
    warmup: int = 20
    matrix_rate: float = 0.012  # Muon
    vector_rate: float = 0.0015  # AdamW: embedding and norms
    seed: int = 1


# Two cores, PyTorch for CPU: some 9 million tokens, within three hours even on a busy machine.
CPU = Recipe(
    13_000_000,
    steps=3_000,
    decay_from=1_800,
    short_rows=4,
    long_rows=4,
    drill_rows=2,
    drilled_to=1_800,
    held_to=1_500,
)

RECIPES = {
    "cpu": CPU,
    # A first model after twenty minutes.
    "short": replace(CPU, steps=640, decay_from=320, drilled_to=320),
    # The wired start held, and drilled, to the end: copying stays perfect. See README.md.
    "held": replace(CPU, steps=1_800, decay_from=1_100, drilled_to=1_800, held_to=1_800),
    # One GPU for ten minutes. Nobody has run it yet: see README.md.
    "gpu": Recipe(
        300_000_000,
        steps=6_000,
        decay_from=4_000,
        short_rows=96,
        long_rows=48,
        drill_rows=24,
        drilled_to=6_000,
        held_to=6_000,
        warmup=200,
    ),
    # Shows that everything runs, in a minute or two.
    "smoke": Recipe(
        200_000,
        steps=30,
        decay_from=20,
        short_rows=4,
        long_rows=2,
        drill_rows=2,
        drilled_to=30,
        held_to=30,
        warmup=5,
    ),
}
