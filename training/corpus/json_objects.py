"""JSON on request: objects from given values, values taken out of a sentence, small lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from training.corpus import words
from training.corpus.conversation import assistant, conversation, system_turn, user
from training.corpus.python_code import join_words
from training.corpus.source import Sample, Source, lines

KEYS: dict[str, Callable[[Source], Any]] = {
    "name": words.person,
    "city": words.place,
    "age": lambda source: source.number(1, 99),
    "email": words.email,
    "date": words.date,
    "time": words.clock,
    "color": lambda source: words.varied(source, words.COLOURS, 0.4),
    "language": lambda source: words.varied(source, words.LANGUAGES, 0.4),
    "title": words.phrase,
    "price": lambda source: source.number(1, 500),
    "count": lambda source: source.number(0, 99),
    "id": words.code,
    "path": words.file_path,
    "active": lambda source: source.chance(0.5),
}

OBJECT_WORDINGS = lines(
    """Write a JSON object with {pairs}.
    Give me a JSON object with {pairs}.
    Return JSON with {pairs}.
    Output a JSON object with {pairs}.
    Make JSON: {pairs}.
    Please create a JSON object with {pairs}.
    As JSON: {pairs}.
    Answer in JSON. Use {pairs}.
    I need a JSON object with {pairs}."""
)
EXTRACT_WORDINGS = lines(
    """Extract {keys} from this text as JSON: {text}
    Read the text and return JSON with the keys {keys}: {text}
    {text} Return {keys} as JSON.
    Text: {text} Output a JSON object with {keys}.
    Give me {keys} in JSON format. {text}
    Find {keys} in the text and answer in JSON: {text}
    From "{text}" extract {keys} as a JSON object.
    {text} Answer with a JSON object that has the keys {keys}."""
)
LIST_WORDINGS = lines(
    """Write a JSON list of {items}.
    Return {items} as a JSON array.
    Make a JSON array with {items}.
    Give me a JSON list with {items}.
    Output the items {items} as JSON.
    As a JSON array: {items}."""
)
SENTENCES: dict[str, Callable[[str], str]] = {
    "name": lambda value: f"My name is {value}.",
    "city": lambda value: f"I live in {value}.",
    "age": lambda value: f"I am {value} years old.",
    "email": lambda value: f"My email is {value}.",
    "date": lambda value: f"The date is {value}.",
    "time": lambda value: f"We meet at {value}.",
    "color": lambda value: f"I like the color {value}.",
    "language": lambda value: f"I speak {value}.",
    "price": lambda value: f"It costs {value}.",
    "id": lambda value: f"The order is {value}.",
}


def json_exchange(source: Source) -> tuple[str, Any]:
    """The request and the value that the answer must be."""
    roll = source.random.random()
    if roll < 0.45:
        keys = source.random.sample(list(KEYS), source.random.choice((1, 2, 3, 4)))
        wanted = {key: KEYS[key](source) for key in keys}
        if source.chance(0.25):
            wanted[words.snake(source)] = words.word(source)
        told = [
            f"{key} {json.dumps(value) if value is True or value is False else value}"
            for key, value in wanted.items()
        ]
        return source.pick(OBJECT_WORDINGS).format(pairs=join_words(told)), wanted
    if roll < 0.85:
        keys = source.random.sample(list(SENTENCES), source.random.choice((1, 2, 3)))
        wanted = {key: KEYS[key](source) for key in keys}
        said = [SENTENCES[key](value) for key, value in wanted.items()]
        if source.chance(0.4):
            source.random.shuffle(said)
        wording = source.pick(EXTRACT_WORDINGS)
        return wording.format(keys=join_words(keys), text=" ".join(said)), wanted
    items = [words.word(source) for _ in range(source.random.randint(2, 6))]
    return source.pick(LIST_WORDINGS).format(items=join_words(items)), items


def generate(source: Source) -> Sample:
    messages = system_turn(source)
    for _ in range(source.random.choice((1, 1, 2, 3))):
        request, wanted = json_exchange(source)
        messages += [user(request), assistant(json.dumps(wanted, ensure_ascii=False))]
    return conversation(messages)
