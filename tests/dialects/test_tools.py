"""Tools as clients define them: what is read, what is shown to the model, what is refused by name."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ownstudio.catalog import Catalog, Features, Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import ChatPrompt, Tool, ToolChoice
from ownstudio.dialects import Call
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.tools import TOOLS_MAX
from ownstudio.qwen.grammar import TOOLS_MAX as GRAMMAR_TOOLS_MAX

Resolve = Callable[[str], Model]

SCHEMA = {
    "type": "object",
    "properties": {"location": {"type": "string"}},
    "required": ["location"],
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Weather.",
        "parameters": SCHEMA,
    },
}


def function(name: object = "f", **fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, **fields}}


def chat(resolve: Resolve, **fields: object) -> Call:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], **fields}
    return OpenAIChat().parse(json.dumps(body).encode(), resolve)


def prompt(resolve: Resolve, **fields: object) -> ChatPrompt:
    read = chat(resolve, **fields).request.prompt
    assert isinstance(read, ChatPrompt)
    return read


def one(resolve: Resolve, tool: object) -> Tool:
    (read,) = prompt(resolve, tools=[tool]).tools
    return read


def refusal(resolve: Resolve, **fields: object) -> StudioError:
    with pytest.raises(StudioError) as caught:
        chat(resolve, **fields)
    assert caught.value.kind is ErrorKind.INVALID_PARAMETER
    return caught.value


def test_a_definition_is_the_clients_own_in_its_own_order(resolve: Resolve) -> None:
    read = one(resolve, WEATHER)
    assert (read.name, read.description) == ("get_current_weather", "Weather.")
    assert json.loads(read.parameters) == SCHEMA
    assert read.definition == json.dumps(WEATHER, separators=(",", ":"))
    turned: dict[str, Any] = {"function": {"parameters": {"z": 1, "a": 2.0}, "name": "f"}}
    turned |= {"x-vendor": "é", "type": "function"}
    assert one(resolve, turned).definition == (
        '{"function":{"parameters":{"z":1,"a":2.0},"name":"f"},"x-vendor":"é","type":"function"}'
    )


@pytest.mark.parametrize("parameters", [{}, None])
def test_a_function_may_take_nothing(parameters: object, resolve: Resolve) -> None:
    assert one(resolve, function(parameters=parameters)).parameters == "{}"
    assert one(resolve, function()) == Tool(
        name="f", definition='{"type":"function","function":{"name":"f"}}'
    )


def test_what_is_meant_for_the_server_is_not_shown_to_the_model(resolve: Resolve) -> None:
    tool = function(strict=True, description=None, parameters=None)
    tool["cache_control"] = {"type": "ephemeral"}
    assert one(resolve, tool).definition == '{"type":"function","function":{"name":"f"}}'
    untyped = {"function": {"name": "f", "parameters": {"strict": 1}}}
    assert one(resolve, untyped).definition == (
        '{"type":"function","function":{"name":"f","parameters":{"strict":1}}}'
    )


def test_required_beside_parameters_counts_as_if_inside(resolve: Resolve) -> None:
    bare = {"type": "object", "properties": {"location": {"type": "string"}}}
    beside = function(parameters=bare, required=["location", "nothing", 5])
    read = one(resolve, beside)
    assert json.loads(read.parameters) == {**bare, "required": ["location"]}
    assert json.loads(read.definition) == beside
    outside = {**function(parameters=bare), "required": ["location"]}
    assert json.loads(one(resolve, outside).parameters)["required"] == ["location"]
    own = function(parameters={**bare, "required": []}, required=["location"])
    assert json.loads(one(resolve, own).parameters)["required"] == []
    odd = function(parameters=bare, required="location")
    assert json.loads(one(resolve, odd).parameters) == bare


def test_numbers_of_any_size_survive(resolve: Resolve) -> None:
    parameters = b'{"maximum":123456789012345678901234567890,"minimum":-1e300}'
    body = (
        b'{"model":"qwen-plus","messages":[{"role":"user","content":"hi"}],'
        b'"tools":[{"function":{"name":"f","parameters":' + parameters + b"}}]}"
    )
    read = OpenAIChat().parse(body, resolve).request.prompt
    assert isinstance(read, ChatPrompt)
    assert json.loads(read.tools[0].parameters) == json.loads(parameters)


@pytest.mark.parametrize("name", ["a", "a" * 64, "get-weather_2", "0", "search"])
def test_names_that_are_allowed(name: str, resolve: Resolve) -> None:
    assert one(resolve, function(name)).name == name


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a.b", "é", "a\n", None, 5, ["a"]])
def test_other_names_are_refused(name: object, resolve: Resolve) -> None:
    error = refusal(resolve, tools=[WEATHER, function(name)])
    assert error.param == "tools[1].function.name"
    assert "1 to 64 letters, digits" in error.message


def test_names_differ(resolve: Resolve) -> None:
    error = refusal(resolve, tools=[function("a"), function("b"), function("a")])
    assert error.param == "tools[2].function.name"
    assert error.message == "Tool names should differ: 'a' is twice."


@pytest.mark.parametrize(
    ("tools", "param", "said"),
    [
        ({}, "tools", "'tools' must be Array"),
        ("f", "tools", "'tools' must be Array"),
        (["f"], "tools[0]", "'tools[0]' must be Object"),
        ([{"type": "web_search"}], "tools[0].type", "Tools should be of type 'function'."),
        ([{"type": ["function"]}], "tools[0].type", "Tools should be of type 'function'."),
        ([{"type": "function"}], "tools[0].function", "'tools[0].function' must be Object"),
        ([{"name": "f"}], "tools[0].function", "'tools[0].function' must be Object"),
        (
            [function(parameters=[])],
            "tools[0].function.parameters",
            "'tools[0].function.parameters' must be Object",
        ),
        (
            [function(description=5)],
            "tools[0].function.description",
            "'description' must be String",
        ),
    ],
)
def test_tools_of_the_wrong_shape_are_refused_where_they_stand(
    tools: object, param: str, said: str, resolve: Resolve
) -> None:
    error = refusal(resolve, tools=tools)
    assert (error.param, error.message) == (param, said)


def test_tools_are_bounded_in_number_and_size(resolve: Resolve) -> None:
    # A dialect knows nothing of grammars, so each has a number of its own.
    assert TOOLS_MAX == GRAMMAR_TOOLS_MAX == 256
    many = [function(f"f{number}") for number in range(256)]
    assert len(prompt(resolve, tools=many).tools) == 256
    assert refusal(resolve, tools=[*many, function()]).message == (
        "Range of tools length should be [0, 256]"
    )
    error = refusal(resolve, tools=[function(description="x" * 256 * 1024)])
    assert error.param == "tools[0].function"
    assert "should not exceed 262144 bytes" in error.message
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"properties": deep}
    with pytest.raises(StudioError, match="nested deeper than 100 levels"):
        chat(resolve, tools=[function(parameters=deep)])


@pytest.mark.parametrize("tools", [None, []])
def test_no_tools_are_none(tools: object, resolve: Resolve) -> None:
    assert chat(resolve, tools=tools, tool_choice="auto", parallel_tool_calls=True).ignored == ()
    assert prompt(resolve, tools=tools, tool_choice="none").tools == ()


def test_a_model_without_tools_says_so_in_the_services_words(models: list[Model]) -> None:
    plain = msgspec.structs.replace(models[0], features=Features(tools=False))
    error = refusal(Catalog([plain]).resolve, tools=[WEATHER])
    assert (error.param, error.message) == ("tools", "The tool call is not supported.")
    assert error.from_engine
    assert prompt(Catalog([plain]).resolve, tools=[]).tools == ()


NAMED = {"type": "function", "function": {"name": "get_current_weather"}}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (NAMED, ToolChoice("required", "get_current_weather")),
        ({"function": NAMED["function"]}, ToolChoice("required", "get_current_weather")),
    ],
)
def test_tool_choice(value: object, read: ToolChoice, resolve: Resolve) -> None:
    assert prompt(resolve, tools=[WEATHER], tool_choice=value).tool_choice == read


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("any", 'tool_choice is one of the strings that should be ["none", "auto"'),
        ("", 'tool_choice is one of the strings that should be ["none", "auto"'),
        (True, "'tool_choice' must be String or Object"),
        ([], "'tool_choice' must be String or Object"),
        ({}, "A tool_choice object should be"),
        ({"type": "function", "name": "get_current_weather"}, "A tool_choice object should be"),
        ({"type": "auto", "function": {"name": "f"}}, "A tool_choice object should be"),
        ({"type": "function", "function": {"name": 5}}, "A tool_choice object should be"),
        (
            {"type": "function", "function": {"name": "X"}},
            'Invalid value for "tool_choice": no function named "X" was specified in the "tools" '
            "parameter.",
        ),
        (
            {"type": "function", "function": {"name": "X" * 1000}},
            'Invalid value for "tool_choice": no function named "' + "X" * 64 + '" was',
        ),
    ],
)
def test_other_choices_are_refused(value: object, said: str, resolve: Resolve) -> None:
    error = refusal(resolve, tools=[WEATHER], tool_choice=value)
    assert error.param == "tool_choice"
    assert error.message.startswith(said)


def test_a_call_cannot_be_forced_without_tools(resolve: Resolve) -> None:
    assert "needs the 'tools' parameter" in refusal(resolve, tool_choice="required").message
    assert "no function named" in refusal(resolve, tool_choice=NAMED).message


def test_one_call_in_an_answer_unless_asked(resolve: Resolve) -> None:
    assert not prompt(resolve, tools=[WEATHER]).parallel_tool_calls
    assert not prompt(resolve, tools=[WEATHER], parallel_tool_calls=None).parallel_tool_calls
    assert prompt(resolve, tools=[WEATHER], parallel_tool_calls=True).parallel_tool_calls
    error = refusal(resolve, parallel_tool_calls="yes")
    assert error.message == "'parallel_tool_calls' must be Boolean"


def test_one_answer_where_there_are_tools(resolve: Resolve) -> None:
    assert chat(resolve, n=2, tools=[]).request.n == 2
    assert chat(resolve, n=1, tools=[WEATHER]).request.n == 1
    error = refusal(resolve, n=2, tools=[WEATHER])
    assert error.param == "n"
    assert error.message.startswith("Range of n should be [1, 1]")


def test_tools_beside_a_partial_message_and_a_json_format(resolve: Resolve) -> None:
    messages = [
        {"role": "user", "content": "json"},
        {"role": "assistant", "content": "{", "partial": True},
    ]
    read = prompt(
        resolve,
        tools=[WEATHER],
        messages=messages,
        response_format={"type": "json_object"},
    )
    assert read.messages[-1].partial
    assert len(read.tools) == 1


def test_a_model_without_partial_mode_says_so(models: list[Model]) -> None:
    plain = msgspec.structs.replace(models[0], features=Features(partial=False))
    messages = [
        {"role": "user", "content": "code"},
        {"role": "assistant", "content": "def f", "partial": True},
    ]
    error = refusal(Catalog([plain]).resolve, messages=messages)
    assert error.param == "messages"
    assert error.message == "The model qwen-plus does not support partial mode."
