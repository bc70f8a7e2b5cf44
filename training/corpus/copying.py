"""Lines of arbitrary tokens, to be written again: keeps every trained row usable in a copy.

Names that people bring along are made of tokens that no generator foresaw.
"""

from __future__ import annotations

from functools import cache

from training.chat import render
from training.corpus import words
from training.corpus.conversation import user
from training.corpus.source import Piece, Sample, Source
from training.vocabulary import COMMON_TOKENS, tokenizer

END = "<|im_end|>"


@cache
def copyable_tokens() -> tuple[int, ...]:
    """The frequent tokens, and the pieces of every word that some pool holds."""
    pools = (words.PEOPLE, words.CITIES, words.PLAIN, words.SYLLABLES, words.COLOURS)
    known = [word for pool in pools for word in (*pool.training, *pool.held_out)]
    spelled = [shape for word in known for shape in (word, f" {word}", f"_{word.lower()}")]
    pieces = {piece for each in tokenizer().encode_batch(spelled) for piece in each.ids}
    return (*range(COMMON_TOKENS), *sorted(piece for piece in pieces if piece >= COMMON_TOKENS))


def generate(source: Source) -> Sample:
    count = source.random.randint(4, 24)
    token_ids = source.random.choices(copyable_tokens(), k=count)
    text = tokenizer().decode(token_ids).replace("\ufffd", "").strip() or "."
    wording = source.random.choice(('Repeat: "{}"', "Repeat after me: {}", "Say: {}", "Echo {}"))
    asked = render([user(wording.replace("{}", text))], generate=True)
    return (Piece(asked, answer=False), Piece(text + END, answer=True))
