"""Names, the types of parameters, and values made JSON by them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.core.errors import StudioError
from ownstudio.core.request import Tool
from ownstudio.qwen.json_stream import as_json
from ownstudio.qwen.schema import ALL_TYPES, referred, types_of
from ownstudio.qwen.tools import (
    SCHEMA_CHARS_MAX,
    ToolSet,
    decoded_schema,
    is_function_name,
    json_value,
    template_tool,
)

NUMBER = {"integer", "number"}


@pytest.mark.parametrize("name", ["a", "get_weather", "get-weather-2", "x" * 64])
def test_names(name: str) -> None:
    assert is_function_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "天气", "x" * 65, "a\n", 'a"'])
def test_what_is_no_name(name: str) -> None:
    assert not is_function_name(name)


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": "number"}, NUMBER),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"enum": ["a", 1, None]}, {"string", "integer", "null"}),
        ({"const": 1.5}, {"number"}),
        ({"const": True}, {"boolean"}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"integer", "null"}),
        ({"oneOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}, {"object", "null"}),
        ({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"string"}),
        ({"$ref": "#/$defs/a"}, {"object"}),
        ({"$ref": "#/$defs/loop"}, ALL_TYPES),
        ({"$ref": "https://example.com/a"}, ALL_TYPES),
        ({"items": {}}, {"array"}),
        ({"properties": {}}, {"object"}),
        ({}, ALL_TYPES),
        (True, ALL_TYPES),
        ({"type": "strange"}, ALL_TYPES),
        ({"type": {"a": 1}, "enum": [], "anyOf": {}, "allOf": 5, "$ref": 7}, ALL_TYPES),
        ({"type": "string", "enum": [1]}, ALL_TYPES),
    ],
)
def test_types_of_a_schema(schema: Any, types: Any) -> None:
    root = {"$defs": {"a": {"properties": {}}, "loop": {"$ref": "#/$defs/loop"}}}
    assert types_of(schema, root) == set(types)


def test_types_of_a_schema_that_branches_without_end() -> None:
    root = {"anyOf": [{"$ref": "#"}] * 50, "allOf": [{"$ref": "#"}] * 50}
    assert types_of(root, root) == ALL_TYPES


def test_references() -> None:
    root = {"$defs": {"a/b~c": [{"x": 1}]}, "": 5}
    assert referred(root, "#") is root
    assert referred(root, "#/$defs/a~1b~0c/0/x") == 1
    assert referred(root, "#/%24defs/a~1b~0c/0") == {"x": 1}
    for nowhere in ("", "x", "#/$defs/z", "#/$defs/a~1b~0c/7", "#/$defs/a~1b~0c/-1", 5, "#" * 2000):
        assert referred(root, nowhere) is None


def test_types_of_parameters() -> None:
    schema = {
        "$ref": "#/$defs/arguments",
        "$defs": {
            "arguments": {
                "properties": {"city": {"type": "string"}},
                "additionalProperties": {"type": "integer"},
            }
        },
    }
    tools = ToolSet([Tool("f", parameters=json.dumps(schema)), Tool("broken", parameters="{")])
    assert tools.types("f", "city") == {"string"}
    assert tools.types("f", "other") == {"integer"}
    assert tools.types("broken", "a") == ALL_TYPES
    assert tools.types("unknown", "a") == ALL_TYPES
    assert "f" in tools
    assert len(tools) == 2


def test_schemas_beyond_all_bounds_are_not_decoded() -> None:
    assert decoded_schema('{"a": "' + "x" * SCHEMA_CHARS_MAX + '"}') is None
    assert decoded_schema('{"a":' * 100_000) is None
    assert decoded_schema('{"a":' * 50_000 + "1" + "}" * 50_000) is None


@given(st.text(), st.sets(st.sampled_from(sorted(ALL_TYPES)), min_size=1).map(frozenset))
def test_a_value_is_always_json(text: str, types: frozenset[str]) -> None:
    value = json.loads(json_value(text, types))
    if types == {"string"}:
        assert value == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_json_that_is_right_stays_as_it_is(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert as_json(text) == text
        assert as_json(text + " x") is None


def test_templates_see_the_tool_that_the_client_sent() -> None:
    sent = {"type": "function", "function": {"name": "f", "strict": True}, "required": ["a"]}
    assert template_tool(Tool("f", definition=json.dumps(sent))) == sent
    assert template_tool(Tool("f", "Does it.")) == {
        "type": "function",
        "function": {"name": "f", "description": "Does it.", "parameters": {}},
    }
    with pytest.raises(StudioError, match="not valid JSON"):
        template_tool(Tool("f", definition="{"))
