"""The network: Qwen3 with tied embeddings, over the rows that the corpus uses.

Parameters carry the names that the GGUF file gives them, so that export is a copy.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.shape import Shape

QUANTIZED_BLOCK = 32


def rounded_as_q4_0(rows: Tensor) -> Tensor:
    """What GGUF's q4_0 makes of these rows; gradients pass as if nothing had happened.

    Training the embedding through this rounding costs little and loses nothing at export, while
    four-bit rows are what keeps the file small and the tied output layer fast.
    """
    blocks = rows.view(-1, QUANTIZED_BLOCK)
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = (largest / -8).to(torch.float16).to(rows.dtype)
    inverse = torch.where(scale == 0, 0, 1 / scale)
    steps = (blocks * inverse + 8.5).floor().clamp(0, 15) - 8
    return rows + ((steps * scale).view_as(rows) - rows).detach()


class Norm(nn.Module):
    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        attended, shared = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        self.attn_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.attn_q = nn.Linear(shape.hidden, attended, bias=False)
        self.attn_k = nn.Linear(shape.hidden, shared, bias=False)
        self.attn_v = nn.Linear(shape.hidden, shared, bias=False)
        self.attn_q_norm = Norm(shape.head_size, shape.norm_epsilon)
        self.attn_k_norm = Norm(shape.head_size, shape.norm_epsilon)
        self.attn_output = nn.Linear(attended, shape.hidden, bias=False)
        self.ffn_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.ffn_gate = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.ffn_up = nn.Linear(shape.hidden, shape.inner, bias=False)
        self.ffn_down = nn.Linear(shape.inner, shape.hidden, bias=False)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], visible: Tensor) -> Tensor:
        x = x + self._attend(self.attn_norm(x), turns, visible)
        y = self.ffn_norm(x)
        fed: Tensor = self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return x + fed

    def _attend(self, x: Tensor, turns: tuple[Tensor, Tensor], visible: Tensor) -> Tensor:
        batch, length, _ = x.shape
        size = self.shape.head_size
        query = self.attn_q_norm(self.attn_q(x).view(batch, length, -1, size))
        key = self.attn_k_norm(self.attn_k(x).view(batch, length, -1, size))
        value = self.attn_v(x).view(batch, length, -1, size)
        groups = self.shape.heads // self.shape.kv_heads
        mixed = functional.scaled_dot_product_attention(
            turn(query, turns).transpose(1, 2),
            turn(key, turns).repeat_interleave(groups, 2).transpose(1, 2),
            value.repeat_interleave(groups, 2).transpose(1, 2),
            attn_mask=visible,
        )
        attended: Tensor = self.attn_output(mixed.transpose(1, 2).reshape(batch, length, -1))
        return attended


def turn(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions, first half against second half as Qwen pairs them."""
    cosine, sine = turns
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class Model(nn.Module):
    """Every embedding row but the last belongs to one token; the last stands for all others."""

    crowd: Tensor  # added to the logits: only the last row stands for more than one token
    speeds: Tensor  # radians per position

    def __init__(self, shape: Shape, token_rows: int, other_tokens: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(token_rows + 1, shape.hidden)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.round_embedding = False
        crowd = torch.zeros(token_rows + 1)
        crowd[-1] = math.log(other_tokens)
        self.register_buffer("crowd", crowd, persistent=False)
        half = torch.arange(0, shape.head_size, 2) / shape.head_size
        self.register_buffer("speeds", shape.rope_base**-half, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                continue
            spread = 0.02 if name.startswith("token_embd") else weight.shape[1] ** -0.5
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                spread /= math.sqrt(2 * self.shape.layers)
            nn.init.normal_(weight, std=spread)

    def block(self, place: int) -> Block:
        return cast("Block", self.blk[place])

    def embedding(self) -> Tensor:
        rows = self.token_embd.weight
        return rounded_as_q4_0(rows) if self.round_embedding else rows

    def states(
        self, tokens: Tensor, positions: Tensor, documents: Tensor, targets: Tensor, rows: Tensor
    ) -> Tensor:
        """What the output layer sees at every supervised place (target not negative)."""
        hidden = functional.embedding(tokens, rows)
        angles = (positions.unsqueeze(-1) * self.speeds).unsqueeze(2)
        turns = (angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype))
        length = tokens.shape[1]
        past = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        visible = (past & (documents.unsqueeze(2) == documents.unsqueeze(1))).unsqueeze(1)
        for block in self.blk:
            hidden = block(hidden, turns, visible)
        supervised = targets.flatten().ge(0).nonzero().squeeze(1)
        normed: Tensor = self.output_norm(hidden).flatten(0, 1)
        return normed[supervised]

    def forward(
        self, tokens: Tensor, positions: Tensor, documents: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of every supervised place and the crowd's share of the probability there."""
        rows = self.embedding().to(torch.bfloat16)
        hidden = self.states(tokens, positions, documents, targets, rows)
        logits = (hidden @ rows.T).float() + self.crowd
        whole = logits.logsumexp(1)
        wanted = logits.gather(1, targets[targets >= 0].unsqueeze(1)).squeeze(1)
        return whole - wanted, (logits[:, -1] - whole).detach().exp()
