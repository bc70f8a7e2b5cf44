"""OpenAI's own client against the dialects: its requests are read, and it reads the answers.

The client runs whole, but for the socket: its transport hands each request to the dialect.
"""

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest
from openai import APIError, BadRequestError, NotFoundError, OpenAI

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import (
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    collect,
)
from ownstudio.core.request import ChatPrompt, Message, ToolCall
from ownstudio.dialects import Call, Dialect, Identity
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.openai_text import OpenAIText

REQUEST_ID = "3de690bd-ae7f-461d-8eb6-d65b0577e803"
EVENTS: list[Event] = [
    TextDelta(0, "I am\u2028", 2),
    TextDelta(0, " 通义千问。", 5),
    Finish(0, FinishReason.STOP, 5),
    Done(Usage(22, 5, 16)),
]

WEATHER = {
    "type": "function",
    "function": {"name": "get_current_weather", "parameters": {"type": "object"}},
}
CALLING: list[Event] = [
    ReasoningDelta(0, "I need the weather.", 4),
    ToolCallStart(0, 0, "call_0", "get_current_weather", 8),
    ToolCallDelta(0, 0, '{"location": ', 10),
    ToolCallDelta(0, 0, '"Paris"}', 12),
    Finish(0, FinishReason.TOOL_CALLS, 12),
    Done(Usage(22, 12, 0, reasoning_tokens=4)),
]


class Server:
    """Answers every request with the same events, through the dialect of its path."""

    def __init__(self, resolve: Callable[[str], Model]) -> None:
        self.resolve = resolve
        self.calls: list[Call] = []
        self.events = EVENTS
        self.fails_after: int | None = None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        dialect: Dialect = OpenAIChat() if "/chat/" in request.url.path else OpenAIText()
        headers = {"x-request-id": REQUEST_ID, "content-type": "application/json"}
        try:
            call = dialect.parse(request.content, self.resolve)
        except StudioError as error:
            body = dialect.error(error, REQUEST_ID)
            return httpx2.Response(error.status, headers=headers, content=body)
        self.calls.append(call)
        identity = Identity(REQUEST_ID, 1_761_615_592)
        if not call.stream:
            body = dialect.render(collect(self.events), call, identity)
            return httpx2.Response(200, headers=headers, content=body)
        headers["content-type"] = "text/event-stream"
        frames = b"".join(self.frames(dialect, call, identity))
        return httpx2.Response(200, headers=headers, content=frames)

    def frames(self, dialect: Dialect, call: Call, identity: Identity) -> Iterator[bytes]:
        encoder = dialect.encoder(call, identity)
        yield encoder.feed(self.events[: self.fails_after])
        if self.fails_after is None:
            yield encoder.finish()
        else:
            yield encoder.error(StudioError(ErrorKind.ENGINE_FAILED, "boom"))


@pytest.fixture
def server(resolve: Callable[[str], Model]) -> Server:
    return Server(resolve)


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    transport = httpx2.MockTransport(server)
    with (
        httpx2.Client(transport=transport) as http,
        OpenAI(
            api_key="sk-test", base_url="http://studio/compatible-mode/v1", http_client=http
        ) as client,
    ):
        yield client


def test_a_chat_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="qwen-plus",
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Who are you? 你好"},
        ],
    )
    assert answer.choices[0].message.content == "I am\u2028 通义千问。"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id == f"chatcmpl-{REQUEST_ID}"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 27
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 16


def test_a_chat_stream(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="qwen-plus",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *said, usage = chunks
    assert said[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in said)
    assert text == "I am\u2028 通义千问。"
    assert said[-1].choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 5


def test_the_streaming_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="qwen-plus", messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds[-1] == "content.done"
    assert final.choices[0].message.content == "I am\u2028 通义千问。"


def test_an_answer_goes_back_as_history(client: OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": "hi"}]
    )
    message = answer.choices[0].message
    for history in (message, message.model_dump()):
        client.chat.completions.create(
            model="qwen-plus",
            messages=[
                {"role": "user", "content": "hi"},
                history,  # type: ignore[list-item]
                {"role": "user", "content": "and?"},
            ],
        )
        assert server.calls[-1].ignored == ()
        prompt = server.calls[-1].request.prompt
        assert isinstance(prompt, ChatPrompt)
        assert prompt.messages[1].content == "I am\u2028 通义千问。"


@pytest.mark.parametrize("dumped", [False, True], ids=["as it is", "dumped"])
def test_a_round_of_tools(client: OpenAI, server: Server, dumped: bool) -> None:
    messages: list[object] = [{"role": "user", "content": "hi"}]
    server.events = CALLING
    answer = client.chat.completions.create(
        model="qwen-plus",
        messages=messages,  # type: ignore[arg-type]
        tools=[WEATHER],  # type: ignore[list-item]
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content == ""
    assert message.reasoning_content == "I need the weather."  # type: ignore[attr-defined]
    messages.append(message.model_dump() if dumped else message)
    # The vendor's sample names the tool, and no call.
    messages.append({"name": "get_current_weather", "role": "tool", "content": "Sunny."})
    server.events = EVENTS
    client.chat.completions.create(
        model="qwen-plus",
        messages=messages,  # type: ignore[arg-type]
        tools=[WEATHER],  # type: ignore[list-item]
    )
    assert server.calls[-1].ignored == ()
    prompt = server.calls[-1].request.prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[1:] == (
        Message(
            "assistant",
            "",
            reasoning="I need the weather.",
            tool_calls=(ToolCall("get_current_weather", '{"location": "Paris"}', "call_0"),),
        ),
        Message("tool", "Sunny.", name="get_current_weather"),
    )


def test_the_streaming_helper_puts_calls_together(client: OpenAI, server: Server) -> None:
    server.events = CALLING
    with client.chat.completions.stream(
        model="qwen-plus",
        messages=[{"role": "user", "content": "hi"}],
        tools=[WEATHER],  # type: ignore[list-item]
    ) as stream:
        kinds = {event.type for event in stream}
        (made,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert "tool_calls.function.arguments.done" in kinds
    assert (made.id, made.function.name) == ("call_0", "get_current_weather")
    assert made.function.arguments == '{"location": "Paris"}'


def test_extra_body_arrives(client: OpenAI, server: Server) -> None:
    client.chat.completions.create(
        model="qwen-plus",
        messages=[{"role": "user", "content": "hi"}],
        max_completion_tokens=64,
        stop=[[108386, 103924]],  # type: ignore[list-item]
        user="u",
        extra_body={"enable_thinking": False, "top_k": 3, "repetition_penalty": 1.05, "min_p": 0},
    )
    call = server.calls[-1]
    assert call.request.max_tokens == 64
    assert call.request.sampling.top_k == 3
    assert call.request.stop.token_ids == ((108386, 103924),)
    assert call.ignored == ("min_p",)


def test_completions_and_their_stream(client: OpenAI) -> None:
    answer = client.completions.create(model="qwen-coder-turbo", prompt="<|fim_prefix|>a")
    assert answer.choices[0].text == "I am\u2028 通义千问。"
    assert answer.system_fingerprint == ""
    chunks = list(
        client.completions.create(
            model="qwen-coder-turbo",
            prompt="<|fim_prefix|>a",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *said, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in said) == "I am\u2028 通义千问。"
    assert usage.usage is not None
    assert usage.usage.total_tokens == 27


def test_refusals_reach_the_callers_code(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(
            model="qwen-plus", messages=[{"role": "user", "content": "hi"}], max_tokens=9000
        )
    error = refused.value
    assert error.code == "invalid_parameter_error"
    assert error.type == "invalid_request_error"
    assert error.param == "max_tokens"
    assert error.request_id == REQUEST_ID
    assert json.loads(json.dumps(error.body))["message"] == (
        "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]"
    )
    with pytest.raises(NotFoundError) as unknown:
        client.completions.create(model="nope", prompt="a")
    assert unknown.value.code == "model_not_found"


def test_an_error_in_the_middle_of_a_stream_is_raised(client: OpenAI, server: Server) -> None:
    server.fails_after = 1
    stream = client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    said: list[str | None] = []
    with pytest.raises(APIError, match="boom") as raised:
        said.extend(chunk.choices[0].delta.content for chunk in stream)
    assert raised.value.code == "internal_server_error"
