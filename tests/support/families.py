"""What publishers' chat templates make of our own conversations, without a sentence of theirs in this repository.

`tests/qwen/families/conversations.json` has the conversations, and a file for each family what its template makes of
them, as `tests/qwen/record_families.py` found it. What is ChatML or our own text stands there as it is; a
sentence that the publisher puts into the prompt is its length and its SHA-256.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from ownstudio.core.request import ChatPrompt, Message, Tool, ToolCall
from ownstudio.qwen.family import Family, ThinkingKind
from ownstudio.qwen.tools import ToolForm

HERE = Path(__file__).parents[1] / "qwen" / "families"
JSON_PLAIN = Family(ToolForm.JSON, ThinkingKind.NONE)
JSON_HYBRID = Family(ToolForm.JSON, ThinkingKind.HYBRID)
JSON_ALWAYS = Family(ToolForm.JSON, ThinkingKind.ALWAYS)
FAMILIES = {
    "qwen2.5": JSON_PLAIN,
    "qwen2.5-coder": JSON_PLAIN,
    "qwq": JSON_ALWAYS,
    "qwen3": JSON_HYBRID,
    "qwen3-instruct": JSON_PLAIN,
    "qwen3-thinking": JSON_ALWAYS,
    "qwen3-next-instruct": JSON_PLAIN,
    "qwen3-next-thinking": JSON_ALWAYS,
    "qwen3-coder": Family(ToolForm.XML, ThinkingKind.NONE),
    "qwen3.5": Family(ToolForm.XML, ThinkingKind.HYBRID),
    "qwen3.6": Family(ToolForm.XML, ThinkingKind.HYBRID, keeps_thinking=True),
    "qwen3.8": Family(ToolForm.XML, ThinkingKind.HYBRID, keeps_thinking=True),
    "qwen3.8-max": Family(ToolForm.XML, ThinkingKind.ALWAYS, keeps_thinking=True),
}
OPENED = "<|im_start|>assistant\n<think>\n"
CLOSED = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
PLAIN = "<|im_start|>assistant\n"

Part = str | tuple[int, str]


def conversations() -> dict[str, dict[str, Any]]:
    """By name: `messages`, `tools`, `enable_thinking`, `preserve_thinking`."""
    read = json.loads((HERE / "conversations.json").read_text("utf-8"))
    return {
        name: {"enable_thinking": False, "preserve_thinking": False}
        | found
        | {"tools": read["tools"] if found.get("tools") else None}
        for name, found in read["conversations"].items()
    }


def variables(conversation: dict[str, Any]) -> dict[str, Any]:
    """The conversation as templates know it."""
    messages = []
    for message in conversation["messages"]:
        shown = {key: value for key, value in message.items() if key in ("role", "content")}
        if "reasoning" in message:
            shown["reasoning_content"] = message["reasoning"]
        if "tool_calls" in message:
            shown["tool_calls"] = [
                {"type": "function", "function": call} for call in message["tool_calls"]
            ]
        messages.append(shown)
    return conversation | {"messages": messages, "add_generation_prompt": True}


def digest(text: str) -> tuple[int, str]:
    return len(text), hashlib.sha256(text.encode()).hexdigest()


def differs_at(text: str, parts: list[Part]) -> str | None:
    """Where `text` is not what `parts` say, or None."""
    place = 0
    for part in parts:
        if isinstance(part, str):
            if not text.startswith(part, place):
                return f"at {place}: {text[place : place + len(part)]!r} is not {part!r}"
            place += len(part)
        else:
            if digest(text[place : place + part[0]]) != tuple(part):
                return f"at {place}: {text[place : place + part[0]]!r} is another sentence"
            place += part[0]
    return None if place == len(text) else f"at {place}: {text[place:]!r} is more than expected"


@cache
def recorded(family: str) -> dict[str, list[Part] | None]:
    """The prompts by conversation, each in its parts; None where the template refuses the conversation."""
    rendered: dict[str, list[Part] | None] = _record(family)["rendered"]
    return rendered


def recorded_of(family: str) -> str:
    """The SHA-256 of the template that the record was made with: publishers revise theirs."""
    return str(_record(family)["template_sha256"])


@cache
def _record(family: str) -> Any:
    return json.loads((HERE / f"{family}.json").read_text("utf-8"))


def ours(parts: list[Part]) -> str:
    """What of a prompt is not the publisher's."""
    return "".join(part for part in parts if isinstance(part, str))


def ending(parts: list[Part]) -> str:
    return PLAIN + ours(parts).rpartition(PLAIN)[2]


def turns(parts: list[Part]) -> str:
    """The prompt behind its system turn and before its ending."""
    text = ours(parts).rpartition(PLAIN)[0]
    return text.partition("<|im_end|>\n")[2] if text.startswith("<|im_start|>system") else text


def tools_of(conversation: dict[str, Any]) -> tuple[Tool, ...]:
    return tuple(
        Tool(
            tool["function"]["name"],
            tool["function"]["description"],
            json.dumps(tool["function"]["parameters"]),
            json.dumps(tool),
        )
        for tool in conversation["tools"] or ()
    )


def prompt_of(conversation: dict[str, Any]) -> ChatPrompt:
    return ChatPrompt(
        tuple(
            Message(
                message["role"],
                message["content"],
                reasoning=message.get("reasoning"),
                tool_calls=tuple(
                    ToolCall(call["name"], json.dumps(call["arguments"]), f"call_{place}")
                    for place, call in enumerate(message.get("tool_calls", ()))
                ),
            )
            for message in conversation["messages"]
        ),
        tools_of(conversation),
        enable_thinking=conversation["enable_thinking"],
        preserve_thinking=conversation["preserve_thinking"],
    )


CONVERSATIONS = conversations()
