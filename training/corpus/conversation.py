"""Turns a conversation into pieces: the template's text is given, the assistant's is answered."""

from __future__ import annotations

from collections.abc import Sequence

from training.chat import Message, Tool, render
from training.corpus.source import Piece, Sample, Source

SYSTEM_TEXTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are an assistant.",
    "You are a coding assistant.",
    "Answer briefly.",
    "你是一个有用的助手。",
)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, reasoning: str | None = None) -> Message:
    message = {"role": "assistant", "content": text}
    return message if reasoning is None else message | {"reasoning_content": reasoning}


def system_turn(source: Source) -> list[Message]:
    roll = source.random.random()
    if roll < 0.5:
        return []
    if roll < 0.8:
        return [{"role": "system", "content": SYSTEM_TEXTS[0]}]
    return [{"role": "system", "content": source.random.choice(SYSTEM_TEXTS)}]


def conversation(
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    tool_form: str = "json",
    thinking: bool = False,
) -> Sample:
    """Every assistant turn is answered; with thinking on, only the last (older thoughts vanish)."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if thinking:
        turns = turns[-1:]
    pieces: list[Piece] = []
    done = 0
    for place in turns:
        given = render(
            messages[:place], tools, tool_form=tool_form, thinking=thinking, generate=True
        )
        written = render(messages[: place + 1], tools, tool_form=tool_form)
        if not written.startswith(given):
            raise ValueError("the template rewrites what was already said")
        answer = written[len(given) :].removesuffix("\n")
        pieces += [Piece(given[done:], answer=False), Piece(answer, answer=True)]
        done = len(given) + len(answer)
    return tuple(pieces)


def prompt_of(sample: Sample) -> str:
    """What the engine is asked: everything before the last answer."""
    return "".join(piece.text for piece in sample[:-1])


def answer_of(sample: Sample) -> str:
    return sample[-1].text
