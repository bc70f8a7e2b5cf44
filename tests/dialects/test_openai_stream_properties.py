"""Whatever a generation says: the stream is the answer, and spliced bytes are what JSON would say."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion as ClientCompletion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ownstudio.catalog import Model
from ownstudio.core.events import (
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    TopLogprob,
    Usage,
    collect,
)
from ownstudio.core.request import ChatPrompt, GenerationRequest, Message, Sampling, TextPrompt
from ownstudio.core.sse import SSEDecoder
from ownstudio.dialects import Call, Dialect, Identity
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.openai_text import OpenAIText

IDENTITY = Identity("3de690bd-ae7f-461d-8eb6-d65b0577e803", 1_761_615_592)
# A name that JSON must escape: splitting around the text must not be led astray by it.
NAME = 'qwen"\\u0000"\0 你好'
MODEL = Model(NAME, "main", 1000, 1000, 4, True, Sampling(), 1)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LOGPROBS = st.floats(min_value=-100, max_value=0)
TOP = st.builds(TopLogprob, TEXTS, st.just((1, 255)), LOGPROBS)
TOPS = st.lists(TOP, max_size=2).map(tuple)
SCORED = st.builds(TokenLogprob, TEXTS, st.just((0, 7)), LOGPROBS, TOPS)
COUNTS = st.integers(0, 10**6)
NAMES = st.text("abc_-0", min_size=1, max_size=8)


@st.composite
def generations(draw: st.DrawFn, choices_max: int = 4) -> list[Event]:
    """The events of one generation: deltas of each choice, then its finish, in any interleaving."""
    runs: list[list[Event]] = []
    for index in range(draw(st.integers(1, choices_max))):
        texts = draw(st.lists(st.tuples(TEXTS, st.lists(SCORED, max_size=2)), max_size=4))
        run: list[Event] = [
            TextDelta(index, text, number + 1, tuple(logprobs))
            for number, (text, logprobs) in enumerate(texts)
        ]
        run.append(Finish(index, draw(st.sampled_from(FinishReason)), len(texts)))
        runs.append(run)
    order = draw(st.permutations([index for index, run in enumerate(runs) for _ in run]))
    mixed = [runs[index].pop(0) for index in order]
    return [*mixed, Done(Usage(draw(COUNTS), draw(COUNTS), draw(COUNTS)))]


@st.composite
def conversations(draw: st.DrawFn) -> list[Event]:
    """The same where choices think before they answer, and call tools after or instead."""
    runs: list[list[Event]] = []
    for index in range(draw(st.integers(1, 3))):
        thoughts, texts = draw(st.lists(TEXTS, max_size=3)), draw(st.lists(TEXTS, max_size=3))
        run: list[Event] = [ReasoningDelta(index, text, 1) for text in thoughts]
        run += [TextDelta(index, text, 2) for text in texts]
        for call in range(draw(st.integers(0, 3))):
            run.append(ToolCallStart(index, call, draw(NAMES), draw(NAMES), 3))
            run += [
                ToolCallDelta(index, call, text, 4) for text in draw(st.lists(TEXTS, max_size=3))
            ]
        run.append(Finish(index, draw(st.sampled_from(FinishReason)), 5))
        runs.append(run)
    order = draw(st.permutations([index for index, run in enumerate(runs) for _ in run]))
    mixed = [runs[index].pop(0) for index in order]
    return [*mixed, Done(Usage(draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(COUNTS)))]


def chat_call(scored: bool, thinks: bool = False) -> Call:
    request = GenerationRequest(
        model=NAME,
        prompt=ChatPrompt((Message("user", "hi"),), enable_thinking=thinks),
        sampling=Sampling(),
        n=4,
        top_logprobs=2 if scored else None,
    )
    return Call(request, MODEL, stream=True, include_usage=True)


def text_call() -> Call:
    request = GenerationRequest(model=NAME, prompt=TextPrompt("def f"), sampling=Sampling())
    return Call(request, MODEL, stream=True, include_usage=True)


def streamed(dialect: Dialect, call: Call, events: list[Event], split: int) -> list[bytes]:
    encoder = dialect.encoder(call, IDENTITY)
    data = encoder.feed(events[:split]) + encoder.feed(events[split:]) + encoder.finish()
    *chunks, last = SSEDecoder().feed(data)
    assert last == b"[DONE]"
    return chunks


def assembled(
    chunks: list[bytes], text_of: Callable[[dict[str, Any]], str]
) -> tuple[list[object], object]:
    """What a client makes of a stream: each choice's text, reason and scores; and the usage."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    scores: dict[int, list[object]] = {}
    usage = None
    for chunk in map(json.loads, chunks):
        assert usage is None, "the usage chunk is the last one"
        usage = chunk["usage"]
        for choice in chunk["choices"]:
            index = choice["index"]
            assert index not in reasons, "a choice went on after its end"
            texts[index] = texts.get(index, "") + text_of(choice)
            if choice["finish_reason"] is not None:
                reasons[index] = choice["finish_reason"]
            if choice["logprobs"] is not None:
                scores.setdefault(index, []).extend(choice["logprobs"]["content"])
    return (
        [(index, texts[index], reasons[index], scores.get(index, [])) for index in sorted(texts)],
        usage,
    )


def whole(body: bytes, text_of: Callable[[dict[str, Any]], str]) -> tuple[list[object], object]:
    answer = json.loads(body)
    return (
        [
            (
                choice["index"],
                text_of(choice),
                choice["finish_reason"],
                choice["logprobs"]["content"] if choice["logprobs"] else [],
            )
            for choice in answer["choices"]
        ],
        answer["usage"],
    )


@given(generations(), st.booleans(), st.integers(0, 8))
def test_a_chat_stream_is_the_answer(events: list[Event], scored: bool, split: int) -> None:
    dialect, call = OpenAIChat(), chat_call(scored)
    answer = dialect.render(collect(events), call, IDENTITY)
    chunks = streamed(dialect, call, events, split)
    assert assembled(chunks, lambda choice: choice["delta"]["content"]) == whole(
        answer, lambda choice: choice["message"]["content"]
    )
    ChatCompletion.model_validate_json(answer, strict=True)
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)


@given(generations(choices_max=1), st.integers(0, 8))
def test_a_text_stream_is_the_answer(events: list[Event], split: int) -> None:
    dialect, call = OpenAIText(), text_call()
    answer = dialect.render(collect(events), call, IDENTITY)
    chunks = streamed(dialect, call, events, split)
    text_of = lambda choice: choice["text"]  # noqa: E731
    assert assembled(chunks, text_of) == whole(answer, text_of)
    if events[-2].reason is not FinishReason.TOOL_CALLS:  # type: ignore[union-attr]
        ClientCompletion.model_validate_json(answer, strict=True)


def merged(choice: dict[str, Any] | None, delta: dict[str, Any]) -> dict[str, Any]:
    """A message after one more delta, put together the way that the vendor's samples do it."""
    message = choice or {"content": "", "reasoning_content": "", "tool_calls": []}
    message["content"] += delta["content"] or ""
    message["reasoning_content"] += delta.get("reasoning_content") or ""
    for fragment in delta.get("tool_calls") or ():
        if fragment["index"] == len(message["tool_calls"]):
            message["tool_calls"].append({"id": "", "name": "", "arguments": ""})
        made = message["tool_calls"][fragment["index"]]
        made["id"] += fragment["id"]
        made["name"] += fragment["function"].get("name") or ""
        made["arguments"] += fragment["function"]["arguments"]
    return message


@given(conversations(), st.booleans(), st.integers(0, 12))
def test_a_stream_of_thoughts_and_calls_is_the_answer(
    events: list[Event], thinks: bool, split: int
) -> None:
    dialect, call = OpenAIChat(), chat_call(scored=False, thinks=thinks)
    body = dialect.render(collect(events), call, IDENTITY)
    ChatCompletion.model_validate_json(body, strict=True)
    answer = json.loads(body)
    messages: dict[int, dict[str, Any]] = {}
    reasons: dict[int, str] = {}
    usage = None
    for chunk in streamed(dialect, call, events, split):
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
        read = json.loads(chunk)
        usage = read["usage"]
        for choice in read["choices"]:
            index = choice["index"]
            messages[index] = merged(messages.get(index), choice["delta"])
            if choice["finish_reason"]:
                reasons[index] = choice["finish_reason"]
    for choice in answer["choices"]:
        whole = choice["message"]
        assert messages[choice["index"]] == {
            "content": whole["content"],
            "reasoning_content": whole.get("reasoning_content", ""),
            "tool_calls": [
                {"id": made["id"], **made["function"]} for made in whole.get("tool_calls", [])
            ],
        }
        assert reasons[choice["index"]] == choice["finish_reason"]
    assert usage == answer["usage"]


@given(TEXTS, st.integers(0, 3))
def test_spliced_chunks_are_what_encoding_a_dict_gives(text: str, choice: int) -> None:
    encoder = OpenAIChat().encoder(chat_call(scored=False), IDENTITY)
    encoder.feed([TextDelta(choice, "x", 1)])
    chunk = {
        "choices": [
            {
                "finish_reason": None,
                "logprobs": None,
                "delta": {"content": text},
                "index": choice,
            }
        ],
        "object": "chat.completion.chunk",
        "usage": None,
        "created": IDENTITY.created,
        "system_fingerprint": None,
        "model": NAME,
        "id": f"chatcmpl-{IDENTITY.request_id}",
    }
    data = encoder.feed([TextDelta(choice, text, 2)])
    if not text:
        assert data == b""
        return
    decoded = json.loads(data.removeprefix(b"data: "))
    assert decoded == chunk
    assert list(decoded) == list(chunk)
    assert list(decoded["choices"][0]) == list(chunk["choices"][0])  # type: ignore[index]
