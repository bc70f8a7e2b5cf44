"""Bodies that real clients were recorded to send, taken whole: openai-python 3.54.0 and langchain-openai 1.7.3."""

from collections.abc import Callable

import pytest

from ownstudio.catalog import Model
from ownstudio.core.request import ChatPrompt, ResponseFormat, ToolCall, ToolChoice
from ownstudio.dialects import Call
from ownstudio.dialects.openai_chat import OpenAIChat

Resolve = Callable[[str], Model]

HI = '"messages":[{"role":"user","content":"Who are you? 你好"}]'
LANGCHAIN_HI = (
    '"messages":[{"content":"You are a helpful assistant.","role":"system"},'
    '{"content":"Who are you? 你好","role":"user"}]'
)
WEATHER = (
    '{"type":"function","function":{"name":"get_current_weather","description":"Weather.",'
    '"parameters":{"type":"object","properties":{"location":{"type":"string"}},'
    '"required":["location"]}}}'
)
TOOLS = f'"tools":[{WEATHER}]'
X_SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
CALL = '{"id":"call_0","function":{"arguments":"{}","name":"f"},"type":"function","index":0}'
USER = '{"role":"user","content":"Who are you? 你好"}'


def read(resolve: Resolve, fields: str) -> Call:
    call = OpenAIChat().parse(f'{{"model":"qwen-plus",{fields}}}'.encode(), resolve)
    assert call.ignored == ()
    return call


def prompt(resolve: Resolve, fields: str) -> ChatPrompt:
    asked = read(resolve, fields).request.prompt
    assert isinstance(asked, ChatPrompt)
    return asked


@pytest.mark.parametrize(
    "fields",
    [
        f'{HI},"parallel_tool_calls":true,"tool_choice":"auto",{TOOLS}',
        f'"stream":true,{HI},"stream_options":{{"include_usage":true}},{TOOLS}',
        f'"stream":false,{LANGCHAIN_HI},{TOOLS}',
        f'"stream":true,{LANGCHAIN_HI},{TOOLS}',
    ],
    ids=["openai", "openai stream", "langchain invoke", "langchain stream"],
)
def test_tools_are_offered(fields: str, resolve: Resolve) -> None:
    asked = prompt(resolve, fields)
    assert [tool.definition for tool in asked.tools] == [WEATHER]
    assert asked.tool_choice == ToolChoice()
    assert asked.parallel_tool_calls == ('"parallel_tool_calls":true' in fields)


@pytest.mark.parametrize(
    "turns",
    [
        f'{{"content":"","role":"assistant","tool_calls":[{CALL}]}},'
        '{"role":"tool","tool_call_id":"call_0","content":"ok"}',
        '{"content":"","refusal":null,"role":"assistant","annotations":null,"audio":null,'
        f'"function_call":null,"tool_calls":[{CALL}]}},'
        '{"role":"tool","name":"get_current_weather","content":"ok"}',
    ],
    ids=["message appended", "model_dump appended"],
)
def test_a_second_turn_of_openai(turns: str, resolve: Resolve) -> None:
    asked = prompt(resolve, f'"messages":[{USER},{turns}],{TOOLS}')
    assert asked.messages[1].tool_calls == (ToolCall("f", "{}", "call_0"),)


def test_a_second_turn_of_langchain(resolve: Resolve) -> None:
    turns = (
        '{"content":null,"role":"assistant","tool_calls":[{"type":"function","id":"call_0",'
        '"function":{"name":"get_current_weather","arguments":"{\\"location\\": \\"Paris\\"}"}}]},'
        '{"content":"ok","role":"tool","tool_call_id":"call_0"}'
    )
    fields = f'"stream":false,"messages":[{{"content":"hi","role":"user"}},{turns}],{TOOLS}'
    (call,) = prompt(resolve, fields).messages[1].tool_calls
    assert call.arguments == '{"location": "Paris"}'


def test_langchains_parameters(resolve: Resolve) -> None:
    request = read(
        resolve,
        '"stream":false,"messages":[{"content":"hi","role":"user"}],"max_completion_tokens":5,'
        '"n":2,"seed":1,"temperature":0.5,"enable_thinking":false,"top_k":3',
    ).request
    assert (request.max_tokens, request.max_completion_tokens, request.n) == (5, None, 2)


def test_langchains_structured_output(resolve: Resolve) -> None:
    hi = '"stream":false,"messages":[{"content":"hi","role":"user"}]'
    request = read(
        resolve,
        hi + ',"response_format":{"type":"json_schema","json_schema":{"name":"X","strict":false,'
        f'"schema":{X_SCHEMA}}}}}',
    ).request
    assert request.response_format == ResponseFormat("json_schema", schema=X_SCHEMA, name="X")
    forced = prompt(
        resolve,
        hi
        + ',"parallel_tool_calls":false,"tool_choice":{"type":"function","function":{"name":"X"}},'
        f'"tools":[{{"type":"function","function":{{"name":"X","parameters":{X_SCHEMA}}}}}]',
    )
    assert forced.tool_choice == ToolChoice("required", "X")
    assert forced.tools[0].parameters == X_SCHEMA


def test_openais_parameters(resolve: Resolve) -> None:
    request = read(
        resolve,
        '"messages":[{"role":"user","content":"Answer in JSON."}],"frequency_penalty":0.1,'
        '"logprobs":true,"max_completion_tokens":64,"max_tokens":64,"presence_penalty":0.5,'
        '"response_format":{"type":"json_object"},"seed":1234,"stop":[[108386,103924]],'
        '"temperature":0.7,"top_logprobs":2,"top_p":0.8,"user":"u","enable_thinking":false,'
        '"top_k":20,"repetition_penalty":1.05',
    ).request
    assert request.response_format == ResponseFormat("json_object")
    assert (request.top_logprobs, request.sampling.seed) == (2, 1234)


def test_a_partial_message(resolve: Resolve) -> None:
    asked = prompt(
        resolve,
        '"messages":[{"role":"user","content":"code"},'
        '{"role":"assistant","content":"def f","partial":true}]',
    )
    assert asked.messages[-1].partial


# The vendor's own sample: one tool takes `{}`, the other has its `required` beside its parameters.
VENDOR_TOOLS = (
    '[{"type":"function","function":{"name":"get_current_time","description":"Useful for when you '
    'want to know the current time.","parameters":{}}},{"type":"function","function":{"name":'
    '"get_current_weather","description":"Useful for querying the weather in a specific city.",'
    '"parameters":{"type":"object","properties":{"location":{"type":"string","description":'
    '"A city or county, such as Beijing, Hangzhou, or Yuhang District."}}},"required":["location"]}}]'
)


def test_the_tools_of_the_vendors_sample(resolve: Resolve) -> None:
    asked = prompt(resolve, f'{HI},"tools":{VENDOR_TOOLS}')
    assert "[" + ",".join(tool.definition for tool in asked.tools) + "]" == VENDOR_TOOLS
    assert asked.tools[0].parameters == "{}"
    assert asked.tools[1].parameters.endswith(',"required":["location"]}')
