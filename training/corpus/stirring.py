"""Requests with a word too many or too few, so that no sentence has to be met as it was learned."""

from __future__ import annotations

import re
from dataclasses import replace

from training.corpus import words
from training.corpus.source import Generator, Piece, Sample, Source

STIRRED_SHARE = 0.6
ASKED = re.compile(r"(?<=<\|im_start\|>user\n).*?(?=<\|im_end\|>)", re.DOTALL)


def stirred(generate: Generator) -> Generator:
    """The same samples, of which most requests have an arbitrary word put in or a character left out."""

    def make(source: Source) -> Sample:
        return tuple(_stirred(source, piece) for piece in generate(source))

    return make


def _stirred(source: Source, piece: Piece) -> Piece:
    if piece.answer:
        return piece
    return replace(piece, text=ASKED.sub(lambda asked: _changed(source, asked[0]), piece.text))


def _changed(source: Source, request: str) -> str:
    if not source.chance(STIRRED_SHARE):
        return request
    if request.isascii():
        parts = request.split(" ")
        parts.insert(
            source.random.randrange(len(parts) + 1), source.random.choice(words.fresh_words())
        )
        return " ".join(parts)
    # Chinese has no spaces: a character less leaves most of the words as they were.
    wide = [place for place, letter in enumerate(request) if letter > "\u2e80"]
    if len(wide) < 4:
        return request
    place = source.random.choice(wide)
    return request[:place] + request[place + 1 :]
