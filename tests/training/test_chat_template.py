"""The template inside the bundled file: counts of the vendor's pages, and every branch once."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import gguf
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from training import vocabulary

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "src" / "ownstudio" / "bundled" / "ownstudio-tiny.gguf"
SOURCE = ROOT / "training" / "chat_template.jinja"
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
ADD = {
    "type": "function",
    "function": {"name": "add", "description": "加", "parameters": {}},
}


@cache
def carried() -> str:
    """The template in the file; reading all of its vocabulary takes a second, so once."""
    return str(gguf.GGUFReader(BUNDLED).fields["tokenizer.chat_template"].contents())


@cache
def template() -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(carried())


def render(*messages: dict[str, Any], **variables: Any) -> str:
    return template().render(messages=messages, **variables)


def count(text: str) -> int:
    return len(vocabulary.tokenizer().encode(text).ids)


def called(arguments: object) -> dict[str, Any]:
    function = {"name": "add", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_file_carries_the_template_of_the_repository() -> None:
    assert carried() == SOURCE.read_text(encoding="utf-8")


def test_prompt_counts_are_those_of_the_pages() -> None:
    assert count(render(SYSTEM, user("你是谁？"), add_generation_prompt=True)) == 22
    assert count(render(SYSTEM, user("Who are you?"), add_generation_prompt=True)) == 23
    assert count(render(user("你是谁？"), add_generation_prompt=True)) == 11


def test_plain_chat_gets_nothing_added() -> None:
    assert render(user("hi"), add_generation_prompt=True) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_thinking_opens_the_answer() -> None:
    text = render(user("hi"), add_generation_prompt=True, enable_thinking=True)
    assert text.endswith("<|im_start|>assistant\n<think>\n")


def test_tools_follow_the_system_text() -> None:
    text = render(SYSTEM, user("hi"), tools=[ADD])
    head, _, rest = text.partition("<tools>\n")
    assert head.startswith("<|im_start|>system\nYou are a helpful assistant.\n\n")
    line, _, rest = rest.partition("\n")
    assert json.loads(line) == ADD["function"]
    assert "加" in line
    assert rest.count("<|im_start|>system") == 0


def test_json_form_of_a_call() -> None:
    wanted = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
    for arguments in ({"a": 1}, '{"a": 1}'):
        assert render(user("hi"), called(arguments)).endswith(f"assistant\n{wanted}")


def test_xml_form_of_a_call() -> None:
    text = render(user("hi"), called({"a": 1, "b": "x\ny"}), tool_form="xml")
    assert text.endswith(
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
        "<parameter=b>\nx\ny\n</parameter>\n</function>\n</tool_call><|im_end|>\n"
    )


def test_results_that_follow_each_other_share_a_turn() -> None:
    results = [{"role": "tool", "content": text} for text in ("one", "two")]
    assert render(user("hi"), called({}), *results).endswith(
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n"
        "<tool_response>\ntwo\n</tool_response><|im_end|>\n"
    )


def test_old_thoughts_are_forgotten_unless_kept() -> None:
    old = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    assert "hm" not in render(user("a"), old, user("b"))
    assert "<think>\nhm\n</think>\n\nyes" in render(user("a"), old)
    assert "<think>\nhm\n</think>\n\nyes" in render(
        user("a"), old, user("b"), preserve_thinking=True
    )


def test_message_without_content() -> None:
    assert render({"role": "assistant"}) == "<|im_start|>assistant\n<|im_end|>\n"
