"""Verdicts on single answers: does it parse, pass its tests, call the right function?"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.chat import Tool

SECONDS = 10
SAMPLE_FILE = "one\ntwo\nthree\n"


def code_in(answer: str, *, fenced: bool) -> str | None:
    """The code of an answer that has the form that was asked for."""
    if not fenced:
        return answer
    whole = re.fullmatch(r"```python\n(.*)\n```", answer, re.DOTALL)
    return whole.group(1) if whole else None


def parses(code: str | None) -> bool:
    if code is None:
        return False
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def passes(code: str | None, checks: str) -> bool:
    """Runs code and checks in a process of their own, in an empty folder, for a few seconds."""
    if code is None or not checks:
        return False
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sample.txt").write_text(SAMPLE_FILE, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", f"{code}\n\n{checks}"],
                cwd=folder,
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except (subprocess.TimeoutExpired, ValueError):
            return False
    return done.returncode == 0


def same_code(left: str, right: str) -> bool:
    try:
        return ast.dump(ast.parse(left)) == ast.dump(ast.parse(right))
    except SyntaxError:
        return False


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, Any]


CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
XML = re.compile(r"<function=([^>\n]+)>\n(.*?)</function>", re.DOTALL)
XML_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>\n", re.DOTALL)


def calls_something(answer: str) -> bool:
    return "<tool_call>" in answer


def read_call(answer: str, form: str, tools: Sequence[Tool]) -> Call | None:
    """The call, if the whole answer is exactly one valid call."""
    whole = CALL.fullmatch(answer)
    if whole is None:
        return None
    return _read_json(whole.group(1)) if form == "json" else _read_xml(whole.group(1), tools)


def _read_json(text: str) -> Call | None:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or set(value) != {"name", "arguments"}:
        return None
    if not isinstance(value["name"], str) or not isinstance(value["arguments"], dict):
        return None
    return Call(value["name"], value["arguments"])


def _read_xml(text: str, tools: Sequence[Tool]) -> Call | None:
    whole = XML.fullmatch(text)
    if whole is None or XML_PARAMETER.sub("", whole.group(2)):
        return None
    name = whole.group(1)
    kinds = _kinds(name, tools)
    arguments = {
        key: _typed(value, kinds.get(key, "string"))
        for key, value in XML_PARAMETER.findall(whole.group(2))
    }
    return Call(name, arguments)


def _kinds(name: str, tools: Sequence[Tool]) -> dict[str, str]:
    for tool in tools:
        if tool["function"]["name"] == name:
            properties = tool["function"]["parameters"].get("properties", {})
            return {key: value["type"] for key, value in properties.items()}
    return {}


def _typed(text: str, kind: str) -> Any:
    """XML carries text only; the schema says what it stands for."""
    if kind == "string":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
