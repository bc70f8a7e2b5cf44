"""Answers of both endpoints, streamed or whole, down to their bytes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import (
    Done,
    Event,
    Finish,
    FinishReason,
    TextDelta,
    TokenLogprob,
    TopLogprob,
    Usage,
    collect,
)
from ownstudio.core.sse import SSEDecoder
from ownstudio.dialects import Call, Dialect, Identity
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.openai_text import OpenAIText

Resolve = Callable[[str], Model]

USAGE = Usage(prompt_tokens=66, completion_tokens=89, cached_tokens=64)
ANSWER: list[Event] = [
    TextDelta(0, "def", 1),
    TextDelta(0, " find_prime_numbers(n", 5),
    Finish(0, FinishReason.STOP, 89),
    Done(USAGE),
]


def chat_call(resolve: Resolve, **fields: object) -> Call:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], **fields}
    return OpenAIChat().parse(json.dumps(body).encode(), resolve)


def text_call(resolve: Resolve, **fields: object) -> Call:
    body = {"model": "qwen-coder-turbo", "prompt": "def f", **fields}
    return OpenAIText().parse(json.dumps(body).encode(), resolve)


def stream(dialect: Dialect, call: Call, identity: Identity, events: list[Event]) -> bytes:
    encoder = dialect.encoder(call, identity)
    return b"".join(encoder.feed([event]) for event in events) + encoder.finish()


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    *events, last = SSEDecoder().feed(data)
    assert last == b"[DONE]"
    return [json.loads(event) for event in events]


def test_a_chat_stream_byte_for_byte(resolve: Resolve, identity: Identity) -> None:
    call = chat_call(resolve, stream=True, stream_options={"include_usage": True})
    rest = (
        '"created":1761615592,"system_fingerprint":null,"model":"qwen-plus",'
        '"id":"chatcmpl-3de690bd-ae7f-461d-8eb6-d65b0577e803"}\n\n'
    )
    none = ',"object":"chat.completion.chunk","usage":null,' + rest
    assert stream(OpenAIChat(), call, identity, ANSWER).decode() == (
        'data: {"choices":[{"delta":{"content":"","role":"assistant"},"index":0,"logprobs":null,'
        '"finish_reason":null}]' + none + ""
        'data: {"choices":[{"finish_reason":null,"logprobs":null,"delta":{"content":"def"},"index":0}]'
        + none
        + 'data: {"choices":[{"finish_reason":null,"logprobs":null,'
        '"delta":{"content":" find_prime_numbers(n"},"index":0}]' + none + ""
        'data: {"choices":[{"finish_reason":"stop","delta":{"content":""},"index":0,"logprobs":null}]'
        + none
        + 'data: {"choices":[],"object":"chat.completion.chunk","usage":{"prompt_tokens":66,'
        '"completion_tokens":89,"total_tokens":155,"prompt_tokens_details":{"cached_tokens":64}},'
        + rest
        + "data: [DONE]\n\n"
    )


def test_a_chat_answer_byte_for_byte(resolve: Resolve, identity: Identity) -> None:
    answer = OpenAIChat().render(collect(ANSWER), chat_call(resolve), identity)
    assert answer.decode() == (
        '{"choices":[{"message":{"content":"def find_prime_numbers(n","role":"assistant"},'
        '"finish_reason":"stop","index":0,"logprobs":null}],"object":"chat.completion",'
        '"usage":{"prompt_tokens":66,"completion_tokens":89,"total_tokens":155,'
        '"prompt_tokens_details":{"cached_tokens":64}},"created":1761615592,'
        '"system_fingerprint":null,"model":"qwen-plus",'
        '"id":"chatcmpl-3de690bd-ae7f-461d-8eb6-d65b0577e803"}'
    )


def test_usage_of_a_request_that_marks_what_to_cache_as_it_was_recorded(
    resolve: Resolve, identity: Identity
) -> None:
    usage = Usage(2059, 201, 0, 170, cache_creation_tokens=2048, explicit_cache=True)
    events: list[Event] = [*ANSWER[:-1], Done(usage)]
    told = (
        '"usage":{"prompt_tokens":2059,"completion_tokens":201,"total_tokens":2260,'
        '"prompt_tokens_details":{"cached_tokens":0,"text_tokens":2059,"cache_type":"ephemeral",'
        '"cache_creation_input_tokens":2048,"cache_creation":{"ephemeral_5m_input_tokens":2048}},'
        '"completion_tokens_details":{"reasoning_tokens":170}}'
    )
    call = chat_call(resolve, stream=True, stream_options={"include_usage": True})
    assert stream(OpenAIChat(), call, identity, events).decode().count(told) == 1
    answer = OpenAIChat().render(collect(events), chat_call(resolve), identity)
    assert told in answer.decode()


def test_a_text_stream_and_answer_byte_for_byte(resolve: Resolve, identity: Identity) -> None:
    head = '{"id":"cmpl-3de690bd-ae7f-461d-8eb6-d65b0577e803","choices":['
    tail = (
        '],"created":1761615592,"model":"qwen-coder-turbo","system_fingerprint":"",'
        '"object":"text_completion","usage":'
    )
    usage = (
        '{"prompt_tokens":66,"completion_tokens":89,"total_tokens":155,'
        '"prompt_tokens_details":{"cached_tokens":64}}}'
    )
    call = text_call(resolve, stream=True, stream_options={"include_usage": True})
    events: list[Event] = [TextDelta(0, "a", 1), Finish(0, FinishReason.LENGTH, 1), Done(USAGE)]
    assert stream(OpenAIText(), call, identity, events).decode() == (
        f'data: {head}{{"text":"a","finish_reason":null,"index":0,"logprobs":null}}{tail}null}}\n\n'
        f'data: {head}{{"text":"","finish_reason":"length","index":0,"logprobs":null}}{tail}null}}\n\n'
        f"data: {head}{tail}{usage}\n\n"
        "data: [DONE]\n\n"
    )
    assert OpenAIText().render(collect(events), call, identity).decode() == (
        f'{head}{{"text":"a","finish_reason":"length","index":0,"logprobs":null}}{tail}{usage}'
    )


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": False}}])
def test_no_usage_chunk_unless_asked(
    asked: dict[str, object], resolve: Resolve, identity: Identity
) -> None:
    data = stream(OpenAIChat(), chat_call(resolve, stream=True, **asked), identity, ANSWER)
    assert all(chunk["choices"] and chunk["usage"] is None for chunk in chunks_of(data))


def test_choices_open_and_close_on_their_own(resolve: Resolve, identity: Identity) -> None:
    events: list[Event] = [
        TextDelta(1, "b", 1),
        TextDelta(0, "a", 1),
        Finish(1, FinishReason.STOP, 1),
        TextDelta(0, "a", 2),
        Finish(2, FinishReason.STOP, 0),
        Finish(0, FinishReason.LENGTH, 2),
        Done(USAGE),
    ]
    data = stream(OpenAIChat(), chat_call(resolve, stream=True, n=3), identity, events)
    said = [
        (choice["index"], choice["delta"].get("role"), choice["delta"]["content"], reason)
        for chunk in chunks_of(data)
        for choice in chunk["choices"]
        for reason in [choice["finish_reason"]]
    ]
    assert said == [
        (1, "assistant", "", None),
        (1, None, "b", None),
        (0, "assistant", "", None),
        (0, None, "a", None),
        (1, None, "", "stop"),
        (0, None, "a", None),
        (2, "assistant", "", None),
        (2, None, "", "stop"),
        (0, None, "", "length"),
    ]


def test_text_that_is_held_back_sends_nothing(resolve: Resolve, identity: Identity) -> None:
    encoder = OpenAIChat().encoder(chat_call(resolve, stream=True), identity)
    assert b'"role":"assistant"' in encoder.feed([TextDelta(0, "", 1)])
    assert encoder.feed([TextDelta(0, "", 2)]) == b""
    assert encoder.feed([]) == b""


def test_no_stream_ends_well_without_its_usage(resolve: Resolve, identity: Identity) -> None:
    encoder = OpenAIChat().encoder(chat_call(resolve, stream=True), identity)
    encoder.feed(ANSWER[:-1])
    with pytest.raises(ValueError, match="before its generation did"):
        encoder.finish()


@pytest.mark.parametrize(
    ("dialect", "call", "prefix"),
    [(OpenAIChat(), chat_call, "chatcmpl-"), (OpenAIText(), text_call, "cmpl-")],
    ids=["chat", "completions"],
)
def test_a_stream_that_fails_ends_with_its_error(
    dialect: Dialect,
    call: Callable[..., Call],
    prefix: str,
    resolve: Resolve,
    identity: Identity,
) -> None:
    encoder = dialect.encoder(call(resolve, stream=True), identity)
    data = encoder.feed(ANSWER[:1])
    data += encoder.error(StudioError(ErrorKind.ENGINE_FAILED, "one\u2028two", detail="secret"))
    *_, last = SSEDecoder().feed(data)
    assert json.loads(last) == {
        "error": {
            "message": "one\u2028two",
            "type": "internal_server_error",
            "param": None,
            "code": "internal_server_error",
        },
        "id": prefix + identity.request_id,
        "request_id": identity.request_id,
    }
    assert len(data.decode().splitlines()) == 2 * data.count(b"data: ")
    assert b"[DONE]" not in data


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\u0085", "\u2028", "\u2029", "\v", "\x1c", "\0"]
)
def test_an_event_is_one_line_however_it_is_split(
    character: str, resolve: Resolve, identity: Identity
) -> None:
    text = f"你{character}b"
    events: list[Event] = [TextDelta(0, text, 1), Finish(0, FinishReason.STOP, 1), Done(USAGE)]
    data = stream(OpenAIChat(), chat_call(resolve, stream=True), identity, events)
    lines = [line for line in data.decode().splitlines() if line]
    assert json.loads(lines[1].removeprefix("data: "))["choices"][0]["delta"]["content"] == text
    assert len(lines) == 4


def test_impossible_log_probabilities_stay_numbers(resolve: Resolve, identity: Identity) -> None:
    token = TokenLogprob("a", (97,), float("-inf"), (TopLogprob("b", (98,), float("nan")),))
    events: list[Event] = [
        TextDelta(0, "a", 1, (token,)),
        Finish(0, FinishReason.STOP, 1),
        Done(USAGE),
    ]
    call = chat_call(resolve, logprobs=True, top_logprobs=1)
    answer = ChatCompletion.model_validate_json(
        OpenAIChat().render(collect(events), call, identity)
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert logprobs.content[0].logprob == -9999.0
    assert logprobs.content[0].top_logprobs[0].logprob == -9999.0
    assert logprobs.content[0].bytes == [97]
