"""A short thought before the answer, where the caller has switched thinking on."""

from __future__ import annotations

import json

from training.chat import Message, Tool
from training.corpus import tools
from training.corpus.conversation import assistant, conversation, system_turn, user
from training.corpus.identity import small_talk, sum_exchange
from training.corpus.json_objects import json_exchange
from training.corpus.python_code import any_task, with_form
from training.corpus.source import Sample, Source


def thought(kind: str, detail: str = "") -> str:
    return {
        "talk": "The user is talking to me. I can answer at once.",
        "sum": f"I have to calculate {detail}.",
        "code": f"The user wants Python code. I will write `{detail}`.",
        "json": "The user wants JSON. I take the values from the request.",
        "call": f"The function {detail} fits, so I call it.",
        "result": "I have the result, so I can answer now.",
        "none": "No function is needed here. I can answer at once.",
    }[kind]


def first_name_in(code: str) -> str:
    """The function or class that the code defines first."""
    for row in code.splitlines():
        if row.startswith(("def ", "class ")):
            return row.split(None, 1)[1].split("(")[0].rstrip(":")
    return "the code"


def with_functions(source: Source) -> Sample:
    chosen = tools.talk(source)
    task = chosen.tasks[0]
    messages: list[Message] = [*system_turn(source), user(task.request)]
    stop = source.random.randint(0, len(task.steps))
    for place, step in enumerate(task.steps):
        written = dict(tools.call(step))
        written["reasoning_content"] = thought("call", step.name)
        messages.append(written)
        if place == stop:
            return _ended(source, messages, chosen.tools)
        messages.append({"role": "tool", "content": step.result})
    messages.append(assistant(task.answer, thought("result" if task.steps else "none")))
    return _ended(source, messages, chosen.tools)


def _ended(source: Source, messages: list[Message], offered: tuple[Tool, ...]) -> Sample:
    return conversation(messages, offered, tool_form=tools.tool_form(source), thinking=True)


def generate(source: Source) -> Sample:
    roll = source.random.random()
    if roll < 0.35:
        return with_functions(source)
    messages = system_turn(source)
    if roll < 0.55:
        ((request, answer),) = small_talk(source)
        reasoning = thought("talk")
    elif roll < 0.65:
        request, answer = sum_exchange(source)
        reasoning = thought("sum", answer.split(" = ")[0])
    elif roll < 0.9:
        request, answer = with_form(source, any_task(source))
        reasoning = thought("code", first_name_in(answer))
    else:
        request, value = json_exchange(source)
        answer, reasoning = json.dumps(value, ensure_ascii=False), thought("json")
    return conversation([*messages, user(request), assistant(answer, reasoning)], thinking=True)
