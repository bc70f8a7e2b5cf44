"""A start that can already copy: two layers wired by hand before the first step of training.

Small models discover copying late and all at once; from a random start one like this had not after
two million tokens. Nothing else here works without it, so the first two layers begin as the circuit
that training would find:

    layer 0   heads that look one, two and three positions back and note which tokens stood there
    layer 1   a head that looks for the place where the current token stood before, and another
              that wants the one before it to agree as well; both say which token came next

The columns of the hidden state are dealt out for it: a constant, what the token is, and a note for
each token before it. The other heads of layer 1 begin as steps over a sign, softly, and are free to
change. Everything else begins at random with silent outputs. The circuit is held as it is to the
end: the first steps would break it before it is of use, and set free later it is forgotten.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch
from torch import Tensor

from training import likeness
from training.model import Model

WIDTH = 64  # columns of a note; the head size, too
NOTES = 3  # tokens before the current one that are noted
CONSTANT = 0.5  # column 0 of every embedding row: something to hold on to for any token
# Rows large enough that the first, coarse steps do not blur them into one another.
EMBEDDING_SPREAD = 0.25
NEAR_PAIRS = 4  # fast rotations: they tell neighbours apart
SLOWEST_NEEDED = 0.002  # radians per position: below, content matches over a whole prompt
NOTE_SCALE, COPY_SCALE, LOOSE_SCALE, FINAL_SCALE = 0.3, 2.0, 0.7, 0.3
NEAR_SHARPNESS, MATCH_SHARPNESS = 2.3, 1.6


class Held:
    """The wired weights, which stay as they are; of these, the ones that are `own` to a worker."""

    def __init__(self, model: Model, own: Container[int]) -> None:
        first, second = model.block(0), model.block(1)
        looking, common = slice(0, NOTES * WIDTH), slice(0, WIDTH)
        asking = [_rows(head) for head in asking_heads(model)]
        everything = slice(None)
        places: list[tuple[Tensor, tuple[slice, ...]]] = [
            (first.attn_q.weight, (looking,)),
            (first.attn_k.weight, (common,)),
            (first.attn_v.weight, (common,)),
            (first.attn_output.weight, (everything, looking)),
            (second.attn_k.weight, (everything,)),
            (second.attn_v.weight, (everything,)),
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

    def still(self) -> None:
        """Leaves the gradients to the weights that are free."""
        for weight, place, _ in self.kept:
            if weight.grad is not None:
                weight.grad[place] = 0

    def restore(self) -> None:
        with torch.no_grad():
            for weight, place, values in self.kept:
                weight[place] = values


def asking_heads(model: Model) -> tuple[int, int]:
    """The heads of layer 1 that are wired: the first of each of the two key-value heads."""
    return 0, model.shape.heads // model.shape.kv_heads


def _rows(head: int) -> slice:
    return slice(head * WIDTH, (head + 1) * WIDTH)


def _noted(model: Model, back: int) -> int:
    """The first column of the note of the token that stands so far back."""
    return model.shape.hidden - (NOTES + 1 - back) * WIDTH


def wire_copying(model: Model, token_ids: Sequence[int]) -> None:
    shape = model.shape
    named = shape.hidden - NOTES * WIDTH  # columns for the constant and what the token is
    groups = shape.heads // shape.kv_heads
    if shape.head_size != WIDTH or named < 2 * WIDTH or shape.kv_heads != 2 or groups < NOTES:
        raise ValueError(
            "the wiring is drawn for two key-value heads of 64, three queries for each, and a "
            "hidden size of 320 or more"
        )
    with torch.no_grad():
        for place in range(shape.layers):
            block = model.block(place)
            block.attn_output.weight.zero_()
            block.ffn_down.weight.zero_()
        chance = torch.Generator().manual_seed(2)
        rows = model.token_embd.weight
        rows.zero_()
        rows[:, 1:named] = EMBEDDING_SPREAD * likeness.start(token_ids, named - 1, chance)
        rows[:, 0] = CONSTANT
        model.output_norm.weight.fill_(FINAL_SCALE)
        _look_back(model)
        _look_up(model)


def _look_back(model: Model) -> None:
    """Layer 0: query and key are constants whose rotations agree so many positions apart."""
    block, half = model.block(0), WIDTH // 2
    near = torch.arange(NEAR_PAIRS)
    for norm in (block.attn_q_norm, block.attn_k_norm):
        norm.weight[torch.cat((near, near + half))] = NEAR_SHARPNESS
    own = torch.arange(WIDTH)
    for weight in (block.attn_q, block.attn_k, block.attn_v):
        weight.weight[:WIDTH] = 0
    block.attn_q.weight[: NOTES * WIDTH] = 0
    block.attn_k.weight[near, 0] = 1.0
    block.attn_v.weight[own, 1 + own] = 1.0
    for back in range(1, NOTES + 1):
        first = (back - 1) * WIDTH
        block.attn_q.weight[first + near, 0] = (back * model.speeds[near]).cos()
        block.attn_q.weight[first + near + half, 0] = -(back * model.speeds[near]).sin()
        block.attn_output.weight[_noted(model, back) + own, first + own] = NOTE_SCALE


def _look_up(model: Model) -> None:
    """Layer 1: this token, or this and the one before, against what other places have noted."""
    block, half = model.block(1), WIDTH // 2
    slow = [pair for pair in range(half) if model.speeds[pair] < SLOWEST_NEEDED]
    slots = torch.tensor([*slow, *(pair + half for pair in slow)])
    for norm in (block.attn_q_norm, block.attn_k_norm):
        norm.weight[slots] = MATCH_SHARPNESS
    size, both = len(slots), torch.arange(len(slots) // 2)
    whole = torch.arange(size)
    last, older = _noted(model, 1), _noted(model, 2)
    single, double = (_rows(head) for head in asking_heads(model))
    query, key = torch.zeros(2, model.shape.heads * WIDTH, model.shape.hidden)
    query[single.start + slots, 1 + whole] = 1.0
    key[slots, last + whole] = 1.0
    # Notes are written larger than tokens; here both have to count alike.
    louder = NOTE_SCALE * _loudness(model) / EMBEDDING_SPREAD
    query[double.start + slots[::2], 1 + both] = louder
    query[double.start + slots[1::2], last + both] = 1.0
    key[WIDTH + slots[::2], last + both] = 1.0
    key[WIDTH + slots[1::2], older + both] = 1.0
    # The other heads are free to change. They begin as those that step over a sign, as from a key to
    # its value or from an item to the next: what stood here or one or two places back, against what
    # stood one or two places back elsewhere.
    nearer, farther = (_rows(head) for head in (1, 2))
    query[nearer.start + slots, last + whole] = 1.0
    query[farther.start + slots, older + whole] = 1.0
    same, skipped = (_rows(double.stop // WIDTH + place) for place in (0, 1))
    query[same.start + slots[1::2], older + both] = 1.0
    query[skipped.start + slots[1::2], 1 + both] = 1.0
    loose = (nearer, farther, same, skipped)
    for head in (single, double, *loose):
        block.attn_q.weight[head] = query[head]
    block.attn_k.weight[:] = key[: 2 * WIDTH]
    own = torch.arange(WIDTH)
    block.attn_v.weight.zero_()
    for shared, head in enumerate((single, double)):
        said = 1 + own + shared * (WIDTH - 1)
        block.attn_v.weight[shared * WIDTH + own, said] = 1.0
        block.attn_output.weight[said, head.start + own] = COPY_SCALE
        for free in loose[2 * shared : 2 * shared + 2]:
            block.attn_output.weight[said, free.start + own] = LOOSE_SCALE


def _loudness(model: Model) -> float:
    """What the first norm makes of a column of a token's row."""
    squares = model.token_embd.weight.square().sum(1).mean()
    return EMBEDDING_SPREAD / float((squares / model.shape.hidden).sqrt())
