"""A start that can already copy: two layers wired by hand before the first step of training.

Small models discover copying late and all at once; from a random start one like this had not after
two million tokens. Nothing else here works without it, so the first two layers begin as the circuit
that training would find:

    layer 0   two heads note which tokens stood one and two positions back; two others gather the
              words that stand around, one in a narrow bag and one in a wide one
    layer 1   heads that look for a place where the same stood before, and say which token came next:
              this token in the same surroundings; this token and the one before it

The surroundings are what tells one function's parameters from another's: `<parameter=` stands before
every name, but only in one place among the words of this function.

The columns of the hidden state are dealt out for it: a constant, a mark of the most frequent tokens
(which no bag counts much), what the token is, the two notes and the two bags. The circuit is held as
it is to the end: the first steps would break it before it is of use, and set free later it is
forgotten. Four more heads of layer 1 begin alike, softly, and are free to change. Everything else
begins at random with silent outputs.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor

from training import likeness
from training.model import Block, Model

WIDTH = 64  # columns that a head carries
CONSTANT = 0.5  # column 0 of every embedding row: something to hold on to for any token
COMMON = 0.5  # column 1 of the rows of frequent tokens
# The other columns of the hidden state.
NAMED = slice(2, 128)  # what the token is
LAST = slice(128, 192)  # the note of the token before it
OLDER = slice(192, 224)  # the note of the one before that
NEAR = slice(224, 272)  # the bag of the last dozen tokens
FAR = slice(272, 320)  # the bag of the last fifty
HIDDEN, HEADS, GROUPS = 320, 6, 3
# Rows large enough that the first, coarse steps do not blur them into one another.
EMBEDDING_SPREAD = 0.25
STEP_PAIRS = 4  # the fastest rotations: they tell neighbours apart
UNROTATED = 31  # the slowest
SLOWEST_NEEDED = 0.002  # radians per position: below, content matches over a whole prompt
# How much each rotation counts in the fall of a bag's weights, which are highest so far back.
Fall = Mapping[int, float]
NEAR_FALL: Fall = {1: 0.6, 2: 0.5, 3: 0.4, 4: 0.36, 5: 0.37, 6: 0.45, 7: 0.52}
FAR_FALL: Fall = {4: 0.8, 5: 0.9, 6: 0.9, 7: 1.0}
NEAR_PEAK, FAR_PEAK = 4, 8
STEP_SHARPNESS, BAG_SHARPNESS, COMMON_SHARPNESS, MATCH_SHARPNESS = 2.3, 1.6, 2.0, 2.0
NOTE_SCALE, BAG_SCALE, FINAL_SCALE = 0.3, 0.8, 0.3
# How much a head of layer 1 asks for its bag beside its token.
SURROUNDINGS, WISH, SCENE = 0.4, 0.6, 0.6
AVERSION = 2.0  # to what the answer itself has said: what is looked for stands farther back
COPY_SCALE = (2.0, 0.7, 3.0, 1.5, 1.0, 0.3)  # of the heads of layer 1
HELD_HEADS = (0, 2)  # of layer 1


class Held:
    """The wired weights, which stay as they are; of these, the ones that are `own` to a worker."""

    def __init__(self, model: Model, own: Container[int]) -> None:
        first, second = model.block(0), model.block(1)
        looking, shared = slice(0, 4 * WIDTH), slice(0, 2 * WIDTH)
        everything = slice(None)
        places: list[tuple[Tensor, tuple[slice, ...]]] = [
            (first.attn_q.weight, (looking,)),
            (first.attn_output.weight, (everything, looking)),
            *(
                (weight.weight, (shared,))
                for block in (first, second)
                for weight in (block.attn_k, block.attn_v)
            ),
            *((second.attn_q.weight, (_rows(head),)) for head in HELD_HEADS),
            *((second.attn_output.weight, (everything, _rows(head))) for head in HELD_HEADS),
            (model.token_embd.weight, (everything, slice(0, NAMED.start))),
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


def _rows(head: int) -> slice:
    return slice(head * WIDTH, (head + 1) * WIDTH)


def wire_copying(model: Model, token_ids: Sequence[int], common: Sequence[int]) -> None:
    """`common` are the rows of the most frequent tokens."""
    shape = model.shape
    if (shape.hidden, shape.heads, shape.kv_heads, shape.head_size) != (
        HIDDEN,
        HEADS,
        GROUPS,
        WIDTH,
    ):
        raise ValueError(
            f"the wiring is drawn for a hidden size of {HIDDEN} and {HEADS} heads of {WIDTH} over "
            f"{GROUPS} key-value heads"
        )
    with torch.no_grad():
        for place in range(shape.layers):
            block = model.block(place)
            block.attn_output.weight.zero_()
            block.ffn_down.weight.zero_()
        chance = torch.Generator().manual_seed(2)
        rows, size = model.token_embd.weight, NAMED.stop - NAMED.start
        rows.zero_()
        rows[:, NAMED] = EMBEDDING_SPREAD * likeness.start(token_ids, size, chance)
        rows[:, 0] = CONSTANT
        rows[torch.tensor(common, dtype=torch.long), 1] = COMMON
        model.output_norm.weight.fill_(FINAL_SCALE)
        _look_back(model)
        _look_up(model)


def _look_back(model: Model) -> None:
    """Layer 0: query and key are constants whose rotations agree so many positions apart."""
    block, half = model.block(0), WIDTH // 2
    steps, own = torch.arange(STEP_PAIRS), torch.arange(WIDTH)
    bags = [pair for pair in NEAR_FALL if pair >= STEP_PAIRS]
    for norm in (block.attn_q_norm, block.attn_k_norm):
        norm.weight[torch.cat((steps, steps + half))] = STEP_SHARPNESS
        norm.weight[bags] = BAG_SHARPNESS
        norm.weight[UNROTATED] = COMMON_SHARPNESS
    query, key, value = block.attn_q.weight, block.attn_k.weight, block.attn_v.weight
    query[: 4 * WIDTH] = 0
    key[: 2 * WIDTH] = value[: 2 * WIDTH] = 0
    for group in (0, 1):
        value[group * WIDTH + own, NAMED.start + own] = 1.0
    key[steps, 0] = 1.0
    for back in (1, 2):
        first = (back - 1) * WIDTH
        query[first + steps, 0] = (back * model.speeds[steps]).cos()
        query[first + steps + half, 0] = -(back * model.speeds[steps]).sin()
    sharpness = block.attn_k_norm.weight
    for pair, share in NEAR_FALL.items():
        key[WIDTH + pair, 0] = math.sqrt(share) / sharpness[pair]
    key[WIDTH + UNROTATED, 1] = -2.0
    for head, fall, peak in ((2, NEAR_FALL, NEAR_PEAK), (3, FAR_FALL, FAR_PEAK)):
        query[head * WIDTH + UNROTATED, 0] = 1.0
        for pair, share in fall.items():
            size = share / math.sqrt(NEAR_FALL[pair]) / float(sharpness[pair])
            angle = peak * float(model.speeds[pair])
            query[head * WIDTH + pair, 0] = size * math.cos(angle)
            query[head * WIDTH + pair + half, 0] = -size * math.sin(angle)
    for head, (columns, scale) in enumerate(
        ((LAST, NOTE_SCALE), (OLDER, NOTE_SCALE), (NEAR, BAG_SCALE), (FAR, BAG_SCALE))
    ):
        written = torch.arange(columns.stop - columns.start)
        block.attn_output.weight[columns.start + written, head * WIDTH + written] = scale


def _look_up(model: Model) -> None:
    """Layer 1: what stands here, against what other places have noted of the place before them."""
    block, half = model.block(1), WIDTH // 2
    slow = [pair for pair in range(half) if model.speeds[pair] < SLOWEST_NEEDED]
    slots = torch.tensor([*slow, *(pair + half for pair in slow)])
    for norm in (block.attn_q_norm, block.attn_k_norm):
        norm.weight[slots] = MATCH_SHARPNESS
    one, other, size = slots[::2], slots[1::2], len(slots) // 2

    def columns(which: slice) -> Tensor:
        return which.start + torch.arange(size)

    # Notes are written larger than tokens; here both have to count alike.
    louder = NOTE_SCALE * _loudness(model) / EMBEDDING_SPREAD
    query, key, value = block.attn_q.weight, block.attn_k.weight, block.attn_v.weight
    query.zero_()
    key.zero_()
    value.zero_()
    for group, (noted, weight) in enumerate(
        ((NEAR, SURROUNDINGS), (OLDER, 1.0), (FAR, SCENE)),
    ):
        key[group * WIDTH + one, columns(LAST)] = 1.0
        key[group * WIDTH + other, columns(noted)] = weight
    asked = (
        (louder, NEAR, SURROUNDINGS),  # this token in the same surroundings
        (louder, FAR, WISH),  # where the words of the request stand around
        (louder, LAST, 1.0),  # this token and the one before
        (1.0, LAST, 0.0),  # this token
        (louder, FAR, SCENE),  # this token in the same wider surroundings
        (0.0, FAR, SCENE),  # these surroundings
    )
    for head, (token, beside, weight) in enumerate(asked):
        query[head * WIDTH + one, columns(NAMED)] = token
        query[head * WIDTH + other, columns(beside)] = weight
    for pair, share in FAR_FALL.items():
        amount = AVERSION * math.sqrt(share)
        for group in (0, 2):
            key[group * WIDTH + pair, 0] = amount
        for head in (0, 1, 4):
            query[head * WIDTH + pair, 0] = -amount
    _say(block)


def _say(block: Block) -> None:
    """Each group says half of what the next token is."""
    own = torch.arange(WIDTH)
    for group, first in enumerate((NAMED.start, NAMED.stop - WIDTH, NAMED.start)):
        said = first + own
        block.attn_v.weight[group * WIDTH + own, said] = 1.0
        for head in (2 * group, 2 * group + 1):
            block.attn_output.weight[said, head * WIDTH + own] = COPY_SCALE[head]


def _loudness(model: Model) -> float:
    """What the first norm makes of a column of a token's row."""
    squares = model.token_embd.weight.square().sum(1).mean()
    return EMBEDDING_SPREAD / float((squares / model.shape.hidden).sqrt())
