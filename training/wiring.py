"""A start that can already copy: two layers wired by hand before the first step of training.

Small models discover copying late and all at once; from a random start this one had not after two
million tokens. Nothing else here works without it, so the first two layers begin as the circuit
that training would find:

    layer 0   a head that looks one position back and notes which token stood there
    layer 1   heads that look for the place where the current token stood before,
              and say which token came next

Everything else begins at random with silent outputs. The circuit is held as it is to the end: the
first steps would break it before it is of use, and set free later it is forgotten.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch
from torch import Tensor

from training import likeness
from training.model import Model

NEAR_PAIRS = 4  # fast rotations: they tell neighbours apart
SLOWEST_NEEDED = 0.002  # radians per position: below, content matches over a whole prompt
# Rows large enough that the first, coarse steps do not blur them into one another.
EMBEDDING_SPREAD = 0.16
CONSTANT = 0.48  # column 0 of every embedding row: something to hold on to for any token
NOTE_SCALE, COPY_SCALE, FINAL_SCALE = 0.8, 2.4, 1.0
NEAR_SHARPNESS, MATCH_SHARPNESS = 2.0, 1.6
WIDTH = 64  # residual directions that a head reads or writes; the head size, too


class Held:
    """The wired weights, which stay as they are; of these, the ones that are `own` to a worker."""

    def __init__(self, model: Model, own: Container[int]) -> None:
        first, second = model.block(0), model.block(1)
        head, pair = slice(0, WIDTH), slice(0, 2 * WIDTH)
        asking = [slice(head * WIDTH, (head + 1) * WIDTH) for head in asking_heads(model)]
        everything = slice(None)
        places: list[tuple[Tensor, tuple[slice, ...]]] = [
            (first.attn_q.weight, (head,)),
            (first.attn_k.weight, (head,)),
            (first.attn_v.weight, (head,)),
            (first.attn_output.weight, (everything, head)),
            (second.attn_k.weight, (pair,)),
            (second.attn_v.weight, (pair,)),
            *((second.attn_q.weight, (each,)) for each in asking),
            *((second.attn_output.weight, (everything, each)) for each in asking),
            (model.token_embd.weight, (everything, slice(0, 1))),
        ]
        for block in (first, second):
            norms = (block.attn_norm, block.attn_q_norm, block.attn_k_norm)
            places += [(norm.weight, (everything,)) for norm in norms]
        self.kept = [
            (weight, place, weight.detach()[place].clone())
            for weight, place in places
            if id(weight) in own
        ]

    def restore(self) -> None:
        with torch.no_grad():
            for weight, place, values in self.kept:
                weight[place] = values


def asking_heads(model: Model) -> tuple[int, int]:
    """The heads of layer 1 that are wired: the first of each of the first two key-value heads."""
    return 0, model.shape.heads // model.shape.kv_heads


def wire_copying(model: Model, token_ids: Sequence[int]) -> None:
    if model.shape.head_size != WIDTH or model.shape.hidden != 4 * WIDTH:
        raise ValueError("the wiring is drawn for heads of 64 in a hidden size of 256")
    directions = _orthogonal_directions(model.shape.hidden)
    read, note = directions[:WIDTH], directions[WIDTH : 2 * WIDTH]
    spoken = (directions[2 * WIDTH : 3 * WIDTH], directions[3 * WIDTH :])
    with torch.no_grad():
        for place in range(model.shape.layers):
            block = model.block(place)
            block.attn_output.weight.zero_()
            block.ffn_down.weight.zero_()
        chance = torch.Generator().manual_seed(2)
        rows = likeness.start(token_ids, model.shape.hidden, chance)
        model.token_embd.weight.copy_(EMBEDDING_SPREAD * rows)
        model.token_embd.weight[:, 0] = CONSTANT
        model.output_norm.weight.fill_(FINAL_SCALE)
        _look_back(model, read, note)
        _look_up(model, read, note, spoken)


def _orthogonal_directions(hidden: int) -> Tensor:
    """An orthogonal set that leaves column 0 alone; its last row is zero."""
    chance = torch.Generator().manual_seed(1)
    square = torch.randn(hidden - 1, hidden - 1, generator=chance)
    directions = torch.zeros(hidden, hidden)
    directions[: hidden - 1, 1:] = torch.linalg.qr(square)[0]
    return directions


def _look_back(model: Model, read: Tensor, note: Tensor) -> None:
    """Head 0 of layer 0: query and key are constants whose rotations agree one position apart."""
    block, half = model.block(0), WIDTH // 2
    query, key = torch.zeros(2, WIDTH, model.shape.hidden)
    for pair in range(NEAR_PAIRS):
        query[pair, 0] = 1.0
        key[pair, 0], key[pair + half, 0] = model.speeds[pair].cos(), model.speeds[pair].sin()
        for norm in (block.attn_q_norm, block.attn_k_norm):
            norm.weight[[pair, pair + half]] = NEAR_SHARPNESS
    block.attn_q.weight[:WIDTH] = query
    block.attn_k.weight[:WIDTH] = key
    block.attn_v.weight[:WIDTH] = read
    block.attn_output.weight[:, :WIDTH] = NOTE_SCALE * note.T


def _look_up(model: Model, read: Tensor, note: Tensor, spoken: tuple[Tensor, Tensor]) -> None:
    """Two heads of layer 1, one for each of two key-value heads: this token against noted ones."""
    block, half = model.block(1), WIDTH // 2
    slow = [pair for pair in range(half) if model.speeds[pair] < SLOWEST_NEEDED]
    slots = [*slow, *(pair + half for pair in slow)]
    for norm in (block.attn_q_norm, block.attn_k_norm):
        norm.weight[slots] = MATCH_SHARPNESS
    parts = (torch.arange(len(slots)), torch.arange(WIDTH - len(slots), WIDTH))
    for shared, (head, part, said) in enumerate(
        zip(asking_heads(model), parts, spoken, strict=True)
    ):
        query, key = torch.zeros(2, WIDTH, model.shape.hidden)
        query[slots], key[slots] = read[part], note[part]
        own, common = (
            slice(head * WIDTH, (head + 1) * WIDTH),
            slice(shared * WIDTH, (shared + 1) * WIDTH),
        )
        block.attn_q.weight[own] = query
        block.attn_k.weight[common] = key
        block.attn_v.weight[common] = said
        block.attn_output.weight[:, own] = COPY_SCALE * said.T
