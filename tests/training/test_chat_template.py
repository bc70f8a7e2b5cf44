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
    assert rest.startswith('加\n{"name": "add", "arguments": {}}\n</tools>\n')
    assert rest.count("<|im_start|>system") == 0


def declared(tool: dict[str, Any], **variables: Any) -> str:
    text = render(user("hi"), tools=[{"type": "function", "function": tool}], **variables)
    return text.partition("<tools>\n")[2].partition("</tools>")[0]


WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Name of the city"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"type": "integer"},
            "at": {"type": ["number", "null"], "minimum": 0, "description": "Hour"},
            "place": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        },
        "required": ["city", "days", "place"],
        "additionalProperties": False,
    },
    "strict": True,
}
TOLD = """\
Weather of a city.
city: Name of the city
unit (optional): {"enum": ["C", "F"]}
at (optional): Hour {"minimum": 0}
place: {"anyOf": [{"type": "string"}, {"type": "object"}]}
{"additionalProperties": false, "strict": true}
"""


def test_a_function_is_declared_as_the_call_that_it_takes() -> None:
    assert declared(WEATHER) == TOLD + (
        '{"name": "get_weather", "arguments": {"city": "string", "unit": "string", "days": integer, '
        '"at": ["number", "null"], "place": any}}\n'
    )
    kinds = {"city": "string", "unit": "string", "days": "integer", "at": '["number", "null"]'}
    fields = "".join(
        f"<parameter={key}>\n{kind}\n</parameter>\n"
        for key, kind in (kinds | {"place": "any"}).items()
    )
    assert (
        declared(WEATHER, tool_form="xml") == f"{TOLD}<function=get_weather>\n{fields}</function>\n"
    )


def test_a_function_without_a_word_about_it() -> None:
    assert declared({"name": "now"}) == '{"name": "now", "arguments": {}}\n'
    assert declared({"name": "now", "description": None, "parameters": None}, tool_form="xml") == (
        "<function=now>\n</function>\n"
    )


def test_a_list_of_what_is_required_may_stand_beside_the_parameters() -> None:
    # As on one of the vendor's pages.
    parameters = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
    }
    told = declared({"name": "f", "parameters": parameters, "required": ["a"]})
    assert told == 'b (optional):\n{"name": "f", "arguments": {"a": "string", "b": "string"}}\n'
    # Without any such list nothing is said.
    assert "optional" not in declared({"name": "f", "parameters": parameters})


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
