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
    I need a JSON object with {pairs}.
    Build a JSON object from {pairs}.
    JSON, please: {pairs}.
    Write {pairs} as a JSON object.
    Return a JSON object that holds {pairs}.
    Turn this into JSON: {pairs}.
    Can you give me JSON with {pairs}?
    Please answer with a JSON object: {pairs}.
    Put {pairs} into a JSON object.
    The answer is a JSON object with {pairs}."""
)
EXTRACT_WORDINGS = lines(
    """Extract {keys} from this text as JSON: {text}
    Read the text and return JSON with the keys {keys}: {text}
    {text} Return {keys} as JSON.
    Text: {text} Output a JSON object with {keys}.
    Give me {keys} in JSON format. {text}
    Find {keys} in the text and answer in JSON: {text}
    From "{text}" extract {keys} as a JSON object.
    {text} Answer with a JSON object that has the keys {keys}.
    Please extract {keys} and answer in JSON. {text}
    Take {keys} from the text. Answer in JSON. {text}
    What are {keys}? Answer in JSON. {text}
    {text} What are {keys}? Reply with JSON.
    Return JSON with {keys} for this text: {text}
    Put {keys} of this text into a JSON object: {text}
    Read this: {text} Then write JSON with the keys {keys}.
    Output JSON with the keys {keys}. The text: {text}
    Here is a text. {text} I need {keys} as a JSON object.
    Look for {keys} in this text and write a JSON object: {text}"""
)
LIST_WORDINGS = lines(
    """Write a JSON list of {items}.
    Return {items} as a JSON array.
    Make a JSON array with {items}.
    Give me a JSON list with {items}.
    Output the items {items} as JSON.
    As a JSON array: {items}.
    JSON list, please: {items}.
    I need a JSON array of {items}.
    Put {items} into a JSON list.
    Turn {items} into a JSON array.
    Please answer with a JSON list of {items}.
    Build a JSON array from {items}."""
)
ODD_SHARE = 0.4  # in training: of pairs and sentences about anything
SAID = lines(
    """The {key} is {value}.
    My {key} is {value}.
    Its {key} is {value}.
    {key}: {value}.
    The {key} of it was {value}.
    For {key} take {value}."""
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
    odd = not source.held_out and source.chance(ODD_SHARE)
    if roll < 0.45:
        keys = source.random.sample(list(KEYS), source.random.choice((1, 2, 3, 4)))
        wanted = _about_anything(source) if odd else {key: KEYS[key](source) for key in keys}
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
        if odd:
            wanted = _about_anything(source)
            form = source.pick(SAID)
            said = [form.format(key=key, value=value) for key, value in wanted.items()]
        if source.chance(0.4):
            source.random.shuffle(said)
        wording = source.pick(EXTRACT_WORDINGS)
        return wording.format(keys=join_words(list(wanted)), text=" ".join(said)), wanted
    items = [words.word(source) for _ in range(source.random.randint(2, 6))]
    return source.pick(LIST_WORDINGS).format(items=join_words(items)), items


def _about_anything(source: Source) -> dict[str, Any]:
    """Arbitrary keys, so that each value has to be found by its own."""
    values = source.random.choices(list(KEYS.values()), k=source.random.choice((1, 2, 2, 3, 4)))
    return {words.word(source): value(source) for value in values}


def generate(source: Source) -> Sample:
    messages = system_turn(source)
    for _ in range(source.random.choice((1, 1, 2, 3))):
        request, wanted = json_exchange(source)
        messages += [user(request), assistant(json.dumps(wanted, ensure_ascii=False))]
    return conversation(messages)
