"""Who thinks, by the catalogue's own rows: defaults, refusals, and which lengths hold meanwhile."""

import json
from typing import Any

import pytest

from ownstudio.catalog import DeploymentRoutes, Model, Thinking, load_catalog
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import ChatPrompt, GenerationRequest, Sampling
from ownstudio.dialects.openai_chat import OpenAIChat

CATALOG = load_catalog(
    [
        DeploymentRoutes(
            "ownstudio-tiny",
            ("*",),
            context=1_000_000,
            created=1,
            thinking=Thinking("hybrid", defaults=Sampling(temperature=0.6, top_p=0.95)),
        )
    ]
)

# Thinks: never; if asked; unless told not to; the same, in streams only; always; always, in streams only.
CODER, PLUS, PLUS_35 = "qwen3-coder-plus", "qwen-plus", "qwen3.5-plus"
OPEN, ALWAYS, QWQ = "qwen3-8b", "qwen3-30b-a3b-thinking-2507", "qwq-plus"

STREAM_ONLY = "parameter.enable_thinking must be set to false for non-streaming calls"
RESTRICTED = "The value of the enable_thinking parameter is restricted to True."


def ask(model: str, **fields: object) -> GenerationRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "a json poem"}], **fields}
    return OpenAIChat().parse(json.dumps(body).encode(), CATALOG.resolve).request


def thinks(model: str, **fields: object) -> bool:
    prompt = ask(model, **fields).prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt.enable_thinking


def refusal(model: str, **fields: object) -> StudioError:
    with pytest.raises(StudioError) as caught:
        ask(model, **fields)
    assert caught.value.kind is ErrorKind.INVALID_PARAMETER
    return caught.value


@pytest.mark.parametrize(
    ("model", "left_open", "off", "on"),
    [
        (CODER, False, False, None),
        (PLUS, False, False, True),
        (PLUS_35, True, False, True),
        (OPEN, True, False, True),
        (ALWAYS, True, None, True),
        (QWQ, True, None, True),
        ("ownstudio-tiny", False, False, True),
    ],
)
def test_whether_a_model_thinks_in_a_stream(
    model: str, left_open: bool, off: bool | None, on: bool | None
) -> None:
    for asked, expected in ((None, left_open), (False, off), (True, on)):
        if expected is None:
            assert refusal(model, stream=True, enable_thinking=asked).param == "enable_thinking"
        else:
            assert thinks(model, stream=True, enable_thinking=asked) is expected


@pytest.mark.parametrize("model", [PLUS, PLUS_35, ALWAYS, "ownstudio-tiny"])
def test_models_that_think_without_a_stream(model: str) -> None:
    assert thinks(model, enable_thinking=True)


@pytest.mark.parametrize(
    ("model", "fields", "param", "said", "prefixed"),
    [
        (OPEN, {}, "enable_thinking", STREAM_ONLY, False),
        (OPEN, {"enable_thinking": True}, "enable_thinking", STREAM_ONLY, False),
        (
            QWQ,
            {},
            "stream",
            "This model only support stream mode, please enable the stream parameter to access "
            "the model.",
            True,
        ),
        (QWQ, {"enable_thinking": False}, "enable_thinking", RESTRICTED, True),
        (ALWAYS, {"enable_thinking": False}, "enable_thinking", RESTRICTED, True),
        (
            CODER,
            {"enable_thinking": True},
            "enable_thinking",
            "The model qwen3-coder-plus does not support enable_thinking.",
            False,
        ),
        (PLUS, {"enable_thinking": "on"}, "enable_thinking", "must be Boolean", False),
        (PLUS, {"preserve_thinking": 1}, "preserve_thinking", "must be Boolean", False),
    ],
)
def test_refusals_in_the_services_words(
    model: str, fields: dict[str, object], param: str, said: str, prefixed: bool
) -> None:
    error = refusal(model, **fields)
    assert error.param == param
    assert error.message.endswith(said)
    assert error.from_engine is prefixed


def test_a_stream_only_model_that_is_told_not_to_think_needs_no_stream() -> None:
    assert not thinks(OPEN, enable_thinking=False)


@pytest.mark.parametrize("budget", [0, -1, 81_921, 10**400])
def test_a_budget_has_a_range(budget: int) -> None:
    error = refusal(PLUS, enable_thinking=True, thinking_budget=budget)
    assert error.param == "thinking_budget"
    assert error.message == (
        "The thinking_budget parameter must be a positive integer and not greater than 81920"
    )


def test_budgets() -> None:
    assert ask(PLUS, enable_thinking=True).thinking_budget is None
    assert ask(PLUS, enable_thinking=True, thinking_budget=81_920).thinking_budget == 81_920
    assert ask(PLUS, thinking_budget=50).thinking_budget == 50
    assert ask(CODER, thinking_budget=10**9).thinking_budget is None
    assert "must be Integer" in refusal(PLUS, thinking_budget="50").message


def test_while_a_model_thinks_other_defaults_and_lengths_hold() -> None:
    row: Model = CATALOG.resolve(PLUS)
    assert row.thinking.defaults != row.defaults
    assert ask(PLUS).sampling == row.defaults
    assert ask(PLUS, enable_thinking=True).sampling == row.thinking.defaults
    plain, thinking = CATALOG.resolve("qwen3-max"), CATALOG.resolve("qwen3-max-2026-01-23")
    assert plain.output_max != thinking.thinking_output_max
    longest = thinking.thinking_output_max
    asked = ask("qwen3-max-2026-01-23", enable_thinking=True, max_tokens=longest)
    assert asked.max_tokens == longest
    error = refusal("qwen3-max-2026-01-23", enable_thinking=True, max_tokens=longest + 1)
    assert error.message == f"Range of max_tokens should be [1, {longest}]"


@pytest.mark.parametrize(
    ("fields", "off", "on"),
    [
        ({}, (None, None), (None, None)),
        ({"max_tokens": 5}, (5, None), (5, None)),
        ({"max_completion_tokens": 9}, (9, None), (9, 9)),
        ({"max_tokens": 5, "max_completion_tokens": 9}, (5, None), (5, 9)),
        ({"max_tokens": 9, "max_completion_tokens": 5}, (5, None), (5, 5)),
    ],
)
def test_one_limit_is_for_the_answer_and_one_for_the_thoughts_too(
    fields: dict[str, Any], off: tuple[object, object], on: tuple[object, object]
) -> None:
    for thinking, limits in ((False, off), (True, on)):
        request = ask(PLUS, enable_thinking=thinking, **fields)
        assert (request.max_tokens, request.max_completion_tokens) == limits


TOOLS = [{"type": "function", "function": {"name": "f"}}]
PARTIAL = [
    {"role": "user", "content": "a json poem"},
    {"role": "assistant", "content": "Roses", "partial": True},
]
NO_FORCED = (
    "The tool_choice parameter does not support being set to required or object in thinking mode"
)
NO_JSON = "Json mode response is not supported when enable_thinking is true"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice", NO_FORCED),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
            NO_FORCED,
        ),
        ({"response_format": {"type": "json_object"}}, "response_format", NO_JSON),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "X", "schema": {}},
                }
            },
            "response_format",
            NO_JSON,
        ),
        (
            {"messages": PARTIAL},
            "messages",
            "Partial mode is not supported when enable_thinking is true",
        ),
    ],
)
def test_what_fixes_the_beginning_of_an_answer_is_refused_beside_thinking(
    fields: dict[str, Any], param: str, said: str
) -> None:
    for model in (PLUS, "ownstudio-tiny"):
        error = refusal(model, enable_thinking=True, **fields)
        assert (error.param, error.message, error.from_engine) == (param, said, True)
        ask(model, **fields)
    # What is left open is judged by what it comes to.
    assert refusal(PLUS_35, **fields).param == param
    ask(PLUS_35, enable_thinking=False, **fields)


def test_free_choice_of_tools_and_free_text_go_with_thinking() -> None:
    text = {"type": "text"}
    for choice in ("auto", "none"):
        assert thinks(
            PLUS, enable_thinking=True, tools=TOOLS, tool_choice=choice, response_format=text
        )


def test_earlier_thoughts_are_kept_if_asked() -> None:
    for model in (PLUS, CODER):
        prompt = ask(model, preserve_thinking=True).prompt
        assert isinstance(prompt, ChatPrompt)
        assert prompt.preserve_thinking
    assert not thinks(CODER, preserve_thinking=True)
