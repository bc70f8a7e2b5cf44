"""Answers that call tools and think, streamed or whole, in the shapes that the real service was recorded with."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ownstudio.catalog import Model, Thinking
from ownstudio.core.events import (
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    collect,
)
from ownstudio.core.request import Sampling
from ownstudio.core.sse import SSEDecoder
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.openai_chat import OpenAIChat

MODEL = Model(
    name="qwen-plus",
    deployment="main",
    input_max=1000,
    output_max=1000,
    n_max=4,
    completions=False,
    defaults=Sampling(),
    created=1,
    thinking=Thinking("hybrid"),
    thinking_input_max=1000,
    thinking_output_max=1000,
    thinking_budget_max=1000,
)
CALL_ID = "call_0ca7505bb6e44471a40511e5"
ARGUMENTS = '{"location": "Paris"}'
USAGE = Usage(prompt_tokens=494, completion_tokens=193, cached_tokens=0)

CALLING: list[Event] = [
    Started(494),
    ToolCallStart(0, 0, CALL_ID, "get_current_weather", 5),
    ToolCallDelta(0, 0, '{"location": ', 9),
    ToolCallDelta(0, 0, '"Paris"}', 12),
    Finish(0, FinishReason.TOOL_CALLS, 12),
    Done(USAGE),
]
THINKING: list[Event] = [
    ReasoningDelta(0, "2+", 2),
    ReasoningDelta(0, "2", 3),
    TextDelta(0, "4", 6),
    TextDelta(0, ".", 7),
    Finish(0, FinishReason.STOP, 7),
    Done(Usage(10, 7, 0, reasoning_tokens=3)),
]


def call(**fields: object) -> Call:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], **fields}
    resolve: Callable[[str], Model] = {"qwen-plus": MODEL}.__getitem__
    return OpenAIChat().parse(json.dumps(body).encode(), resolve)


def answer(events: list[Event], identity: Identity, **fields: object) -> bytes:
    body = OpenAIChat().render(collect(events), call(**fields), identity)
    ChatCompletion.model_validate_json(body, strict=True)
    return body


def choices(events: list[Event], identity: Identity, **fields: object) -> list[dict[str, Any]]:
    encoder = OpenAIChat().encoder(call(stream=True, **fields), identity)
    data = b"".join(encoder.feed([event]) for event in events) + encoder.finish()
    *chunks, last = SSEDecoder().feed(data)
    assert last == b"[DONE]"
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
    return [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]


def deltas(events: list[Event], identity: Identity, **fields: object) -> list[object]:
    return [choice["delta"] for choice in choices(events, identity, **fields)]


def test_a_call_byte_for_byte(identity: Identity) -> None:
    assert answer(CALLING, identity).decode() == (
        '{"choices":[{"message":{"content":"","role":"assistant","tool_calls":[{"index":0,'
        f'"id":"{CALL_ID}","type":"function","function":{{"name":"get_current_weather",'
        f'"arguments":{json.dumps(ARGUMENTS)}}}}}]}},"finish_reason":"tool_calls","index":0,'
        '"logprobs":null}],"object":"chat.completion","usage":{"prompt_tokens":494,'
        '"completion_tokens":193,"total_tokens":687,"prompt_tokens_details":{"cached_tokens":0}},'
        '"created":1761615592,"system_fingerprint":null,"model":"qwen-plus",'
        '"id":"chatcmpl-3de690bd-ae7f-461d-8eb6-d65b0577e803"}'
    )


def test_a_call_in_a_stream(identity: Identity) -> None:
    written = choices(CALLING, identity)
    assert [choice["delta"] for choice in written] == [
        {"content": "", "role": "assistant"},
        {
            "content": None,
            "tool_calls": [
                {
                    "index": 0,
                    "id": CALL_ID,
                    "type": "function",
                    "function": {"name": "get_current_weather", "arguments": ""},
                }
            ],
        },
        {
            "content": None,
            "tool_calls": [
                {
                    "index": 0,
                    "id": "",
                    "type": "function",
                    "function": {"arguments": '{"location": '},
                }
            ],
        },
        {
            "content": None,
            "tool_calls": [
                {"index": 0, "id": "", "type": "function", "function": {"arguments": '"Paris"}'}}
            ],
        },
        {"content": ""},
    ]
    assert [choice["finish_reason"] for choice in written] == [None] * 4 + ["tool_calls"]


def test_text_before_calls_and_more_than_one_of_them(identity: Identity) -> None:
    events: list[Event] = [
        TextDelta(0, "Let me look.", 3),
        ToolCallStart(0, 0, "call_a", "f", 5),
        ToolCallDelta(0, 0, "{}", 6),
        ToolCallStart(0, 1, "call_b", "g", 8),
        ToolCallDelta(0, 1, "{}", 9),
        Finish(0, FinishReason.TOOL_CALLS, 9),
        Done(USAGE),
    ]
    message = json.loads(answer(events, identity))["choices"][0]["message"]
    assert message["content"] == "Let me look."
    assert [made["index"] for made in message["tool_calls"]] == [0, 1]
    indexes = [
        delta["tool_calls"][0]["index"]
        for delta in deltas(events, identity)
        if isinstance(delta, dict) and "tool_calls" in delta
    ]
    assert indexes == [0, 0, 1, 1]


def test_thoughts_byte_for_byte(identity: Identity) -> None:
    assert answer(THINKING, identity, enable_thinking=True).decode() == (
        '{"choices":[{"message":{"content":"4.","role":"assistant","reasoning_content":"2+2"},'
        '"finish_reason":"stop","index":0,"logprobs":null}],"object":"chat.completion",'
        '"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,'
        '"prompt_tokens_details":{"cached_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":3}},"created":1761615592,'
        '"system_fingerprint":null,"model":"qwen-plus",'
        '"id":"chatcmpl-3de690bd-ae7f-461d-8eb6-d65b0577e803"}'
    )


def test_thoughts_in_a_stream(identity: Identity) -> None:
    assert deltas(THINKING, identity, enable_thinking=True) == [
        {"content": None, "role": "assistant", "reasoning_content": ""},
        {"content": None, "reasoning_content": "2+"},
        {"content": None, "reasoning_content": "2"},
        {"content": "4", "reasoning_content": None},
        {"content": ".", "reasoning_content": None},
        {"content": "", "reasoning_content": None},
    ]


def test_an_answer_that_was_to_have_thoughts_and_has_none(identity: Identity) -> None:
    events = [TextDelta(0, "4", 1), *THINKING[-2:]]
    message = json.loads(answer(events, identity, enable_thinking=True))["choices"][0]["message"]
    assert message == {"content": "4", "role": "assistant", "reasoning_content": ""}


def test_thoughts_that_nobody_asked_for(identity: Identity) -> None:
    assert deltas(THINKING, identity) == [
        {"content": "", "role": "assistant"},
        {"content": None, "reasoning_content": "2+"},
        {"content": None, "reasoning_content": "2"},
        {"content": "4"},
        {"content": "."},
        {"content": ""},
    ]
    message = json.loads(answer(THINKING, identity))["choices"][0]["message"]
    assert message["reasoning_content"] == "2+2"


def test_a_call_after_thoughts(identity: Identity) -> None:
    events = [*THINKING[:2], *CALLING[1:]]
    *_, first, second, third, end = deltas(events, identity, enable_thinking=True)
    for delta in (first, second, third):
        assert isinstance(delta, dict)
        assert (delta["content"], delta["reasoning_content"]) == (None, None)
    assert end == {"content": "", "reasoning_content": None}


@pytest.mark.parametrize("character", ["\u2028", "\u0085", "\r\n", '"', "\0", "你"])
def test_thoughts_and_arguments_stay_on_one_line(character: str, identity: Identity) -> None:
    events: list[Event] = [
        ReasoningDelta(0, character, 1),
        ToolCallStart(0, 0, "call_a", "f", 2),
        ToolCallDelta(0, 0, json.dumps({"a": character}, ensure_ascii=False), 3),
        Finish(0, FinishReason.TOOL_CALLS, 3),
        Done(USAGE),
    ]
    encoder = OpenAIChat().encoder(call(stream=True), identity)
    data = encoder.feed(events) + encoder.finish()
    assert len(data.decode().splitlines()) == 2 * data.count(b"data: ")
    written = choices(events, identity)
    assert written[1]["delta"]["reasoning_content"] == character
    fragment = written[3]["delta"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(fragment) == {"a": character}


def test_held_back_thoughts_open_the_stream_and_say_nothing(identity: Identity) -> None:
    encoder = OpenAIChat().encoder(call(stream=True, enable_thinking=True), identity)
    assert b'"role":"assistant"' in encoder.feed([ReasoningDelta(0, "", 1)])
    assert encoder.feed([ReasoningDelta(0, "", 2)]) == b""
