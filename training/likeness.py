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
WORD, LEAD, CASE, OWN = 0.77, 0.12, 0.06, 0.05
FIRST, SECOND = 0.45, 0.3  # of a word that is written in pieces where no space precedes it
# What precedes a word and its case have columns of their own, the last: then another form of a word
# is one step along them, which leaves what the word is alone.
LEADS, CASES = (" ", "", "_"), ("lower", "capital", "upper")
FORM_COLUMNS = len(LEADS) + len(CASES)
SPELLED = re.compile(r"([^\w]|_)?([^\W_]+)")


def start(token_ids: Sequence[int], hidden: int, chance: torch.Generator) -> Tensor:
    """One row of unit spread for each token, and one more for all others."""
    size, width = len(token_ids) + 1, hidden - FORM_COLUMNS
    rows = torch.randn(size, hidden, generator=chance)
    known: dict[str, Tensor] = {}

    def meaning(word: str) -> Tensor:
        if word not in known:
            known[word] = torch.randn(width, generator=chance)
        return known[word]

    for row, token_id in enumerate(token_ids):
        text = vocabulary.tokenizer().decode([token_id], skip_special_tokens=False)
        spelled = SPELLED.fullmatch(text)
        rows[row, width:] = 0
        if spelled is None:
            continue
        lead, word = spelled[1] or "", spelled[2]
        parts = [(WORD, meaning(word.lower())), (OWN, rows[row, :width])]
        if lead == " ":
            bare = vocabulary.tokenizer().encode(word, add_special_tokens=False).tokens
            if len(bare) > 1:
                # Without the space it is written in pieces: they are part of what it is.
                first, second = (meaning(piece.lower()) for piece in bare[:2])
                parts = [(share * (1 - FIRST - SECOND), each) for share, each in parts]
                whole = WORD + OWN
                parts += [(FIRST * whole, first), (SECOND * whole, second.roll(width // 2))]
        rows[row, :width] = torch.stack([share**0.5 * each for share, each in parts]).sum(0)
        if lead in LEADS:
            rows[row, width + LEADS.index(lead)] = (LEAD * hidden) ** 0.5
        rows[row, width + len(LEADS) + CASES.index(_case(word))] = (CASE * hidden) ** 0.5
    return rows


def _case(word: str) -> str:
    if word.islower():
        return "lower"
    return "upper" if word.isupper() and len(word) > 1 else "capital"
