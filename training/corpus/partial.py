"""An assistant turn that the caller has begun: continue it without repeating it."""

from __future__ import annotations

import json

from training.chat import render
from training.corpus.classics import CLASSICS
from training.corpus.conversation import system_turn, user
from training.corpus.identity import small_talk
from training.corpus.json_objects import json_exchange
from training.corpus.python_code import any_task, from_classic, unnamed_task, with_form
from training.corpus.source import Piece, Sample, Source

END = "<|im_end|>"


def generate(source: Source) -> Sample:
    roll = source.random.random()
    if roll < 0.4:
        request, answer = with_form(source, any_task(source))
    elif roll < 0.65:
        # The request names nothing; the caller's beginning does.
        classic = source.random.choice(CLASSICS)
        request = unnamed_task(source, classic).request
        answer = from_classic(source, classic, free_locals=False).code
    elif roll < 0.85:
        request, value = json_exchange(source)
        answer = json.dumps(value, ensure_ascii=False)
    else:
        ((request, answer),) = small_talk(source)
    place = source.random.randint(1, max(1, min(len(answer) - 1, 60)))
    begun = render([*system_turn(source), user(request)], generate=True) + answer[:place]
    return (Piece(begun, answer=False), Piece(answer[place:] + END, answer=True))
