"""The model's measures, shared by the network (torch) and the GGUF writer (no torch)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    hidden: int = 320
    layers: int = 5
    heads: int = 6
    kv_heads: int = 3
    head_size: int = 64
    inner: int = 384
    context: int = 8192
    # Large, so that most of a head's pairs turn slowly enough to compare words over a whole prompt.
    rope_base: float = 1e10
    norm_epsilon: float = 1e-6

    @property
    def body_parameters(self) -> int:
        """Everything but the embedding."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_size
        norms = 2 * self.hidden + 2 * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.inner + norms) + self.hidden
