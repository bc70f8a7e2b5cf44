"""Arbitrary words, to be written again or looked up: keeps every trained row usable in a copy.

Names that people bring along are made of tokens that no generator foresaw, and what a request calls
` Grace` a call has to write as `Grace`. To find a value by its key is what arguments and JSON need.
"""

from __future__ import annotations

import json
from functools import cache

from training.corpus import words
from training.corpus.conversation import assistant, conversation, user
from training.corpus.source import Sample, Source
from training.vocabulary import COMMON_TOKENS, tokenizer


@cache
def copyable_tokens() -> tuple[int, ...]:
    """The frequent tokens, and the pieces of every word that some pool holds."""
    pools = (words.PEOPLE, words.CITIES, words.PLAIN, words.SYLLABLES, words.COLOURS)
    known = [word for pool in pools for word in (*pool.training, *pool.held_out)]
    spelled = [shape for word in known for shape in (word, f" {word}", f"_{word.lower()}")]
    pieces = {piece for each in tokenizer().encode_batch(spelled) for piece in each.ids}
    return (*range(COMMON_TOKENS), *sorted(piece for piece in pieces if piece >= COMMON_TOKENS))


@cache
def readable_pieces() -> tuple[str, ...]:
    """The same tokens as far as they are letters, without what stands before them."""
    texts = (tokenizer().decode([token]).strip(" _.") for token in copyable_tokens())
    return tuple(sorted({text for text in texts if text.isascii() and text.isalpha() and text[1:]}))


def repeated(source: Source) -> Sample:
    count = source.random.randint(4, 24)
    token_ids = source.random.choices(copyable_tokens(), k=count)
    text = tokenizer().decode(token_ids).replace("\ufffd", "").strip() or "."
    wording = source.random.choice(('Repeat: "{}"', "Repeat after me: {}", "Say: {}", "Echo {}"))
    return conversation([user(wording.format(text.replace("{", ""))), assistant(text)])


LISTED = {
    "JSON": json.dumps,
    "lines": "\n".join,
    "snake case": "_".join,
    "words": " ".join,
    "quotes": lambda items: " ".join(f'"{item}"' for item in items),
    "a path": "/".join,
}


def listed(source: Source) -> Sample:
    messages = []
    for _ in range(source.random.randint(1, 3)):
        items = source.random.sample(readable_pieces(), source.random.randint(2, 8))
        form = source.random.choice(list(LISTED))
        between = source.random.choice((", ", " ", "\n", " and ", "; "))
        messages += [user(f"As {form}: {between.join(items)}"), assistant(LISTED[form](items))]
    return conversation(messages)


QUESTIONS = ("What is {}?", "{}?", "Tell me {}.", "And {}?", "Look up {}.", "Which is {}?")
PAIRED = ("{} is {}", "{}: {}", "{} = {}", "the {} is {}", "{} {}", '{} "{}"', "{} -> {}")


def looked_up(source: Source) -> Sample:
    count = source.random.randint(2, 9)
    keys = [piece.lower() for piece in source.random.sample(readable_pieces(), count)]
    pairs = {key: _value(source) for key in keys}
    pattern = source.random.choice(PAIRED)
    between = source.random.choice(("\n", ", ", ". ", "; ", " and "))
    text = between.join(pattern.format(key, value) for key, value in pairs.items())
    messages = []
    lead = f"{text}\n"
    for _ in range(source.random.randint(2, 6)):
        if source.chance(0.5):
            wanted = source.random.sample(list(pairs), source.random.randint(1, len(pairs)))
            answer = json.dumps({key: pairs[key] for key in wanted})
            messages += [user(f"{lead}As JSON: {', '.join(wanted)}"), assistant(answer)]
        else:
            key, value = source.random.choice(list(pairs.items()))
            asked = source.random.choice(QUESTIONS).format(key)
            messages += [user(f"{lead}{asked}"), assistant(str(value))]
        lead = ""
    return conversation(messages)


def _value(source: Source) -> str | int:
    if source.chance(0.2):
        return source.number(0, 9_999)
    return " ".join(source.random.choices(readable_pieces(), k=source.random.choice((1, 1, 1, 2))))


def generate(source: Source) -> Sample:
    make = source.weighted([(0.25, repeated), (0.2, listed), (0.55, looked_up)])
    return make(source)
