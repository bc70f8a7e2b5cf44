"""Whatever a generation says, and however its events are cut: what a client collects is the whole answer."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ownstudio.catalog import Model, Thinking
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
    Usage,
    collect,
)
from ownstudio.core.request import ChatPrompt, GenerationRequest, Message, Sampling
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.dashscope import DashScope
from support.native import Json, streamed

IDENTITY = Identity("3de690bd-ae7f-461d-8eb6-d65b0577e803", 1_761_615_592)
MODEL = Model("qwen", "main", 1000, 1000, 4, True, Sampling(), 1, thinking=Thinking("hybrid"))

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCORES = st.lists(
    st.builds(TokenLogprob, TEXTS, st.just((1, 255)), st.floats(-100, 0)), max_size=2
).map(tuple)


@st.composite
def runs(draw: st.DrawFn, index: int, plain: bool) -> list[Event]:
    """One choice: thoughts, words and calls in this order, then its end. A `plain` one has words alone."""
    events: list[Event] = []

    def tokens() -> int:
        return len(events) + 1

    if not plain:
        for text in draw(st.lists(TEXTS, max_size=3)):
            events.append(ReasoningDelta(index, text, tokens()))
    for text in draw(st.lists(TEXTS, max_size=4)):
        scores = () if plain else draw(SCORES)
        events.append(TextDelta(index, text, tokens(), scores))
    if not plain:
        for call in range(draw(st.integers(0, 2))):
            events.append(ToolCallStart(index, call, f"call_{index}{call}", "f", tokens()))
            for text in draw(st.lists(TEXTS, max_size=3)):
                events.append(ToolCallDelta(index, call, text, tokens()))
    reason = draw(st.sampled_from(FinishReason))
    events.append(Finish(index, reason, len(events)))
    return events


@st.composite
def generations(draw: st.DrawFn, *, plain: bool = False) -> tuple[int, list[Event]]:
    """How many choices, and their events, interleaved; a `plain` one has a single choice of words."""
    choices = [draw(runs(index, plain)) for index in range(1 if plain else draw(st.integers(1, 3)))]
    written = sum(run[-1].tokens for run in choices if isinstance(run[-1], Finish))
    reasoned = sum(
        max([event.tokens for event in run if isinstance(event, ReasoningDelta)], default=0)
        for run in choices
    )
    left = [list(run) for run in choices]
    order = draw(st.permutations([index for index, run in enumerate(choices) for _ in run]))
    mixed = [left[index].pop(0) for index in order]
    usage = Usage(draw(st.integers(1, 99)), written, draw(st.integers(0, 9)), reasoned)
    return len(choices), [Started(usage.prompt_tokens, usage.cached_tokens), *mixed, Done(usage)]


def call_of(n: int, *, incremental: bool, as_text: bool = False, thinks: bool = True) -> Call:
    request = GenerationRequest(
        model="qwen",
        prompt=ChatPrompt((Message("user", "hi"),), enable_thinking=thinks),
        sampling=Sampling(),
        n=n,
        top_logprobs=0,
    )
    return Call(
        request,
        MODEL,
        stream=True,
        result_format="text" if as_text else "message",
        incremental=incremental,
    )


def cut(events: list[Event], places: list[int]) -> list[list[Event]]:
    bounds = [0, *sorted(place % (len(events) + 1) for place in places), len(events)]
    return [events[low:high] for low, high in pairwise(bounds)]


def collected(answers: list[Json], incremental: bool) -> Json:
    """What the vendor's SDK ends up with: the choices by index, and the usage of all of them together."""
    choices: dict[int, Json] = {}
    usages: dict[int, Json] = {}
    for answer in answers:
        (choice,) = answer["output"]["choices"]
        index = choice.get("index", 0)
        usages[index] = answer["usage"]
        held = choices.get(index)
        if held is None or not incremental:
            choices[index] = choice
            continue
        message, new = held["message"], choice["message"]
        for key in ("content", "reasoning_content"):
            message[key] += new[key]
        calls = {made["index"]: made for made in message.get("tool_calls", [])}
        for made in new.get("tool_calls", []):
            known = calls.get(made["index"])
            if known is None:
                calls[made["index"]] = made
            else:
                known["function"]["arguments"] += made["function"]["arguments"]
        if calls:
            message["tool_calls"] = list(calls.values())
        if "logprobs" in choice:
            scores = held.setdefault("logprobs", {"content": []})["content"]
            scores += choice["logprobs"]["content"]
        held["finish_reason"] = choice["finish_reason"]
    first = usages[min(usages)]
    return {
        "choices": [choices[index] for index in sorted(choices)],
        "input_tokens": first["input_tokens"],
        "output_tokens": sum(usage["output_tokens"] for usage in usages.values()),
    }


@given(generations(), st.booleans(), st.lists(st.integers(0, 99), max_size=6))
def test_the_stream_is_the_answer(
    generation: tuple[int, list[Event]], incremental: bool, places: list[int]
) -> None:
    n, events = generation
    dialect = DashScope(stream=True)
    call = call_of(n, incremental=incremental)
    answers = streamed(dialect, call, IDENTITY, *cut(events, places))
    whole = json.loads(dialect.render(collect(events), call, IDENTITY))
    told = collected(answers, incremental)
    assert told["choices"] == whole["output"]["choices"]
    assert told["input_tokens"] == whole["usage"]["input_tokens"]
    assert told["output_tokens"] == whole["usage"]["output_tokens"]
    if n == 1:
        assert answers[-1]["usage"] == whole["usage"]


@given(generations(plain=True), st.booleans(), st.lists(st.integers(0, 99), max_size=6))
def test_so_is_a_stream_of_text(
    generation: tuple[int, list[Event]], incremental: bool, places: list[int]
) -> None:
    n, events = generation
    dialect = DashScope(stream=True)
    call = call_of(n, incremental=incremental, as_text=True, thinks=False)
    answers = streamed(dialect, call, IDENTITY, *cut(events, places))
    whole = json.loads(dialect.render(collect(events), call, IDENTITY))
    texts = [answer["output"]["text"] for answer in answers]
    assert ("".join(texts) if incremental else texts[-1]) == whole["output"]["text"]
    assert answers[-1]["output"]["finish_reason"] == whole["output"]["finish_reason"]
    assert answers[-1]["usage"] == whole["usage"]


@given(generations(), st.lists(st.integers(0, 99), max_size=6))
def test_usage_only_grows(generation: tuple[int, list[Event]], places: list[int]) -> None:
    n, events = generation
    call = call_of(n, incremental=True)
    written: dict[int, int] = {}
    for answer in streamed(DashScope(stream=True), call, IDENTITY, *cut(events, places)):
        (choice,) = answer["output"]["choices"]
        usage = answer["usage"]
        index = choice.get("index", 0)
        assert usage["output_tokens"] >= written.get(index, 0)
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        written[index] = usage["output_tokens"]
