"""`/completions`: prompts in their four forms, what is served of the parameters, and the catalogue pages."""

import json
from collections.abc import Callable

import pytest
from openai.types import Completion as ClientCompletion
from openai.types import Model as ClientModel

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
from ownstudio.core.request import GenerationRequest, Sampling, TextPrompt
from ownstudio.core.sse import SSEDecoder
from ownstudio.dialects import Identity
from ownstudio.dialects.openai_models import model_entry, models_page
from ownstudio.dialects.openai_text import OpenAIText

Resolve = Callable[[str], Model]

DONE = Done(Usage(5, 3))
FIM = "<|fim_prefix|>def quick_sort(arr):<|fim_suffix|>"


def ask(resolve: Resolve, prompt: object = FIM, **fields: object) -> GenerationRequest:
    body = {"model": "qwen-coder-turbo", "prompt": prompt, **fields}
    return OpenAIText().parse(json.dumps(body).encode(), resolve).request


def refusal(resolve: Resolve, prompt: object = FIM, **fields: object) -> StudioError:
    with pytest.raises(StudioError) as caught:
        ask(resolve, prompt, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        (FIM, TextPrompt(FIM)),
        ([FIM], TextPrompt(FIM)),
        ([1, 2, 151645], TextPrompt((1, 2, 151645))),
        ([[1, 2]], TextPrompt((1, 2))),
        ([0], TextPrompt((0,))),
    ],
)
def test_a_prompt_has_four_forms(prompt: object, read: TextPrompt, resolve: Resolve) -> None:
    assert ask(resolve, prompt).prompt == read


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (None, "you must provide a prompt parameter"),
        (5, "'prompt' must be String or Array"),
        ({}, "'prompt' must be String or Array"),
        (["a", "b"], "Only one prompt is allowed in a request."),
        ([[1], [2]], "Only one prompt is allowed in a request."),
        ("", "Range of input length should be [1, 1000]"),
        ([], "Range of input length should be [1, 1000]"),
        ([""], "Range of input length should be [1, 1000]"),
        ([[]], "Range of input length should be [1, 1000]"),
        (list(range(1001)), "Range of input length should be [1, 1000]"),
        ([True], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
        ([1.5], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
        ([-1], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
        ([2**31], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
        ([10**400], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
        ([1, "a"], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
        ([[[1]]], "Token ids in 'prompt' should be integers in [0, 2147483647]"),
    ],
)
def test_other_prompts_are_refused(prompt: object, said: str, resolve: Resolve) -> None:
    error = refusal(resolve, prompt)
    assert (error.param, error.message) == ("prompt", said)


def test_a_missing_prompt_has_its_own_kind(resolve: Resolve) -> None:
    with pytest.raises(StudioError) as caught:
        OpenAIText().parse(b'{"model":"qwen-coder-turbo"}', resolve)
    assert caught.value.kind is ErrorKind.MISSING_PARAMETER


def test_a_suffix_asks_for_the_middle(resolve: Resolve) -> None:
    assert ask(resolve, "a", suffix="b").prompt == TextPrompt("a", "b")
    assert ask(resolve, "a", suffix="").prompt == TextPrompt("a", "")
    assert ask(resolve, "a", suffix=None).prompt == TextPrompt("a")
    assert refusal(resolve, "", suffix="b").param == "suffix"
    assert refusal(resolve, [1], suffix="b").param == "suffix"
    assert refusal(resolve, "a", suffix=5).message == "'suffix' must be String"


def test_what_langchain_sends(resolve: Resolve) -> None:
    body = (
        b'{"model":"qwen-coder-turbo","prompt":["<|fim_prefix|>a<|fim_suffix|>"],'
        b'"frequency_penalty":0,"logprobs":null,"max_tokens":256,"n":1,"presence_penalty":0,'
        b'"seed":null,"temperature":0.7,"top_p":1}'
    )
    call = OpenAIText().parse(body, resolve)
    assert call.request == GenerationRequest(
        model="qwen-coder-turbo",
        prompt=TextPrompt("<|fim_prefix|>a<|fim_suffix|>"),
        sampling=Sampling(temperature=0.7, top_p=1.0, top_k=20),
        max_tokens=256,
    )
    assert (call.stream, call.ignored) == (False, ())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", 2**31, "Range of seed should be [0, 2147483647]"),
        ("n", 2, "Range of n should be [1, 1]"),
        ("max_tokens", 4097, "Range of max_tokens should be [1, 4096]"),
        ("best_of", 2, "The parameter 'best_of' is not supported"),
        ("logprobs", 6, "Range of logprobs should be [0, 5]"),
        ("logprobs", True, "'logprobs' must be Integer"),
        ("echo", "yes", "'echo' must be Boolean"),
    ],
)
def test_what_is_not_served_is_named(name: str, value: object, said: str, resolve: Resolve) -> None:
    error = refusal(resolve, **{name: value})
    assert error.param == name
    assert error.message.startswith(said)


def test_values_that_ask_for_nothing_pass(resolve: Resolve) -> None:
    plain = ask(resolve)
    assert ask(resolve, echo=False, best_of=1, n=1, logprobs=None, seed=None, stop=None) == plain


def test_echo_needs_a_prompt_that_can_be_repeated(resolve: Resolve) -> None:
    assert refusal(resolve, [1, 2], echo=True).param == "echo"
    error = refusal(resolve, echo=True, logprobs=0)
    assert error.message.startswith("'echo' and 'logprobs' exclude each other")
    assert ask(resolve, echo=True) == ask(resolve)


def test_an_echo_is_the_prompt_before_the_answer(resolve: Resolve, identity: Identity) -> None:
    dialect = OpenAIText()
    body = {"model": "qwen-coder-turbo", "prompt": "def f", "suffix": "return", "echo": True}
    call = dialect.parse(json.dumps(body).encode(), resolve)
    events: list[Event] = [TextDelta(0, "(n):", 2), Finish(0, FinishReason.STOP, 2), DONE]
    answer = ClientCompletion.model_validate_json(dialect.render(collect(events), call, identity))
    assert answer.choices[0].text == "def f(n):"
    encoder = dialect.encoder(call, identity)
    data = b"".join(encoder.feed([event]) for event in events) + encoder.finish()
    *chunks, _ = SSEDecoder().feed(data)
    assert [json.loads(chunk)["choices"][0]["text"] for chunk in chunks] == ["def f", "(n):", ""]


def test_log_probabilities_in_the_form_of_this_endpoint(
    resolve: Resolve, identity: Identity
) -> None:
    first = TokenLogprob(" 你", (32, 228, 189), -0.5, (TopLogprob(" a", (32, 97), -0.25),))
    second = TokenLogprob("\ufffd", (160,), -1.0, (TopLogprob("\ufffd", (160,), -1.0),))
    third = TokenLogprob("x", (120,), float("-inf"))
    events: list[Event] = [
        TextDelta(0, " 你", 2, (first, second)),
        TextDelta(0, "x", 3, (third,)),
        Finish(0, FinishReason.LENGTH, 3),
        DONE,
    ]
    dialect = OpenAIText()
    body = {"model": "qwen-coder-turbo", "prompt": "a", "logprobs": 1}
    call = dialect.parse(json.dumps(body).encode(), resolve)
    assert call.request.top_logprobs == 1
    whole = dialect.render(collect(events), call, identity)
    ClientCompletion.model_validate_json(whole, strict=True)
    assert json.loads(whole)["choices"][0]["logprobs"] == {
        "tokens": [" 你", "\ufffd", "x"],
        "token_logprobs": [-0.5, -1.0, -9999.0],
        "top_logprobs": [{" a": -0.25, " 你": -0.5}, {"\ufffd": -1.0}, {"x": -9999.0}],
        "text_offset": [0, 2, 2],
    }
    encoder = dialect.encoder(call, identity)
    *chunks, _ = SSEDecoder().feed(encoder.feed(events) + encoder.finish())
    scores = [json.loads(chunk)["choices"][0]["logprobs"] for chunk in chunks]
    assert [score and score["text_offset"] for score in scores] == [[0, 2], [2], None]


def test_scores_without_rivals(resolve: Resolve, identity: Identity) -> None:
    dialect = OpenAIText()
    body = {"model": "qwen-coder-turbo", "prompt": "a", "logprobs": 0}
    call = dialect.parse(json.dumps(body).encode(), resolve)
    events: list[Event] = [
        TextDelta(0, "x", 1, (TokenLogprob("x", (120,), -0.5),)),
        Finish(0, FinishReason.STOP, 1),
        DONE,
    ]
    answer = ClientCompletion.model_validate_json(dialect.render(collect(events), call, identity))
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.top_logprobs) == (["x"], None)


def test_a_model_without_completions_is_not_supported_here(resolve: Resolve) -> None:
    error = refusal(resolve, model="qwen-plus")
    assert error.kind is ErrorKind.MODEL_NOT_SUPPORTED
    assert error.message == "Unsupported model qwen-plus for OpenAI compatibility mode."
    assert refusal(resolve, model="nope").kind is ErrorKind.MODEL_NOT_FOUND


def test_the_catalogue_as_clients_read_it(models: list[Model]) -> None:
    assert model_entry(models[0]) == (
        b'{"id":"qwen-plus","object":"model","created":1700000000,"owned_by":"system"}'
    )
    page = json.loads(models_page(models))
    assert page["object"] == "list"
    entries = [ClientModel.model_validate(entry, strict=True) for entry in page["data"]]
    assert [entry.id for entry in entries] == ["qwen-plus", "qwen-coder-turbo"]
