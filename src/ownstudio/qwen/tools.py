"""The functions of one request: their names, what their parameters may be, how templates want to see them.

Rules: a name is one to 64 letters, digits, `_` or `-`. A function whose `parameters` are missing or empty takes none.
A schema is read once, when it is first asked for, and not at all unless the model calls that function.
"""

import re
from collections.abc import Sequence
from enum import Enum
from json.encoder import encode_basestring
from typing import Any

import msgspec

from ownstudio.core.errors import invalid_parameter
from ownstudio.core.request import Tool
from ownstudio.qwen.json_stream import as_json
from ownstudio.qwen.schema import ALL_TYPES, NUMBERS, referred, types_of

NAME_PATTERN = "[A-Za-z0-9_-]{1,64}"
UNWISE_TOOLS = 20  # more than this many cost more input than they help; served all the same
SCHEMA_CHARS_MAX = 1024 * 1024

_NAME = re.compile(NAME_PATTERN)
_WORDS = {"true": "true", "True": "true", "false": "false", "False": "false"}
_NULLS = frozenset({"null", "None"})


class ToolForm(Enum):
    """How a model writes a call inside `<tool_call>`: as JSON (Hermes), or as XML (Qwen3-Coder)."""

    JSON = "json"
    XML = "xml"


def is_function_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class ToolSet:
    """The tools of one request, as the parser of its answers asks for them."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._schemas: dict[str, Any] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __len__(self) -> int:
        return len(self._tools)

    def types(self, name: str, parameter: str) -> frozenset[str]:
        """The JSON types that `parameter` of the function `name` may have: all of them where no schema tells."""
        root = self._schema(name)
        schema = root
        for _ in range(10):
            if type(schema) is not dict or "$ref" not in schema or "properties" in schema:
                break
            schema = referred(root, schema["$ref"])
        if type(schema) is not dict:
            return ALL_TYPES
        properties = schema.get("properties")
        if type(properties) is dict and parameter in properties:
            return types_of(properties[parameter], root)
        return types_of(schema.get("additionalProperties"), root)

    def _schema(self, name: str) -> Any:
        if name not in self._schemas:
            tool = self._tools.get(name)
            self._schemas[name] = decoded_schema(tool.parameters) if tool else None
        return self._schemas[name]


def decoded_schema(text: str) -> Any:
    """A schema's JSON text as values; None where it is too large, too deep, or not JSON."""
    if len(text) > SCHEMA_CHARS_MAX:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def template_tool(tool: Tool) -> dict[str, Any]:
    """The tool as chat templates know it: what the client sent, key for key, or the usual form made of its parts.

    Raises StudioError for texts that are no JSON.
    """
    shown = decoded_schema(tool.definition) if tool.definition else None
    if type(shown) is dict:
        return shown
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = decoded_schema(tool.parameters)
    if tool.definition or function["parameters"] is None:
        raise invalid_parameter(
            "tools", f"The definition of the function {tool.name} is not valid JSON."
        )
    return {"type": "function", "function": function}


def json_string(text: str) -> str:
    """`text` as a JSON string, with its quotes."""
    return encode_basestring(text)


def json_value(text: str, types: frozenset[str]) -> str:
    """The JSON for a parameter written as plain `text` (a string raw, all else as JSON), whose type is one of `types`.

    A text that is nothing that its type allows stays what the model wrote, as JSON if it is, else as a string.
    """
    if types == {"string"}:
        return json_string(text)
    word = text.strip()
    if "null" in types and word in _NULLS:
        return "null"
    if "boolean" in types and word in _WORDS:
        return _WORDS[word]
    value = as_json(word)
    if value is None:
        return json_string(text)
    kind = _KINDS.get(value[0], NUMBERS)
    if types & kind and kind != _STRING:
        return value
    return json_string(text) if "string" in types else value


_STRING = frozenset({"string"})
_KINDS = {
    "{": frozenset({"object"}),
    "[": frozenset({"array"}),
    '"': _STRING,
    "t": frozenset({"boolean"}),
    "f": frozenset({"boolean"}),
    "n": frozenset({"null"}),
}
