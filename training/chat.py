"""Rendering: the one chat template, for training, for the tests and in the GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_FILE = Path(__file__).with_name("chat_template.jinja")

Message = Mapping[str, Any]
Tool = Mapping[str, Any]


def template_text() -> str:
    return TEMPLATE_FILE.read_text(encoding="utf-8")


def compile_template(text: str) -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(text)


@cache
def chat_template() -> Template:
    return compile_template(template_text())


def render(
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    tool_form: str = "json",
    thinking: bool = False,
    generate: bool = False,
) -> str:
    return chat_template().render(
        messages=messages,
        tools=tools,
        tool_form=tool_form,
        enable_thinking=thinking,
        add_generation_prompt=generate,
    )
