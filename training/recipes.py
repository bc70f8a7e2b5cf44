"""How long and how fast to learn. A recipe and a seed fix the model, but for rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    basic_tokens: int  # read first: short documents, of which the answers are copied or chosen
    corpus_tokens: int  # and of everything
    steps: int
    decay_from: int  # the rates are constant until here, then go straight down to nothing
    polish_from: int  # then the last documents, with the rates up once more for a while
    round_from: int  # from here on the embedding is rounded as it will be in the file
    batch_tokens: int  # each worker reads so many in a step
    drill_tokens: int  # and so many that only practise copying
    polish_tokens: int = 0  # the last documents
    polish_share: float = 0.35  # of the rates
    warmup: int = 20
    matrix_rate: float = 0.008  # Muon
    vector_rate: float = 0.0015  # AdamW: embedding and norms
    seed: int = 1

    @property
    def stages(self) -> tuple[int, int, int]:
        """The tokens of each stage of the corpus."""
        return self.basic_tokens, self.corpus_tokens, self.polish_tokens


# Two cores, PyTorch for CPU.
CPU = Recipe(
    2_000_000,
    14_500_000,
    steps=4_400,
    decay_from=800,
    polish_from=4_000,
    round_from=3_000,
    batch_tokens=1_920,
    drill_tokens=256,
    polish_tokens=1_600_000,
)

RECIPES = {
    "cpu": CPU,
    # A first model after a quarter of an hour.
    "short": replace(
        CPU,
        basic_tokens=600_000,
        corpus_tokens=2_600_000,
        steps=800,
        decay_from=200,
        polish_from=720,
        round_from=500,
        polish_tokens=320_000,
    ),
    # One GPU for ten minutes. Nobody has run it yet: see README.md.
    "gpu": Recipe(
        20_000_000,
        300_000_000,
        steps=6_000,
        decay_from=1_500,
        polish_from=5_700,
        polish_tokens=15_000_000,
        round_from=4_000,
        batch_tokens=48_000,
        drill_tokens=2_000,
        warmup=200,
    ),
    # Shows that everything runs, in a minute or two.
    "smoke": replace(
        CPU,
        basic_tokens=50_000,
        corpus_tokens=200_000,
        steps=30,
        decay_from=10,
        polish_from=25,
        round_from=20,
        polish_tokens=40_000,
        warmup=5,
    ),
}
