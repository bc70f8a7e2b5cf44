"""Conversations: what clients send is read, what no model could answer is refused by name."""

import json
import time
from collections.abc import Callable

import pytest

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import Block, ChatPrompt, Message, ToolCall
from ownstudio.dialects import Call
from ownstudio.dialects.openai_chat import OpenAIChat

Resolve = Callable[[str], Model]

USER = {"role": "user", "content": "hi"}
CALLS = [{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def call(resolve: Resolve, messages: object) -> Call:
    body = {"model": "qwen-plus", "messages": messages}
    return OpenAIChat().parse(json.dumps(body).encode(), resolve)


def read(resolve: Resolve, *messages: object) -> tuple[Message, ...]:
    prompt = call(resolve, list(messages)).request.prompt
    assert isinstance(prompt, ChatPrompt)
    assert not prompt.enable_thinking
    return prompt.messages


def refusal(resolve: Resolve, *messages: object) -> StudioError:
    with pytest.raises(StudioError) as caught:
        call(resolve, list(messages))
    return caught.value


def test_a_plain_conversation(resolve: Resolve) -> None:
    assert read(
        resolve,
        {"role": "system", "content": "Be kind."},
        {"content": "Who are you? 你好", "role": "user"},
        {"role": "assistant", "content": "Qwen."},
        {"role": "user", "content": "", "name": "ann"},
    ) == (
        Message("system", "Be kind."),
        Message("user", "Who are you? 你好"),
        Message("assistant", "Qwen."),
        Message("user", "", name="ann"),
    )


def test_developer_is_another_word_for_system(resolve: Resolve) -> None:
    first, _ = read(resolve, {"role": "developer", "content": "x"}, USER)
    assert first == Message("system", "x")


def test_text_parts_are_joined(resolve: Resolve) -> None:
    parts = [{"type": "text", "text": "a\n"}, {"text": "b"}]
    ends = (Block(2), Block(3))
    (read_back,) = read(resolve, {"role": "user", "content": parts})
    assert read_back == Message("user", "a\nb", blocks=ends)


def test_a_single_part_without_a_mark_is_like_plain_text(resolve: Resolve) -> None:
    for part in ({"text": "a"}, {"type": "text", "text": "a", "cache_control": None}):
        assert read(resolve, {"role": "user", "content": [part]}) == (Message("user", "a"),)


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_every_role_may_mark_what_to_cache(resolve: Resolve, role: str) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    message = {
        "role": role,
        "content": [{"text": "a", **mark}, {"text": "你"}, {"text": "", **mark}],
    }
    call = {"role": "assistant", "content": None, "tool_calls": CALLS}
    messages = [USER, call, message] if role == "tool" else [message, USER]
    marked = next(m for m in read(resolve, *messages) if m.blocks)
    assert marked.blocks == (Block(1, marked=True), Block(2), Block(2, marked=True))


def test_a_mark_on_a_message_means_nothing(resolve: Resolve) -> None:
    message = {"role": "user", "content": "a", "cache_control": {"type": "ephemeral"}}
    assert read(resolve, message) == (Message("user", "a"),)


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("ephemeral", "must be Object"),
        (True, "must be Object"),
        ([], "must be Object"),
        ({}, "must be 'ephemeral'"),
        ({"type": "persistent"}, "must be 'ephemeral'"),
        ({"type": ["ephemeral"]}, "must be 'ephemeral'"),
    ],
)
def test_a_mark_of_another_kind_is_refused_by_name(
    resolve: Resolve, control: object, words: str
) -> None:
    parts = [{"text": "a"}, {"text": "b", "cache_control": control}]
    error = refusal(resolve, {"role": "user", "content": parts})
    assert (error.kind, error.param) == (
        ErrorKind.INVALID_PARAMETER,
        "messages[0].content[1].cache_control",
    )
    assert words in error.message


def test_what_else_a_mark_asks_for_is_reported(resolve: Resolve) -> None:
    control = {"type": "ephemeral", "ttl": "1h"}
    message = {"role": "user", "content": [{"text": "a", "cache_control": control}]}
    asked = call(resolve, [message])
    assert asked.ignored == ("messages[].content[].cache_control.ttl",)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "image_url", "image_url": {"url": "http://x"}}, "'image_url'"),
        ({"type": "input_audio", "input_audio": {}}, "'input_audio'"),
        ({"type": "video", "video": []}, "'video'"),
        ({"image": "http://x"}, "'image'"),
        ({"text": "look", "image": "http://x"}, "'image'"),
        ({"type": "x" * 1000}, "'" + "x" * 40 + "'"),
    ],
)
def test_parts_that_are_no_text_are_refused_by_name(
    part: object, named: str, resolve: Resolve
) -> None:
    error = refusal(resolve, {"role": "user", "content": [{"type": "text", "text": "a"}, part]})
    assert error.kind is ErrorKind.INVALID_PARAMETER
    assert error.param == "messages[0].content"
    assert f"type {named} is not supported" in error.message


UNEXPECTED = (
    "The provided messages input is invalid. The error info is [Unexpected item type in content.]"
)
ROLE_RULE = "Role must be in ["


@pytest.mark.parametrize(
    ("message", "param", "said"),
    [
        ("hi", "messages[1]", "Input should be a valid dictionary or instance of GPT3Message"),
        (None, "messages[1]", "Input should be a valid dictionary or instance of GPT3Message"),
        ({"content": "x"}, "messages[1].role", ROLE_RULE),
        ({"role": "function", "content": "x"}, "messages[1].role", ROLE_RULE),
        ({"role": ["user"], "content": "x"}, "messages[1].role", ROLE_RULE),
        ({"role": "user"}, "messages[1].content", "The content field is a required field."),
        (
            {"role": "user", "content": None},
            "messages[1].content",
            "The content field is a required field.",
        ),
        (
            {"role": "user", "content": []},
            "messages[1].content",
            "The content field is a required field.",
        ),
        ({"role": "assistant"}, "messages[1].content", "The content field is a required field."),
        ({"role": "user", "content": 5}, "messages[1].content", "input content must be a string."),
        ({"role": "user", "content": {}}, "messages[1].content", "input content must be a string."),
        ({"role": "user", "content": ["x"]}, "messages[1].content", UNEXPECTED),
        ({"role": "user", "content": [{"type": 5}]}, "messages[1].content", UNEXPECTED),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content", "'text' must be"),
        ({"role": "user", "content": "x", "name": 5}, "messages[1].name", "'name' must be String"),
        (
            {"role": "assistant", "content": "x", "partial": "yes"},
            "messages[1].partial",
            "'partial' must be Boolean",
        ),
        (
            {"role": "assistant", "content": "x", "audio": {"id": "a"}},
            "messages[1].audio",
            "'audio' is not supported",
        ),
        (
            {"role": "assistant", "content": "x", "function_call": {"name": "f"}},
            "messages[1].function_call",
            "'function_call' is not supported",
        ),
    ],
)
def test_a_message_of_the_wrong_shape_is_refused_where_it_stands(
    message: object, param: str, said: str, resolve: Resolve
) -> None:
    error = refusal(resolve, USER, message)
    assert error.kind is ErrorKind.INVALID_PARAMETER
    assert error.param == param
    assert said in error.message


def test_the_list_itself(resolve: Resolve) -> None:
    with pytest.raises(StudioError, match="you must provide a messages parameter") as caught:
        call(resolve, None)
    assert caught.value.kind is ErrorKind.MISSING_PARAMETER
    with pytest.raises(StudioError, match="'messages' must be Array"):
        call(resolve, "hi")
    assert refusal(resolve).message == "[] is too short"
    with pytest.raises(StudioError, match="Range of messages length should be"):
        call(resolve, [USER] * 10_001)


SYSTEM = {"role": "system", "content": "x"}
ANSWER = {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (
            [SYSTEM],
            'The messages list should not contain only one message with role "system". Please '
            "include at least one other role in the messages.",
        ),
        ([ANSWER], "The input messages do not contain elements with the role of user"),
        ([SYSTEM, ANSWER], "The input messages do not contain elements with the role of user"),
        ([USER, SYSTEM], 'The role "system" is only allowed in messages[0].'),
        ([SYSTEM, SYSTEM, USER], 'The role "system" is only allowed in messages[0].'),
        (
            [USER, {"role": "developer", "content": "x"}, USER],
            'The role "system" is only allowed in messages[0].',
        ),
        ([USER, ANSWER], "Role must be in ["),
        ([USER, {**ANSWER, "partial": False}], "Role must be in ["),
        ([USER, {**ANSWER, "partial": None}], "Role must be in ["),
        ([USER, {**ANSWER, "partial": True}, USER], '"partial": true is only allowed'),
        ([{**USER, "partial": True}], '"partial": true is only allowed'),
        (
            [USER, {**ANSWER, "tool_calls": CALLS, "partial": True}],
            'A "partial" message cannot hold "tool_calls".',
        ),
    ],
)
def test_the_order_of_a_conversation(messages: list[object], said: str, resolve: Resolve) -> None:
    error = refusal(resolve, *messages)
    assert (error.kind, error.param) == (ErrorKind.INVALID_PARAMETER, "messages")
    assert error.message.startswith(said)
    assert error.from_engine


def test_the_last_answer_may_be_partial(resolve: Resolve) -> None:
    *_, last = read(resolve, USER, {"role": "assistant", "content": "def f", "partial": True})
    assert last == Message("assistant", "def f", partial=True)


TOOL = {"role": "tool", "content": "ok"}
CALLING = {"role": "assistant", "content": "", "tool_calls": CALLS}


@pytest.mark.parametrize(
    "calling",
    [
        # An answer of the OpenAI client, appended as it is.
        {
            "content": "",
            "role": "assistant",
            "tool_calls": [{**CALLS[0], "index": 0}],
        },
        # The same after `model_dump()`.
        {
            "content": "",
            "refusal": None,
            "role": "assistant",
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [{**CALLS[0], "index": 0}],
        },
        # LangChain.
        {"content": None, "role": "assistant", "tool_calls": CALLS},
        {"role": "assistant", "tool_calls": CALLS},
        # An answer of the multimodal path.
        {"content": [], "role": "assistant", "tool_calls": CALLS},
    ],
)
@pytest.mark.parametrize(
    ("answer", "tool"),
    [
        ({"tool_call_id": "call_0", **TOOL}, Message("tool", "ok", tool_call_id="call_0")),
        # The vendor's sample names the tool and no call.
        ({"name": "f", **TOOL}, Message("tool", "ok", name="f")),
        ({"tool_call_id": None, **TOOL}, Message("tool", "ok")),
    ],
)
def test_calls_of_tools_and_their_answers(
    calling: object, answer: object, tool: Message, resolve: Resolve
) -> None:
    called = Message("assistant", "", tool_calls=(ToolCall("f", "{}", "call_0"),))
    user = Message("user", "hi")
    assert read(resolve, USER, calling, answer) == (user, called, tool)
    assert call(resolve, [USER, calling, answer]).ignored == ()
    assert len(read(resolve, USER, calling, answer, calling, answer, ANSWER, USER)) == 7


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([USER, TOOL], 'messages with role "tool" must be a response to a preceeding message'),
        ([TOOL, USER], 'messages with role "tool" must be a response to a preceeding message'),
        (
            [USER, CALLING, TOOL, ANSWER, TOOL],
            'messages with role "tool" must be a response to a preceeding message',
        ),
        (
            [USER, CALLING, {**TOOL, "tool_call_id": "call_9"}],
            'messages with role "tool" must be a response to a preceeding message',
        ),
        ([USER, CALLING, USER], 'An assistant message with "tool_calls" must be followed by'),
        (
            [USER, {**CALLING, "tool_calls": CALLS * 2}, TOOL],
            'An assistant message with "tool_calls" must be followed by',
        ),
        (
            [USER, {**CALLING, "tool_calls": CALLS * 2}, TOOL, USER],
            'An assistant message with "tool_calls" must be followed by',
        ),
    ],
)
def test_tools_that_nobody_called_and_calls_that_nobody_answered(
    messages: list[object], said: str, resolve: Resolve
) -> None:
    assert refusal(resolve, *messages).message.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "read_as"), [('{"a": 1}', '{"a": 1}'), ("", "{}"), (None, "{}")]
)
def test_arguments_are_a_json_object(arguments: object, read_as: str, resolve: Resolve) -> None:
    function = {"name": "f", "arguments": arguments}
    calling = {**CALLING, "tool_calls": [{"function": function}]}
    called = read(resolve, USER, calling, TOOL)[1]
    assert called.tool_calls == (ToolCall("f", read_as),)


@pytest.mark.parametrize("arguments", ['{"a": ', "[]", "5", "[" * 10_000])
def test_other_arguments_are_refused_in_the_services_words(
    arguments: str, resolve: Resolve
) -> None:
    function = {"name": "f", "arguments": arguments}
    error = refusal(resolve, USER, {**CALLING, "tool_calls": [{"function": function}]}, TOOL)
    assert error.param == "messages[1].tool_calls"
    assert "must be in JSON format" in error.message


@pytest.mark.parametrize(
    "calls",
    [
        5,
        [5],
        [{"type": "function"}],
        [{"function": {"arguments": "{}"}}],
        [{"function": {"name": "f", "arguments": {}}}],
        [{"type": "custom", "function": {"name": "f"}}],
    ],
)
def test_calls_of_the_wrong_shape_are_refused(calls: object, resolve: Resolve) -> None:
    error = refusal(resolve, USER, {**CALLING, "tool_calls": calls}, TOOL)
    assert error.kind is ErrorKind.INVALID_PARAMETER
    assert str(error.param).startswith("messages[1].")


def test_reasoning_is_kept_and_unknown_fields_are_reported(resolve: Resolve) -> None:
    answer = {
        "role": "assistant",
        "content": "4",
        "reasoning_content": "2+2",
        "tool_calls": [],
        "timestamp": 5,
        "mood": None,
    }
    parsed = call(resolve, [USER, answer, {**USER, "timestamp": 6, "tool_calls": None}])
    prompt = parsed.request.prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[1] == Message("assistant", "4", reasoning="2+2")
    assert parsed.ignored == ("messages[].timestamp",)


def test_a_call_without_an_id_takes_any_answer(resolve: Resolve) -> None:
    nameless = [{"function": {"name": "f", "arguments": "{}"}}]
    answer = {**TOOL, "tool_call_id": "call_7"}
    *_, last = read(resolve, USER, {**CALLING, "tool_calls": nameless}, answer)
    assert last.tool_call_id == "call_7"


def test_a_long_tool_history_is_read_in_linear_time(resolve: Resolve) -> None:
    calls = [{"id": f"c{i}", "function": {"name": "f", "arguments": "{}"}} for i in range(4000)]
    tools = [{"role": "tool", "content": "x", "tool_call_id": f"c{i}"} for i in range(4000)]
    start = time.perf_counter()
    read(resolve, USER, {**CALLING, "tool_calls": calls}, *tools)
    assert time.perf_counter() - start < 2
