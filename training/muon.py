"""Muon: momentum whose singular values are all made one. For the matrices of the network.

PyTorch has it too, but always in bfloat16, which processors without instructions for it multiply
ten times more slowly than float32.

Source of method and coefficients: Keller Jordan, https://kellerjordan.github.io/posts/muon/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ROUNDS = 5
FIRST, THIRD, FIFTH = 3.4445, -4.7750, 2.0315


def orthogonalized(matrix: Tensor) -> Tensor:
    """All singular values near one (0.3 to 1.3), the singular vectors as they were."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(
            x, torch.addmm(square, square, square, beta=THIRD, alpha=FIFTH), x, beta=FIRST
        )
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                self._step(matrix, group)

    def _step(self, matrix: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum = state["momentum"]
        momentum.lerp_(matrix.grad, 1 - MOMENTUM)
        ahead = torch.lerp(matrix.grad, momentum, MOMENTUM)  # Nesterov's
        rows, columns = matrix.shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.sub_(orthogonalized(ahead), alpha=rate)
