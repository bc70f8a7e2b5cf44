"""Goal: what we assume of each family's prompts is what its publisher's template makes of them.

The records of that are in `families`; `publisher_templates.py` compares them with the templates, which are not ours to
keep here.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ownstudio.qwen.family import ThinkingKind
from ownstudio.qwen.parser import OutputParser, Thinking
from ownstudio.qwen.pieces import CallArguments, CallStart, Reasoning, Text
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.qwen.tools import ToolForm, ToolSet, template_tool
from support.families import (
    CLOSED,
    CONVERSATIONS,
    FAMILIES,
    HERE,
    OPENED,
    PLAIN,
    ending,
    ours,
    prompt_of,
    recorded,
    tools_of,
    turns,
    variables,
)

BUNDLED = Path(__file__).parents[2] / "training" / "chat_template.jinja"


def calls_of(conversation: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [
        message["tool_calls"] for message in conversation["messages"] if "tool_calls" in message
    ]


def test_every_record_belongs_to_a_family_and_has_every_conversation() -> None:
    files = {path.stem for path in HERE.glob("*.json")} - {"conversations"}
    assert files == set(FAMILIES)
    for family in FAMILIES:
        assert set(recorded(family)) == set(CONVERSATIONS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_of_a_prompt_is_that_of_a_model_that_thinks_as_its_family_says(family: str) -> None:
    for name, parts in recorded(family).items():
        thinks = CONVERSATIONS[name]["enable_thinking"]
        match FAMILIES[family].thinking:
            case ThinkingKind.NONE:
                expected = {PLAIN}
            case ThinkingKind.ALWAYS:
                expected = {OPENED}
            case ThinkingKind.HYBRID:
                # Those that do not open the thinking let the model do so.
                expected = {OPENED, PLAIN} if thinks else {CLOSED}
        if parts is None:
            assert FAMILIES[family].thinking is ThinkingKind.ALWAYS
            assert not thinks
        else:
            assert ending(parts) in expected


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_in_a_prompt_parse_back_to_the_calls_of_the_conversation(family: str) -> None:
    parsed = 0
    for name, parts in recorded(family).items():
        conversation = CONVERSATIONS[name]
        asked = calls_of(conversation)
        if parts is None or not asked:
            continue
        written = [
            turn.partition("<|im_end|>")[0]
            for turn in turns(parts).split(PLAIN)[1:]
            if "<tool_call>" in turn
        ]
        for text, calls in zip(written, asked, strict=True):
            assert ("<function=" in text) == (FAMILIES[family].tool_form is ToolForm.XML)
            parser = OutputParser(thinking=Thinking.MAY, tools=ToolSet(tools_of(conversation)))
            # One character at a time, as a model might.
            pieces = [piece for character in text for piece in parser.feed(character)]
            pieces += parser.finish()
            found: list[dict[str, Any]] = []
            for piece in pieces:
                if isinstance(piece, CallStart):
                    found.append({"name": piece.name, "arguments": ""})
                elif isinstance(piece, CallArguments):
                    found[piece.call]["arguments"] += piece.arguments
            read = [one | {"arguments": json.loads(one["arguments"])} for one in found]
            assert read == calls
            said = "".join(piece.text for piece in pieces if isinstance(piece, Text))
            assert said == next(
                message["content"]
                for message in conversation["messages"]
                if message.get("tool_calls") == calls
            )
            thought = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
            assert thought in ("", "Ich brauche das Wetter.")
            parsed += len(calls)
    assert parsed


@pytest.mark.parametrize("family", FAMILIES)
def test_tools_are_declared_key_for_key(family: str) -> None:
    declared = 0
    for name, parts in recorded(family).items():
        if parts is None or not CONVERSATIONS[name]["tools"]:
            continue
        block = ours(parts).partition("<tools>\n")[2].partition("\n</tools>")[0]
        if family == "qwen3-coder":
            # It alone writes the definition out in tags of its own.
            assert "<name>get_weather</name>" in block
            assert block.count("<parameter>") == 4
        else:
            shown = [template_tool(tool) for tool in tools_of(CONVERSATIONS[name])]
            assert [json.loads(line) for line in block.split("\n")] == shown
        declared += 1
    assert declared


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_bundled_template_writes_turns_as_qwen3_does(name: str) -> None:
    parts = recorded("qwen3")[name]
    assert parts is not None
    text = ChatTemplate(BUNDLED.read_text("utf-8")).render(variables(CONVERSATIONS[name]))
    if name == "thoughts of an earlier turn, kept":
        # Qwen3's knows nothing of that, later ones do.
        parts = recorded("qwen3.6")[name]
        assert parts is not None
    assert turns([text]) == turns(parts)


def test_a_template_finds_what_it_looks_up_in_a_tool(tokenizer: Tokenizer) -> None:
    # `name` is a part of the special token `<|repo_name|>`: in a client's text it is marked.
    source = (
        "{% for tool in tools %}{% set tool = tool.function %}"
        "{{ tool.name }}, {{ tool.description }}, {{ tool.parameters.type }}, {{ tool.parameters.required[0] }}, "
        "{{ tool.parameters.properties.city.type }}{% endfor %}"
    )
    renderer = PromptRenderer(ChatTemplate(source), tokenizer)
    ids = renderer.render_chat(prompt_of(CONVERSATIONS["tools"])).token_ids
    assert tokenizer.decode(ids) == "get_weather, Wetter einer Stadt 天气, object, city, string"
