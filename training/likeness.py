"""Where the rows of the embedding begin: tokens that are one word in several forms begin alike.

What a request calls ` beta` stands as `_beta` in the name of a function and as `beta` in JSON: three
tokens that have nothing in common for a model that starts from random rows, and of a word that it has
never seen it cannot learn that they are one. So a row begins as the sum of what the word is, what
stands before it, whether it is capitalised, and something of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from training import vocabulary

# Shares of a row's variance.
WORD, LEAD, CASE, OWN = 0.6, 0.08, 0.06, 0.26
FIRST, SECOND = 0.3, 0.15  # of a word that is written in pieces where no space precedes it
SPELLED = re.compile(r"([^\w]|_)?([^\W_]+)")


def start(token_ids: Sequence[int], hidden: int, chance: torch.Generator) -> Tensor:
    """One row of unit spread for each token, and one more for all others."""
    size = len(token_ids) + 1
    rows = torch.randn(size, hidden, generator=chance)
    known: dict[tuple[str, str], Tensor] = {}

    def part(kind: str, value: str) -> Tensor:
        if (kind, value) not in known:
            known[kind, value] = torch.randn(hidden, generator=chance)
        return known[kind, value]

    for row, token_id in enumerate(token_ids):
        text = vocabulary.tokenizer().decode([token_id], skip_special_tokens=False)
        spelled = SPELLED.fullmatch(text)
        if spelled is None:
            continue
        lead, word = spelled[1] or "", spelled[2]
        parts = [
            (WORD, part("word", word.lower())),
            (LEAD, part("lead", lead)),
            (CASE, part("case", _case(word))),
            (OWN, rows[row]),
        ]
        if lead == " ":
            bare = vocabulary.tokenizer().encode(word, add_special_tokens=False).tokens
            if len(bare) > 1:
                # Without the space it is written in pieces: they are part of what it is.
                first, second = (part("word", piece.lower()) for piece in bare[:2])
                parts = [(share * (1 - FIRST - SECOND), each) for share, each in parts]
                parts += [(FIRST, first), (SECOND, second.roll(hidden // 2))]
        rows[row] = torch.stack([share**0.5 * each for share, each in parts]).sum(0)
    return rows


def _case(word: str) -> str:
    if word.islower():
        return "lower"
    return "upper" if word.isupper() and len(word) > 1 else "capital"
