"""Requests with a word too many or too few, so that no sentence has to be met as it was learned."""

from __future__ import annotations

import re
from dataclasses import replace

from training.corpus import words
from training.corpus.source import Generator, Sample, Source

ASKED = re.compile(r"(?<=<\|im_start\|>user\n).*?(?=<\|im_end\|>)", re.DOTALL)


def stirred(generate: Generator, share: float) -> Generator:
    """The same samples, of which so many requests have an arbitrary word put in or a character left out."""

    def changed(source: Source, request: str) -> str:
        return _changed(source, request) if source.chance(share) else request

    def make(source: Source) -> Sample:
        return tuple(
            piece
            if piece.answer
            else replace(piece, text=ASKED.sub(lambda asked: changed(source, asked[0]), piece.text))
            for piece in generate(source)
        )

    return make


def _changed(source: Source, request: str) -> str:
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
