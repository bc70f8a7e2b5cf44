"""What a native body asks for: its forms of input, its parameters, and what is refused in which words."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ownstudio.catalog import Model, NativeDefaults, Thinking
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import Block, ChatPrompt, Message, Sampling, Stop
from ownstudio.dialects import Call
from ownstudio.dialects.dashscope import DashScope
from ownstudio.dialects.dashscope_errors import error_code, error_message
from ownstudio.dialects.dashscope_parameters import PARAMETERS
from support.native import HI, body

Resolve = Callable[[str], Model]


def parse(resolve: Resolve, data: bytes, *, stream: bool = False) -> Call:
    return DashScope(stream=stream).parse(data, resolve)


def refusal(resolve: Resolve, data: bytes, *, stream: bool = False) -> StudioError:
    with pytest.raises(StudioError) as caught:
        parse(resolve, data, stream=stream)
    return caught.value


def changed(resolve: Resolve, **fields: Any) -> Resolve:
    """The same catalogue, each model with these fields."""
    return lambda name: msgspec.structs.replace(resolve(name), **fields)


def messages_of(call: Call) -> tuple[Message, ...]:
    assert isinstance(call.request.prompt, ChatPrompt)
    return call.request.prompt.messages


@pytest.mark.parametrize("parameters", [None, {}])
def test_the_least_that_can_be_asked(resolve: Resolve, parameters: Any) -> None:
    call = parse(resolve, body(parameters))
    assert messages_of(call) == (Message("user", "hi"),)
    assert call.request.sampling == resolve("qwen-plus").defaults
    assert (call.request.n, call.request.max_tokens, call.request.stop) == (1, None, Stop())
    assert (call.result_format, call.incremental, call.stream) == ("text", False, False)
    assert call.ignored == ()


def test_a_prompt_is_a_user_message(resolve: Resolve) -> None:
    assert messages_of(parse(resolve, body(prompt="hi"))) == (Message("user", "hi"),)


def test_history_comes_before_the_prompt(resolve: Resolve) -> None:
    data = body(history=[{"user": "a", "bot": "b"}, {"user": "c", "bot": "d"}], prompt="e")
    said = [(message.role, message.content) for message in messages_of(parse(resolve, data))]
    assert said == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
        ("user", "e"),
    ]


def test_a_prompt_beside_messages_is_one_more(resolve: Resolve) -> None:
    data = body(messages=[*HI, {"role": "assistant", "content": "x"}], prompt="more")
    assert messages_of(parse(resolve, data))[-1] == Message("user", "more")


def test_list_content_is_joined(resolve: Resolve) -> None:
    parts = [{"text": "a"}, {"text": "b", "cache_control": {"type": "ephemeral"}}]
    data = body(messages=[{"role": "user", "content": parts}])
    blocks = (Block(1), Block(2, marked=True))
    assert messages_of(parse(resolve, data)) == (Message("user", "ab", blocks=blocks),)


def test_all_parameters(resolve: Resolve) -> None:
    call = parse(
        resolve,
        body(
            {
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 10,
                "max_tokens": 64,
                "seed": 2**63 - 1,
                "stop": ["x", "y"],
                "repetition_penalty": 1.05,
                "presence_penalty": 0.5,
                "result_format": "message",
                "enable_thinking": False,
                "thinking_budget": 10,
                "logprobs": True,
                "top_logprobs": 2,
                "n": 3,
            }
        ),
    )
    request = call.request
    assert request.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=10,
        repetition_penalty=1.05,
        presence_penalty=0.5,
        seed=2**63 - 1,
    )
    assert request.max_tokens == 64
    assert request.stop == Stop(texts=("x", "y"))
    assert (request.n, request.top_logprobs) == (3, 2)
    assert call.result_format == "message"


TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather.", "parameters": {}},
}


def test_tools_are_read_and_force_one_choice(resolve: Resolve) -> None:
    call = parse(resolve, body({"result_format": "message", "tools": [TOOL], "n": 3}))
    assert isinstance(call.request.prompt, ChatPrompt)
    (tool,) = call.request.prompt.tools
    assert tool.name == "get_weather"
    assert call.request.n == 1
    assert call.request.prompt.parallel_tool_calls is False


def test_several_choices_beside_tools_are_one_for_every_model(resolve: Resolve) -> None:
    single = changed(resolve, n_max=1)
    asked = {"result_format": "message", "tools": [TOOL]}
    assert parse(single, body(asked | {"n": 4})).request.n == 1
    assert refusal(single, body(asked | {"n": 5})).message == "Range of n should be [1, 4]"
    assert refusal(single, body(asked | {"n": 0})).message == "Range of n should be [1, 4]"
    assert refusal(single, body(asked | {"n": "2"})).message == "'n' must be Integer"
    for tools in (None, []):
        assert refusal(single, body(asked | {"tools": tools, "n": 2})).param == "n"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"tools": [TOOL]}, "tools are given"),
        ({"n": 2}, "n is greater than 1"),
        ({"logprobs": True}, "logprobs is true"),
    ],
)
def test_what_text_cannot_hold_needs_the_message_form(
    resolve: Resolve, parameters: Any, reason: str
) -> None:
    error = refusal(resolve, body(parameters))
    assert error.message == f'The result_format parameter must be "message" when {reason}'
    assert parse(resolve, body({**parameters, "result_format": "message"})).request


def test_thinking_needs_the_message_form_where_it_is_asked_for(resolve: Resolve) -> None:
    hybrid = changed(
        resolve,
        thinking=Thinking("hybrid"),
        thinking_output_max=100,
        thinking_budget_max=50,
    )
    error = refusal(hybrid, body({"enable_thinking": True}), stream=True)
    assert error.message == (
        'The result_format parameter must be "message" when enable_thinking is true'
    )
    asked = {"enable_thinking": True, "result_format": "message", "thinking_budget": 50}
    call = parse(hybrid, body(asked), stream=True)
    assert isinstance(call.request.prompt, ChatPrompt)
    assert call.request.prompt.enable_thinking
    assert call.request.thinking_budget == 50
    assert refusal(hybrid, body(asked | {"thinking_budget": 51})).param == "thinking_budget"


def test_a_model_that_thinks_by_itself_answers_in_the_message_form(resolve: Resolve) -> None:
    thinker = changed(resolve, thinking=Thinking("hybrid", on=True), thinking_output_max=100)
    assert parse(thinker, body()).result_format == "message"
    assert parse(thinker, body({"enable_thinking": False})).result_format == "text"


@pytest.mark.parametrize(
    ("native", "asked", "form", "incremental"),
    [
        (NativeDefaults(), {}, "text", False),
        (NativeDefaults(), {"result_format": "message"}, "message", False),
        (NativeDefaults(), {"incremental_output": True}, "text", True),
        (NativeDefaults("message", True, message_only=True), {}, "message", True),
        (
            NativeDefaults("message", True, message_only=True),
            {"result_format": "text", "incremental_output": False},
            "message",
            False,
        ),
        (NativeDefaults("message", False), {"result_format": "text"}, "text", False),
        (NativeDefaults("message", False), {"result_format": None}, "message", False),
    ],
)
def test_defaults_are_the_models(
    resolve: Resolve, native: NativeDefaults, asked: Any, form: str, incremental: bool
) -> None:
    call = parse(changed(resolve, native=native), body(asked), stream=True)
    assert (call.result_format, call.incremental) == (form, incremental)


def test_a_model_that_streams_only_what_is_new_says_so(resolve: Resolve) -> None:
    model = changed(resolve, native=NativeDefaults("message", True, True, True))
    error = refusal(model, body({"incremental_output": False}), stream=True)
    assert error.message == (
        "The incremental_output parameter of this model cannot be set to False."
    )
    # It says nothing of an answer that is not streamed.
    assert parse(model, body({"incremental_output": False}))


def test_what_clients_leak_and_what_nobody_knows(resolve: Resolve) -> None:
    fields = json.loads(body({"stream": True, "temprature": 1, "vl_high_resolution_images": True}))
    fields |= {"tools": [TOOL], "task": "text-generation"}
    fields["input"]["extra"] = 1
    call = parse(resolve, json.dumps(fields).encode())
    assert call.stream is False
    assert call.ignored == ("tools", "input.extra", "parameters.temprature")


def test_the_tables_hold_what_they_promise(resolve: Resolve) -> None:
    """What is harmless passes unmentioned, what is refused is named, what is idle passes."""
    for name in PARAMETERS.harmless:
        assert parse(resolve, body({name: "anything"})).ignored == (), name
    for name, refusal in PARAMETERS.refused.items():
        error = refusal_of(resolve, name, object_or_text(name))
        assert (error.param, name in error.message) == (name, True)
        for idle in (None, *refusal.idle):
            assert parse(resolve, body({name: idle})).ignored == ()


def refusal_of(resolve: Resolve, name: str, value: Any) -> StudioError:
    return refusal(resolve, body({name: value}))


def object_or_text(name: str) -> Any:
    """A value that asks for something."""
    return True if name.startswith("enable") else {"a": 1}


WRONG: dict[str, Any] = {
    "result_format": 1,
    "incremental_output": "yes",
    "max_tokens": 0,
    "max_completion_tokens": "many",
    "temperature": -1,
    "top_p": 2,
    "top_k": -1,
    "repetition_penalty": 0,
    "presence_penalty": 3,
    "frequency_penalty": -3,
    "seed": -1,
    "stop": 1,
    "n": 0,
    "tools": {},
    "tool_choice": "maybe",
    "parallel_tool_calls": "no",
    "enable_thinking": "no",
    "thinking_budget": 0,
    "preserve_thinking": 1,
    "logprobs": "all",
    "top_logprobs": 6,
    "response_format": "xml",
}


def test_every_served_parameter_is_read(resolve: Resolve) -> None:
    thinker = changed(
        resolve, thinking=Thinking("hybrid"), thinking_output_max=9, thinking_budget_max=9
    )
    assert set(WRONG) == set(PARAMETERS.supported)
    for name, value in WRONG.items():
        assert refusal_of(thinker, name, value).param == name
        assert parse(resolve, body({name: None})).ignored == ()


PREFIX = "<400> InternalError.Algo.InvalidParameter: "


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"{", "InvalidParameter", "Required body invalid, please check the request body format."),
        (b"{}", "BadRequest.EmptyModel", 'Required parameter "model" missing from request.'),
        (
            b'{"model":"qwen-plus"}',
            "BadRequest.EmptyInput",
            "Required input parameter missing from request.",
        ),
        (
            b'{"model":"qwen-plus","input":"hi"}',
            "BadRequest.IllegalInput",
            "The input parameter requires json format.",
        ),
        (
            body({"enable_thinking": True}),
            "InvalidParameter.NotSupportEnableThinking",
            "The model qwen-plus does not support enable_thinking.",
        ),
        (
            body({"enable_thinking": "yes"}),
            "InvalidParameter",
            "'enable_thinking' must be Boolean",
        ),
        (
            body(messages=None),
            "InvalidParameter",
            'Either "prompt" or "messages" must exist and cannot both be none',
        ),
        (body(messages=[]), "InvalidParameter", "[] is too short"),
        (body(model="gpt-9"), "InvalidParameter", "Model not exist."),
        (
            body(messages=[{"role": "tool", "content": "x"}, *HI]),
            "InvalidParameter",
            PREFIX + 'messages with role "tool" must be a response to a preceeding message with',
        ),
        (
            body(messages=[{"role": "user", "content": [{"image": "x"}]}]),
            "InvalidParameter",
            "Content of type 'image' is not supported: only text is.",
        ),
        (body({"temperature": 2}), "InvalidParameter", PREFIX + "Temperature should be in"),
        (body({"temperature": "hot"}), "InvalidParameter", "'temperature' must be Float"),
        (body({"top_p": 0}), "InvalidParameter", PREFIX + "Range of top_p should be (0.0, 1.0]"),
        (body({"n": 5}), "InvalidParameter", PREFIX + "Range of n should be [1, 4]"),
        (body({"max_tokens": 9000}), "InvalidParameter", PREFIX + "Range of max_tokens should be"),
        (
            body({"seed": 2**63}),
            "InvalidParameter",
            PREFIX + "Range of seed should be [0, 9223372036854775807]",
        ),
        (body({"stop": ["a", 1]}), "InvalidParameter", 'The "stop" parameter must be of type'),
        (
            body({"result_format": "xml"}),
            "InvalidParameter",
            'The result_format parameter must be one of ["text", "message"]',
        ),
        (body({"enable_search": True}), "InvalidParameter", "The parameter 'enable_search' is not"),
        (body(history=[{"bot": "x"}], prompt="a"), "InvalidParameter", "Field required"),
    ],
)
def test_refusals_in_the_services_own_words(
    resolve: Resolve, data: bytes, code: str, message: str
) -> None:
    error = refusal(resolve, data)
    assert error_code(error) == code
    assert error_message(error).startswith(message)


def test_an_unknown_model_is_404(resolve: Resolve) -> None:
    error = refusal(resolve, body(model="gpt-9"))
    assert (error.kind, error.status) == (ErrorKind.MODEL_NOT_FOUND, 404)
