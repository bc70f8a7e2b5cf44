"""The native answers, to the byte."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ownstudio.catalog import Model, Thinking
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import (
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    TopLogprob,
    Usage,
    collect,
)
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.dashscope import DashScope
from support.native import Json, body, frames, streamed

Resolve = Callable[[str], Model]

STOP = FinishReason.STOP
ID = "3de690bd-ae7f-461d-8eb6-d65b0577e803"

SPEECH: list[Event] = [
    Started(66),
    TextDelta(0, "def", 1),
    TextDelta(0, " find", 5),
    Finish(0, STOP, 5),
    Done(Usage(66, 5)),
]


def call_of(resolve: Resolve, parameters: Json, *, stream: bool = True) -> Call:
    return DashScope(stream=stream).parse(body(parameters), resolve)


def test_an_incremental_stream_to_the_byte(resolve: Resolve, identity: Identity) -> None:
    call = call_of(resolve, {"result_format": "message", "incremental_output": True})
    encoder = DashScope(stream=True).encoder(call, identity)
    assert encoder.feed(SPEECH[:2]) == (
        b"id:1\nevent:result\n:HTTP_STATUS/200\n"
        b'data:{"output":{"choices":[{"message":{"content":"def","role":"assistant"},'
        b'"finish_reason":"null"}]},"usage":{"total_tokens":67,"output_tokens":1,'
        b'"input_tokens":66,"prompt_tokens_details":{"cached_tokens":0}},'
        b'"request_id":"' + ID.encode() + b'"}\n\n'
    )
    assert encoder.feed(SPEECH[2:]) == (
        b"id:2\nevent:result\n:HTTP_STATUS/200\n"
        b'data:{"output":{"choices":[{"message":{"content":" find","role":"assistant"},'
        b'"finish_reason":"null"}]},"usage":{"total_tokens":71,"output_tokens":5,'
        b'"input_tokens":66,"prompt_tokens_details":{"cached_tokens":0}},'
        b'"request_id":"' + ID.encode() + b'"}\n\n'
        b"id:3\nevent:result\n:HTTP_STATUS/200\n"
        b'data:{"output":{"choices":[{"message":{"content":"","role":"assistant"},'
        b'"finish_reason":"stop"}]},"usage":{"total_tokens":71,"output_tokens":5,'
        b'"input_tokens":66,"prompt_tokens_details":{"cached_tokens":0}},'
        b'"request_id":"' + ID.encode() + b'"}\n\n'
    )
    assert encoder.finish() == b""


def test_whole_answers_to_the_byte(resolve: Resolve, identity: Identity) -> None:
    dialect = DashScope()
    completion = collect(SPEECH)
    usage = (
        b'"usage":{"total_tokens":71,"output_tokens":5,"input_tokens":66,'
        b'"prompt_tokens_details":{"cached_tokens":0}},"request_id":"' + ID.encode() + b'"}'
    )
    as_message = call_of(resolve, {"result_format": "message"}, stream=False)
    assert dialect.render(completion, as_message, identity) == (
        b'{"output":{"choices":[{"message":{"content":"def find","role":"assistant"},'
        b'"finish_reason":"stop"}]},' + usage
    )
    as_text = call_of(resolve, {}, stream=False)
    assert dialect.render(completion, as_text, identity) == (
        b'{"output":{"finish_reason":"stop","text":"def find"},' + usage
    )


EXPLICIT: list[Event] = [
    Started(2059, cached_tokens=1200, cache_creation_tokens=848, explicit_cache=True),
    *SPEECH[1:-1],
    Done(Usage(2059, 5, 1200, cache_creation_tokens=848, explicit_cache=True)),
]
DETAILS = {
    "cached_tokens": 1200,
    "text_tokens": 2059,
    "cache_type": "ephemeral",
    "cache_creation_input_tokens": 848,
    "cache_creation": {"ephemeral_5m_input_tokens": 848},
}


def test_every_result_tells_of_what_was_marked_to_cache(
    resolve: Resolve, identity: Identity
) -> None:
    answers = streamed(
        DashScope(stream=True), call_of(resolve, {}), identity, *[[event] for event in EXPLICIT]
    )
    assert len(answers) > 2
    for answer in answers:
        assert list(answer["usage"]["prompt_tokens_details"].items()) == list(DETAILS.items())
    whole = DashScope().render(collect(EXPLICIT), call_of(resolve, {}, stream=False), identity)
    assert json.loads(whole)["usage"] == {
        "total_tokens": 2064,
        "output_tokens": 5,
        "input_tokens": 2059,
        "prompt_tokens_details": DETAILS,
    }


def outputs(answers: list[Json]) -> list[Json]:
    return [answer["output"] for answer in answers]


def test_the_default_is_cumulative_text(resolve: Resolve, identity: Identity) -> None:
    answers = streamed(
        DashScope(stream=True), call_of(resolve, {}), identity, SPEECH[:2], SPEECH[2:3], SPEECH[3:]
    )
    assert outputs(answers) == [
        {"finish_reason": "null", "text": "def"},
        {"finish_reason": "null", "text": "def find"},
        {"finish_reason": "stop", "text": "def find"},
    ]
    assert [answer["usage"]["output_tokens"] for answer in answers] == [1, 5, 5]


def test_one_batch_is_one_snapshot(resolve: Resolve, identity: Identity) -> None:
    batch = SPEECH[:3]
    answers = streamed(DashScope(), call_of(resolve, {}), identity, batch, SPEECH[3:])
    assert [output["text"] for output in outputs(answers)] == ["def find", "def find"]


CALL: list[Event] = [
    Started(20),
    ToolCallStart(0, 0, "call_645b149bbd274e8bb3789aae", "get_weather", 4),
    ToolCallDelta(0, 0, '{"city": ', 7),
    ToolCallDelta(0, 0, '"Paris"}', 9),
    Finish(0, FinishReason.TOOL_CALLS, 9),
    Done(Usage(20, 9)),
]
TOOLS: Json = {
    "result_format": "message",
    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
}


def call_json(arguments: str, name: str | None = "get_weather") -> Json:
    function: Json = {"arguments": arguments}
    if name is not None:
        function["name"] = name
    return {
        "index": 0,
        "id": "call_645b149bbd274e8bb3789aae" if name is not None else "",
        "type": "function",
        "function": function,
    }


def messages(answers: list[Json]) -> list[Json]:
    return [output["choices"][0]["message"] for output in outputs(answers)]


def test_fragments_of_a_call(resolve: Resolve, identity: Identity) -> None:
    """Index, type and an id in each; the name once; the reason stands beside a fragment."""
    call = call_of(resolve, TOOLS | {"incremental_output": True})
    answers = streamed(DashScope(stream=True), call, identity, CALL)
    assert [message["tool_calls"] for message in messages(answers)] == [
        [call_json("")],
        [call_json('{"city": ', None)],
        [call_json('"Paris"}', None)],
        [call_json("", None)],
    ]
    assert all(message["content"] == "" for message in messages(answers))
    assert [output["choices"][0]["finish_reason"] for output in outputs(answers)] == [
        *["null"] * 3,
        "tool_calls",
    ]


def test_a_call_cumulatively(resolve: Resolve, identity: Identity) -> None:
    answers = streamed(
        DashScope(stream=True),
        call_of(resolve, TOOLS),
        identity,
        *[[event] for event in CALL],
    )
    assert [message["tool_calls"] for message in messages(answers)] == [
        [call_json("")],
        [call_json('{"city": ')],
        [call_json('{"city": "Paris"}')],
        [call_json('{"city": "Paris"}')],
    ]


def test_a_whole_call(resolve: Resolve, identity: Identity) -> None:
    body = DashScope().render(collect(CALL), call_of(resolve, TOOLS, stream=False), identity)
    (choice,) = json.loads(body)["output"]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "content": "",
        "role": "assistant",
        "tool_calls": [call_json('{"city": "Paris"}')],
    }


THOUGHT: list[Event] = [
    Started(10, cached_tokens=4),
    ReasoningDelta(0, "Hm", 2),
    ReasoningDelta(0, "m.", 3),
    TextDelta(0, "Yes", 5),
    Finish(0, STOP, 5),
    Done(Usage(10, 5, cached_tokens=4, reasoning_tokens=3)),
]


@pytest.fixture
def thinker(resolve: Resolve) -> Resolve:
    return lambda name: msgspec.structs.replace(
        resolve(name), thinking=Thinking("hybrid", on=True), thinking_output_max=100
    )


@pytest.mark.parametrize(
    ("incremental", "said"),
    [
        (True, [("", "Hm"), ("", "m."), ("Yes", ""), ("", "")]),
        (False, [("", "Hm"), ("", "Hmm."), ("Yes", "Hmm."), ("Yes", "Hmm.")]),
    ],
)
def test_thoughts(
    thinker: Resolve, identity: Identity, incremental: bool, said: list[tuple[str, str]]
) -> None:
    call = call_of(thinker, {"incremental_output": incremental})
    answers = streamed(DashScope(stream=True), call, identity, *[[event] for event in THOUGHT])
    assert [
        (message["content"], message["reasoning_content"]) for message in messages(answers)
    ] == said
    usages = [answer["usage"] for answer in answers]
    assert [usage["output_tokens_details"]["reasoning_tokens"] for usage in usages] == [2, 3, 3, 3]
    assert {usage["prompt_tokens_details"]["cached_tokens"] for usage in usages} == {4}
    whole = json.loads(DashScope().render(collect(THOUGHT), call, identity))
    assert whole["output"]["choices"][0]["message"] == {
        "content": "Yes",
        "reasoning_content": "Hmm.",
        "role": "assistant",
    }
    assert whole["usage"] == usages[-1]


def test_several_choices_have_their_own_usage(resolve: Resolve, identity: Identity) -> None:
    """The SDK adds the choices' output up, and takes the prompt from any of them."""
    call = call_of(resolve, {"result_format": "message", "n": 2, "incremental_output": True})
    events: list[Event] = [
        Started(22),
        TextDelta(0, "a", 1),
        TextDelta(1, "b", 1),
        TextDelta(1, "B", 3),
        Finish(1, STOP, 3),
        TextDelta(0, "A", 2),
        Finish(0, FinishReason.LENGTH, 2),
        Done(Usage(22, 5)),
    ]
    answers = streamed(DashScope(stream=True), call, identity, *[[event] for event in events])
    told = [
        (
            choice["index"],
            choice["message"]["content"],
            choice["finish_reason"],
            answer["usage"]["output_tokens"],
        )
        for answer in answers
        for choice in answer["output"]["choices"]
    ]
    assert told == [
        (0, "a", "null", 1),
        (1, "b", "null", 1),
        (1, "B", "null", 3),
        (1, "", "stop", 3),
        (0, "A", "null", 2),
        (0, "", "length", 2),
    ]
    whole = json.loads(DashScope().render(collect(events), call, identity))
    assert whole["usage"]["output_tokens"] == 5
    assert [choice["index"] for choice in whole["output"]["choices"]] == [0, 1]


def test_the_multimodal_path_answers_with_lists(resolve: Resolve, identity: Identity) -> None:
    dialect = DashScope(stream=True, list_content=True)
    call = dialect.parse(body({"incremental_output": True}), resolve)
    assert [
        message["content"] for message in messages(streamed(dialect, call, identity, SPEECH))
    ] == [
        [{"text": "def"}],
        [{"text": " find"}],
        [],
    ]
    whole = json.loads(dialect.render(collect(SPEECH), call, identity))
    assert whole["output"]["choices"][0]["message"]["content"] == [{"text": "def find"}]


def test_scores(resolve: Resolve, identity: Identity) -> None:
    score = TokenLogprob("def", (100, 101, 102), float("-inf"))
    call = call_of(
        resolve, {"result_format": "message", "logprobs": True, "incremental_output": True}
    )
    events: list[Event] = [
        Started(3),
        TextDelta(0, "def", 1, (score,)),
        Finish(0, STOP, 1),
        Done(Usage(3, 1)),
    ]
    first, last = outputs(streamed(DashScope(stream=True), call, identity, events))
    scored = {"token": "def", "bytes": [100, 101, 102], "logprob": -9999.0, "top_logprobs": []}
    assert first["choices"][0]["logprobs"] == {"content": [scored]}
    assert "logprobs" not in last["choices"][0]


def test_a_failure_in_mid_stream_to_the_byte(resolve: Resolve, identity: Identity) -> None:
    encoder = DashScope(stream=True).encoder(call_of(resolve, {}), identity)
    encoder.feed(SPEECH[:2])
    error = StudioError(ErrorKind.ENGINE_FAILED, "Inference internal error.")
    assert encoder.error(error) == (
        b"id:2\nevent:error\n:HTTP_STATUS/500\n"
        b'data:{"code":"InternalError.Algo","message":"Inference internal error.",'
        b'"request_id":"' + ID.encode() + b'"}\n\n'
    )
    with pytest.raises(ValueError, match="ended before"):
        encoder.finish()


def test_no_line_end_hides_in_the_data(resolve: Resolve, identity: Identity) -> None:
    """Python's readers split decoded text, and their line ends are many."""
    call = call_of(resolve, {"incremental_output": True})
    encoder = DashScope(stream=True).encoder(call, identity)
    odd = "a\u2028b\u2029c\u0085d\r\n\x0b\x0c\x1c\x1d\x1ee"
    data = encoder.feed([Started(1), TextDelta(0, odd, 1)])
    assert len(data.decode().splitlines()) == 5
    assert frames(data)[0][3]["output"]["text"] == odd


def test_a_long_cumulative_stream_stays_within_bounds(resolve: Resolve, identity: Identity) -> None:
    """Repeating everything at each token would cost the square of the length."""
    encoder = DashScope(stream=True).encoder(call_of(resolve, {}), identity)
    pieces = 20_000
    sent = len(encoder.feed([Started(1)]))
    snapshots = 0
    for number in range(pieces):
        data = encoder.feed([TextDelta(0, "word ", number + 1)])
        sent += len(data)
        snapshots += bool(data)
    assert sent < 400 * 5 * pieces
    assert snapshots > 256
    data = encoder.feed([Finish(0, STOP, pieces), Done(Usage(1, pieces))])
    (frame,) = frames(data)
    assert frame[3]["output"] == {"finish_reason": "stop", "text": "word " * pieces}


@pytest.mark.parametrize("rivals", [0, 5])
def test_so_does_one_with_scores(resolve: Resolve, identity: Identity, rivals: int) -> None:
    """Scores are most of what a snapshot holds, so they say when there is enough for another."""
    asked = {"result_format": "message", "logprobs": True, "top_logprobs": rivals}
    call = call_of(resolve, asked)
    encoder = DashScope(stream=True).encoder(call, identity)
    top = tuple(TopLogprob(" no", (32, 110, 111), -1.25) for _ in range(rivals))
    score = TokenLogprob("word ", (119, 111, 114, 100, 32), -0.125, top)
    pieces = 1_000
    events: list[Event] = [
        Started(1),
        *[TextDelta(0, "word ", number + 1, (score,)) for number in range(pieces)],
        Finish(0, STOP, pieces),
        Done(Usage(1, pieces)),
    ]
    told = [encoder.feed([event]) for event in events]
    answer = len(DashScope().render(collect(events), call, identity))
    assert sum(map(len, told)) < 12 * answer
    assert sum(map(bool, told)) > 30
    scored = [
        (len(choice["message"]["content"]) // 5, len(choice["logprobs"]["content"]))
        for *_, data in frames(b"".join(told))
        for choice in data["output"]["choices"]
    ]
    assert all(words == scores for words, scores in scored)
    assert scored[-1] == (pieces, pieces)


def keys_with_null(value: Any) -> bool:
    match value:
        case dict():
            return any(item is None or keys_with_null(item) for item in value.values())
        case list():
            return any(keys_with_null(item) for item in value)
    return False


def test_the_java_parser_finds_what_it_needs(resolve: Resolve, identity: Identity) -> None:
    """Its adapter wants a `type` on every call, a `request_id` that is text, and no nulls at all."""
    for incremental in (True, False):
        call = call_of(resolve, TOOLS | {"incremental_output": incremental})
        for answer in streamed(
            DashScope(stream=True), call, identity, *[[event] for event in CALL]
        ):
            assert not keys_with_null(answer)
            assert type(answer["request_id"]) is str
            (message,) = messages([answer])
            for made in message["tool_calls"]:
                assert made["type"] == "function"
                assert type(made["index"]) is int
                assert type(made["id"]) is str
                assert type(made["function"]["arguments"]) is str
    refused = json.loads(DashScope().error(StudioError(ErrorKind.INTERNAL, "x"), ID))
    assert set(refused) == {"code", "message", "request_id"}
    assert not keys_with_null(refused)
