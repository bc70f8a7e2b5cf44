"""The network: Qwen3 with tied embeddings, over the rows that the corpus uses.

Parameters carry the names that the GGUF file gives them, so that export is a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.packing import Batch
from training.shape import Shape

QUANTIZED_BLOCK = 32
SAMPLE = 1_024  # tokens that are not wanted in a batch, and stand for all such


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


@dataclass(frozen=True)
class Given:
    """A batch on the device."""

    tokens: Tensor
    positions: Tensor
    lengths: list[int]
    supervised: Tensor  # places whose next token counts
    shown: Tensor  # rows to choose from: the crowd's, those of all targets, a sample of the others
    wanted: int  # so many of them are not of the sample
    others: int  # rows that the sample stands for
    targets: Tensor  # the place of each target among those shown

    @classmethod
    def of(cls, batch: Batch, rows: int, device: torch.device) -> Self:
        """`rows` are those of tokens; the crowd's row comes behind them."""
        supervised = np.flatnonzero(batch.targets >= 0)
        present, targets = np.unique(batch.targets[supervised], return_inverse=True)
        left = np.setdiff1d(np.arange(rows), present)
        # The batch itself is the seed: the same documents are met by the same sample.
        chance = np.random.default_rng(batch.tokens)
        sample = chance.choice(left, min(SAMPLE, len(left)), replace=False)
        shown = np.concatenate(([rows], present, sample))

        def moved(values: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(values).to(device)

        return cls(
            moved(batch.tokens),
            moved(batch.positions),
            list(batch.lengths),
            moved(supervised),
            moved(shown),
            1 + len(present),
            len(left),
            moved(targets + 1),
        )


def precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine multiplies it by itself: elsewhere it is far slower than float32."""
    native = {"avx512_bf16", "amx_bf16"} & {
        name for name, there in torch.cpu.get_capabilities().items() if there
    }
    return torch.bfloat16 if device.type != "cpu" or native else torch.float32


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

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], lengths: Sequence[int]) -> Tensor:
        return self.feed(self.attend(x, turns, lengths))

    def feed(self, x: Tensor) -> Tensor:
        y = self.ffn_norm(x)
        fed: Tensor = self.ffn_down(functional.silu(self.ffn_gate(y)) * self.ffn_up(y))
        return x + fed

    def attend(self, x: Tensor, turns: tuple[Tensor, Tensor], lengths: Sequence[int]) -> Tensor:
        y = self.attn_norm(x)
        heads = (len(x), -1, self.shape.head_size)
        query = turn(self.attn_q_norm(self.attn_q(y).view(heads)), turns)
        key = turn(self.attn_k_norm(self.attn_k(y).view(heads)), turns)
        value = self.attn_v(y).view(heads)
        # Each document by itself: a mask over all of them would cost the square of the batch.
        cut = [each.transpose(0, 1).split(lengths, 1) for each in (query, key, value)]
        mixed = torch.cat([attention(*document) for document in zip(*cut, strict=True)], 1)
        attended: Tensor = self.attn_output(mixed.transpose(0, 1).flatten(1))
        return x + attended


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Within one document: heads, tokens, size; the heads of a group share their keys and values.

    Written out, as PyTorch's own is half as fast on a CPU, with gradients and lines this short.
    """
    heads, length, size = query.shape
    shared = len(key)
    future = torch.full((length, length), -math.inf, dtype=query.dtype, device=query.device).triu(1)
    scores = torch.baddbmm(
        future.repeat(heads // shared, 1).expand(shared, -1, -1),
        query.reshape(shared, -1, size),
        key.transpose(1, 2),
        alpha=size**-0.5,
    )
    return (scores.softmax(-1) @ value).view(heads, length, size)


def turn(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions, first half against second half as Qwen pairs them."""
    cosine, sine = turns
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class Model(nn.Module):
    """Every embedding row but the last belongs to one token; the last stands for all others."""

    crowd: Tensor  # added to the logit of the last row, which stands for so many tokens
    speeds: Tensor  # radians per position

    def __init__(self, shape: Shape, token_rows: int, other_tokens: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(token_rows + 1, shape.hidden)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.round_embedding = False
        self.register_buffer("crowd", torch.tensor(math.log(other_tokens)), persistent=False)
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

    def rows(self, which: Tensor) -> Tensor:
        """Rows of the embedding, as the file will have them."""
        chosen = functional.embedding(which, self.token_embd.weight)
        return rounded_as_q4_0(chosen) if self.round_embedding else chosen

    def states(self, given: Given) -> Tensor:
        """What the output layer sees at every supervised place."""
        device = given.tokens.device
        exact = precision(device)
        with torch.autocast(device.type, exact, enabled=exact is not torch.float32):
            hidden = self.rows(given.tokens).to(exact)
            angles = (given.positions.unsqueeze(-1) * self.speeds).unsqueeze(1)
            turns = (angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype))
            *blocks, last = (self.block(place) for place in range(self.shape.layers))
            for block in blocks:
                hidden = block(hidden, turns, given.lengths)
            # Nobody reads the other places any more.
            hidden = last.attend(hidden, turns, given.lengths)[given.supervised]
            normed: Tensor = self.output_norm(last.feed(hidden))
        return normed

    def forward(self, given: Given) -> tuple[Tensor, Tensor]:
        """The loss of every supervised place and the crowd's share of the probability there.

        A row learns as an output only where its token is wanted. Otherwise AdamW, for which small
        pushes are as good as large ones, would drive every rare token away from whatever the
        network says, until it could not even be copied. So the other tokens are there to be told
        from, but stand still, and a sample of them is enough.
        """
        hidden = self.states(given)
        learning = self.rows(given.shown[: given.wanted]).to(hidden.dtype)
        still = self.rows(given.shown[given.wanted :]).to(hidden.dtype).detach()
        added = torch.zeros(len(given.shown), device=hidden.device)
        # Each of the sample stands for several.
        added[given.wanted :] = math.log(given.others / max(1, len(still)))
        added[0] = self.crowd
        loss, crowd = Surprise.apply(hidden, learning, still, added, given.targets)
        return loss, crowd


class Surprise(torch.autograd.Function):
    """Output layer and cross-entropy in one: the logits are gone over as seldom as possible."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, learning: Tensor, still: Tensor, added: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = torch.cat((learning, still))
        chances = (hidden @ rows.T).float().add_(added).log_softmax(1)
        ctx.save_for_backward(hidden, rows, chances, targets)
        ctx.learning = len(learning)
        crowd = chances[:, 0].exp()
        ctx.mark_non_differentiable(crowd)
        return -chances.gather(1, targets.unsqueeze(1)).squeeze(1), crowd

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, rows, chances, targets = ctx.saved_tensors
        shares = chances.exp_()
        shares[torch.arange(len(targets)), targets] -= 1
        wanted = shares.mul_(gradients[0].unsqueeze(1)).to(rows.dtype)
        return wanted @ rows, wanted[:, : ctx.learning].T @ hidden, None, None, None
