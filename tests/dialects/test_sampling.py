"""Ranges, types and defaults of the parameters that both OpenAI endpoints share."""

import json
from collections.abc import Callable

import pytest

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import GenerationRequest, Sampling, Stop
from ownstudio.dialects import Call
from ownstudio.dialects.openai_chat import OpenAIChat

Resolve = Callable[[str], Model]

STOP_TYPES = (
    'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
    "and all elements within the list must be of the same type."
)


def call(resolve: Resolve, **fields: object) -> Call:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], **fields}
    return OpenAIChat().parse(json.dumps(body).encode(), resolve)


def ask(resolve: Resolve, **fields: object) -> GenerationRequest:
    return call(resolve, **fields).request


def refusal(resolve: Resolve, **fields: object) -> StudioError:
    with pytest.raises(StudioError) as caught:
        call(resolve, **fields)
    assert caught.value.kind is ErrorKind.INVALID_PARAMETER
    return caught.value


def test_what_is_absent_is_the_models_default(resolve: Resolve) -> None:
    defaults = Sampling(temperature=0.7, top_p=0.8, top_k=20, presence_penalty=1.5)
    request = ask(resolve)
    assert request.sampling == defaults
    assert (request.max_tokens, request.n, request.stop) == (None, 1, Stop())
    assert request.top_logprobs is None
    nulls = {
        "temperature": None,
        "top_p": None,
        "repetition_penalty": None,
        "presence_penalty": None,
        "frequency_penalty": None,
        "seed": None,
        "max_tokens": None,
        "max_completion_tokens": None,
        "n": None,
        "stop": None,
        "stream": None,
        "stream_options": None,
        "logprobs": None,
        "top_logprobs": None,
    }
    assert ask(resolve, **nulls) == request


def test_every_value_reaches_the_request(resolve: Resolve) -> None:
    request = ask(
        resolve,
        temperature=1,
        top_p=0.5,
        top_k=7,
        repetition_penalty=1.05,
        presence_penalty=-2,
        frequency_penalty=2.0,
        seed=2**64 - 1,
        max_tokens=8192,
        n=4,
        logprobs=True,
        top_logprobs=5,
    )
    assert request.sampling == Sampling(1.0, 0.5, 7, 1.05, -2.0, 2.0, 2**64 - 1)
    assert type(request.sampling.temperature) is float
    assert (request.max_tokens, request.n, request.top_logprobs) == (8192, 4, 5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -0.01, "Temperature should be in [0.0, 2.0)"),
        ("temperature", 2, "Temperature should be in [0.0, 2.0)"),
        ("temperature", 10**400, "Temperature should be in [0.0, 2.0)"),
        ("top_p", 0, "Range of top_p should be (0.0, 1.0]"),
        ("top_p", 1.01, "Range of top_p should be (0.0, 1.0]"),
        ("top_k", -1, "Parameter top_k be greater than or equal to 0"),
        ("repetition_penalty", 0, "Repetition_penalty should be greater than 0.0"),
        ("repetition_penalty", -1.5, "Repetition_penalty should be greater than 0.0"),
        ("repetition_penalty", 1e-30, "Range of repetition_penalty should be [0.01, 100.0]"),
        ("repetition_penalty", 1e300, "Range of repetition_penalty should be [0.01, 100.0]"),
        ("presence_penalty", 2.1, "Presence_penalty should be in [-2.0, 2.0]"),
        ("presence_penalty", -(10**400), "Presence_penalty should be in [-2.0, 2.0]"),
        ("frequency_penalty", -2.1, "Frequency_penalty should be in [-2.0, 2.0]"),
        ("seed", -1, "Range of seed should be [0, 18446744073709551615]"),
        ("seed", 2**64, "Range of seed should be [0, 18446744073709551615]"),
        ("max_tokens", 0, "Range of max_tokens should be [1, 8192]"),
        ("max_tokens", 8193, "Range of max_tokens should be [1, 8192]"),
        ("max_completion_tokens", 10**400, "Range of max_completion_tokens should be [1, 8192]"),
        ("n", 0, "Range of n should be [1, 4]"),
        ("n", 5, "Range of n should be [1, 4]"),
        ("top_logprobs", 6, "Range of top_logprobs should be [0, 5]"),
    ],
)
def test_a_value_out_of_range_is_told_the_range(
    name: str, value: object, message: str, resolve: Resolve
) -> None:
    error = refusal(resolve, **{name: value})
    assert (error.param, error.message, error.from_engine) == (name, message, True)


FLOATS = [
    "temperature",
    "top_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
]
INTEGERS = ["top_k", "seed", "max_tokens", "max_completion_tokens", "n", "top_logprobs"]


@pytest.mark.parametrize("value", ["1", True, [], {}])
def test_numbers_are_numbers(value: object, resolve: Resolve) -> None:
    for name in FLOATS:
        assert refusal(resolve, **{name: value}).message == f"'{name}' must be Float"
    for name in INTEGERS:
        assert refusal(resolve, **{name: value}).message == f"'{name}' must be Integer"


def test_an_integer_may_be_written_as_a_float_but_have_no_fraction(resolve: Resolve) -> None:
    for name in INTEGERS:
        assert refusal(resolve, **{name: 1.5}).message == f"'{name}' must be Integer"
    request = ask(resolve, max_tokens=5.0, n=2.0, seed=7.0, top_k=3.0)
    assert (request.max_tokens, request.n) == (5, 2)
    assert (request.sampling.seed, request.sampling.top_k) == (7, 3)
    assert type(request.max_tokens) is int
    # A float this large no longer names one integer.
    assert refusal(resolve, seed=1e19).message == "'seed' must be Integer"


@pytest.mark.parametrize(
    ("value", "top_k"), [(0, 0), (100, 100), (101, 0), (10**400, 0), (None, 0)]
)
def test_top_k_beyond_100_or_null_is_off(value: int | None, top_k: int, resolve: Resolve) -> None:
    assert ask(resolve, top_k=value).sampling.top_k == top_k


@pytest.mark.parametrize(("value", "used"), [(0, 0.0), (-0.0, 0.0), (1e-40, 0.0), (1e-5, 1e-5)])
def test_a_temperature_near_0_is_greedy(value: float, used: float, resolve: Resolve) -> None:
    temperature = ask(resolve, temperature=value).sampling.temperature
    assert str(temperature) == str(used)


def test_of_two_limits_the_smaller_holds(resolve: Resolve) -> None:
    assert ask(resolve, max_tokens=64, max_completion_tokens=64).max_tokens == 64
    assert ask(resolve, max_tokens=64, max_completion_tokens=5).max_tokens == 5
    assert ask(resolve, max_tokens=3, max_completion_tokens=5).max_tokens == 3
    assert ask(resolve, max_tokens=None, max_completion_tokens=5).max_tokens == 5


def test_log_probabilities(resolve: Resolve) -> None:
    assert ask(resolve, logprobs=True).top_logprobs == 0
    assert ask(resolve, logprobs=True, top_logprobs=2).top_logprobs == 2
    assert ask(resolve, logprobs=False, top_logprobs=0).top_logprobs is None
    error = refusal(resolve, top_logprobs=2)
    assert (error.param, "logprobs" in error.message) == ("top_logprobs", True)
    assert refusal(resolve, logprobs=1).message == "'logprobs' must be Boolean"


def test_streaming(resolve: Resolve) -> None:
    def streams(**fields: object) -> tuple[bool, bool]:
        parsed = call(resolve, **fields)
        return parsed.stream, parsed.include_usage

    assert streams() == (False, False)
    assert streams(stream=False) == (False, False)
    assert streams(stream=True) == (True, False)
    assert streams(stream=True, stream_options={}) == (True, False)
    assert streams(stream=True, stream_options={"include_usage": True}) == (True, True)
    assert streams(
        stream=True, stream_options={"include_usage": None, "include_obfuscation": False}
    ) == (True, False)
    # "Takes effect only when stream is true", say the pages.
    assert streams(stream_options={"include_usage": True}) == (False, False)
    assert refusal(resolve, stream="true").message == "'stream' must be Boolean"
    assert refusal(resolve, stream=True, stream_options=[]).param == "stream_options"
    error = refusal(resolve, stream=True, stream_options={"include_usage": 1})
    assert error.param == "stream_options.include_usage"


@pytest.mark.parametrize(
    ("stop", "read"),
    [
        ("Hello", Stop(texts=("Hello",))),
        (["Hello", "Weather"], Stop(texts=("Hello", "Weather"))),
        ([108386, 104307], Stop(token_ids=((108386,), (104307,)))),
        (
            [[108386, 103924], [35946, 101243]],
            Stop(token_ids=((108386, 103924), (35946, 101243))),
        ),
        ([], Stop()),
        ([0, 2**31 - 1], Stop(token_ids=((0,), (2**31 - 1,)))),
    ],
)
def test_stop_has_four_forms(stop: object, read: Stop, resolve: Resolve) -> None:
    assert ask(resolve, stop=stop).stop == read


@pytest.mark.parametrize(
    "stop",
    [
        ["Hello", 104307],
        [1, [2]],
        ["a", ["b"]],
        [["a"]],
        [[1, "a"]],
        [1.5],
        [True],
        [[True]],
        5,
        {},
    ],
)
def test_mixed_and_other_stops_are_refused_in_the_services_words(
    stop: object, resolve: Resolve
) -> None:
    error = refusal(resolve, stop=stop)
    assert (error.param, error.message) == ("stop", STOP_TYPES)


@pytest.mark.parametrize(
    "stop",
    ["", ["a", ""], "x" * 1025, ["x"] * 65, [[]], [list(range(257))], [-1], [2**31], [[2**31]]],
)
def test_stops_are_bounded(stop: object, resolve: Resolve) -> None:
    error = refusal(resolve, stop=stop)
    assert error.param == "stop"
    assert error.message != STOP_TYPES


def test_the_model_comes_first(resolve: Resolve) -> None:
    def refused(body: bytes) -> StudioError:
        with pytest.raises(StudioError) as caught:
            OpenAIChat().parse(body, resolve)
        return caught.value

    for body in (b'{"messages":[]}', b'{"model":null}', b'{"model":""}'):
        assert refused(body).kind is ErrorKind.MISSING_PARAMETER
        assert refused(body).message == "you must provide a model parameter"
    assert refused(b'{"model":5}').message == "'model' must be String"
    assert refused(b'{"model":"' + b"x" * 257 + b'"}').param == "model"
    unknown = refused(b'{"model":"nope","messages":[],"temperature":9}')
    assert unknown.kind is ErrorKind.MODEL_NOT_FOUND
