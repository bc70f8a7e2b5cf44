"""No parameter is accepted and ignored, unless a table says why that is harmless."""

import inspect
import json
from collections.abc import Callable

import pytest
from openai.resources.chat.completions import Completions as ChatCompletions
from openai.resources.completions import Completions as TextCompletions

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import ChatPrompt
from ownstudio.dialects import Call
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.openai_parameters import CHAT, TEXT
from ownstudio.dialects.openai_text import OpenAIText
from ownstudio.dialects.parameters import Parameters, ignored_names

Resolve = Callable[[str], Model]

# What the vendor's pages list for chat, with what its own clients send beyond them.
VENDOR_CHAT = {
    "model",
    "messages",
    "top_p",
    "temperature",
    "presence_penalty",
    "n",
    "max_tokens",
    "seed",
    "stream",
    "stop",
    "tools",
    "stream_options",
    "max_completion_tokens",
    "top_k",
    "repetition_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "enable_thinking",
    "thinking_budget",
    "preserve_thinking",
    "enable_search",
    "search_options",
    "enable_code_interpreter",
    "vl_high_resolution_images",
    "modalities",
    "audio",
    "translation_options",
    "asr_options",
    "logit_bias",
    "user",
    "metadata",
    "cache_control",
    "reasoning_effort",
}
VENDOR_TEXT = {
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "stream",
    "stream_options",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "logprobs",
    "suffix",
    "echo",
    "best_of",
    "logit_bias",
    "user",
    "top_k",
    "repetition_penalty",
}

NOT_IN_THE_BODY = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}


def tables(parameters: Parameters) -> list[set[str]]:
    return [set(parameters.supported), set(parameters.harmless), set(parameters.refused)]


def client_parameters(create: Callable[..., object]) -> set[str]:
    return set(inspect.signature(create).parameters) - NOT_IN_THE_BODY


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (CHAT, VENDOR_CHAT),
        (CHAT, client_parameters(ChatCompletions.create)),
        (TEXT, VENDOR_TEXT),
        (TEXT, client_parameters(TextCompletions.create)),
    ],
    ids=["chat, vendor", "chat, client", "completions, vendor", "completions, client"],
)
def test_every_known_parameter_stands_in_exactly_one_table(
    parameters: Parameters, names: set[str]
) -> None:
    for name in sorted(names):
        assert sum(name in table for table in tables(parameters)) == 1, name


@pytest.mark.parametrize("parameters", [CHAT, TEXT], ids=["chat", "completions"])
def test_the_tables_do_not_overlap_and_give_reasons(parameters: Parameters) -> None:
    supported, harmless, refused = tables(parameters)
    assert len(supported | harmless | refused) == len(supported) + len(harmless) + len(refused)
    assert all(parameters.harmless.values())
    assert all(refusal.reason for refusal in parameters.refused.values())


def chat(resolve: Resolve, **fields: object) -> Call:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], **fields}
    return OpenAIChat().parse(json.dumps(body).encode(), resolve)


def complete(resolve: Resolve, **fields: object) -> Call:
    body = {"model": "qwen-coder-turbo", "prompt": "def f", **fields}
    return OpenAIText().parse(json.dumps(body).encode(), resolve)


@pytest.mark.parametrize(
    ("parse", "parameters"), [(chat, CHAT), (complete, TEXT)], ids=["chat", "completions"]
)
def test_what_is_refused_is_named_and_null_or_idle_values_pass(
    parse: Callable[..., Call], parameters: Parameters, resolve: Resolve
) -> None:
    for name, refusal in parameters.refused.items():
        with pytest.raises(StudioError) as caught:
            parse(resolve, **{name: {"something": True}})
        assert caught.value.kind is ErrorKind.INVALID_PARAMETER
        assert caught.value.param == name
        assert name in caught.value.message
        for idle in (None, *refusal.idle):
            assert parse(resolve, **{name: idle}).ignored == ()
    for name in parameters.harmless:
        assert parse(resolve, **{name: {"something": True}}).ignored == ()


@pytest.mark.parametrize(
    "field",
    [
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"modalities": ["text", "audio"]},
        {"logit_bias": {"50256": -100}},
        {"enable_search": True},
        {"reasoning_effort": "high"},
        {"prediction": {"type": "content", "content": "x"}},
    ],
)
def test_features_that_are_not_served_are_refused_by_name(
    field: dict[str, object], resolve: Resolve
) -> None:
    (name,) = field
    with pytest.raises(StudioError, match=f"The parameter '{name}' is not supported: ") as caught:
        chat(resolve, **field)
    assert caught.value.param == name


CODING_TOOL = (
    b'{"model":"qwen-plus","messages":[{"role":"system","content":[{"type":"text","text":"You code.",'
    b'"cache_control":{"type":"ephemeral"}}]},{"role":"user","content":[{"type":"text","text":"hi",'
    b'"cache_control":{"type":"ephemeral"}}]}],"stream":true,"stream_options":{"include_usage":true},'
    b'"max_tokens":8000,"metadata":{"sessionId":"s","promptId":"p","channel":"c"},'
    b'"preserve_thinking":true,"vl_high_resolution_images":true,"enable_thinking":false,'
    b'"tools":[{"type":"function","function":{"name":"read_file","description":"Reads.","parameters":'
    b'{"type":"object","properties":{"path":{"type":"string"}}}},"cache_control":{"type":"ephemeral"}}]}'
)


def test_what_a_coding_tool_sends_is_read_whole(resolve: Resolve) -> None:
    call = OpenAIChat().parse(CODING_TOOL, resolve)
    assert call.ignored == ()
    prompt = call.request.prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.preserve_thinking
    assert [message.content for message in prompt.messages] == ["You code.", "hi"]
    assert "cache_control" not in prompt.tools[0].definition


def test_unknown_fields_are_reported(resolve: Resolve) -> None:
    assert chat(resolve, min_p=0.1, chat_template_kwargs={}).ignored == (
        "min_p",
        "chat_template_kwargs",
    )
    assert chat(resolve, min_p=None).ignored == ()
    assert complete(resolve, messages=[]).ignored == ("messages",)


def test_what_is_reported_fits_a_header() -> None:
    names = ["a\r\nset-cookie: x", "é" * 1000, *(f"f{number}" for number in range(1000)), "f1"]
    shown = ignored_names(names)
    assert shown[:2] == ("a??set-cookie??x", "?" * 64)
    assert len(shown) == 17
    assert shown[-1] == "+986"
