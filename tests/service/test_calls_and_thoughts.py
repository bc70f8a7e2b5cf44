"""Calls, thinking and formats through a whole generation: what is asked of the engine, what is made of its text."""

from contextlib import aclosing

import msgspec
import pytest

from ownstudio.catalog import Thinking
from ownstudio.core.errors import StudioError
from ownstudio.core.events import Completion, Event, FinishReason, Started, collect
from ownstudio.core.request import (
    ChatPrompt,
    GenerationRequest,
    Message,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.service.generation import Generation
from support.desk import desk, visit
from support.scripted import ScriptedEngine, Stall, text_chunks
from support.studio import MODEL, Settled, deployment, tokenizer

WEATHER = Tool(
    "get_weather",
    "The weather of a city",
    '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)
CLOCK = Tool("get_time")
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def asked(prompt: ChatPrompt, **fields: object) -> GenerationRequest:
    return GenerationRequest(MODEL.name, prompt, MODEL.defaults, **fields)  # type: ignore[arg-type]


def about_weather(**fields: object) -> ChatPrompt:
    messages = (Message("user", "How is the weather in Paris?"),)
    return ChatPrompt(messages, tools=(WEATHER, CLOCK), **fields)  # type: ignore[arg-type]


async def run(engine: ScriptedEngine, request: GenerationRequest) -> tuple[Completion, list[Event]]:
    events: list[Event] = []
    generation = Generation(deployment(engine), MODEL, request, visit(), desk(), 10, Settled())
    async with aclosing(generation.events()) as batches:
        async for batch in batches:
            events += batch
    return collect(events), events


def written(text: str) -> list[Chunk]:
    """The chunks of `text`, token by token as the vocabulary cuts it."""
    ids = tokenizer().encode(text, specials=True)
    chunks = [Chunk(0, tokenizer().decode([id_]), (id_,), n) for n, id_ in enumerate(ids, 1)]
    return [*chunks, Chunk(0, "", (), len(ids), finish=EngineFinish.END_TOKEN)]


async def test_a_call_is_an_event_and_the_rest_of_the_answer_is_not_waited_for() -> None:
    engine = ScriptedEngine([written(CALL + "\n<tool_call>\n")[:-1], Stall()])
    completion, events = await run(engine, asked(about_weather()))
    (choice,) = completion.choices
    assert choice.finish_reason is FinishReason.TOOL_CALLS
    assert choice.text == ""
    (call,) = choice.tool_calls
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Paris"}')
    assert call.id.startswith("call_")
    assert isinstance(events[0], Started)
    assert engine.aborted == 1


async def test_several_calls_come_only_where_they_are_allowed() -> None:
    text = CALL + "\n" + CALL.replace("Paris", "Rome")
    for parallel, count in ((False, 1), (True, 2)):
        engine = ScriptedEngine([written(text)])
        request = asked(about_weather(parallel_tool_calls=parallel))
        completion, _ = await run(engine, request)
        assert len(completion.choices[0].tool_calls) == count
        assert completion.choices[0].finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("choice", "trigger", "names"),
    [
        (ToolChoice(), "<tool_call>", ("get_weather", "get_time")),
        (ToolChoice("required"), "", ("get_weather", "get_time")),
        (ToolChoice("required", "get_time"), "", ("get_time",)),
        (ToolChoice("none"), "", ()),
    ],
)
async def test_calls_are_constrained_where_one_is_forced_or_opened(
    choice: ToolChoice, trigger: str, names: tuple[str, ...]
) -> None:
    engine = ScriptedEngine([text_chunks("No.")])
    await run(engine, asked(about_weather(tool_choice=choice)))
    (request,) = engine.requests
    assert request.grammar_trigger == trigger
    for name in ("get_weather", "get_time"):
        assert (name in request.grammar) == (name in names)
        assert (name in tokenizer().decode(request.token_ids)) == (choice.mode != "none")


async def test_a_schema_that_cannot_be_enforced_is_told() -> None:
    tool = Tool("f", "", '{"properties":{"a":{"type":"string","pattern":"^(a+)+$"}}}')
    prompt = ChatPrompt((Message("user", "x"),), tools=(tool,))
    _, events = await run(ScriptedEngine([text_chunks("ok")]), asked(prompt))
    assert isinstance(events[0], Started)
    assert any("tools[0]" in warning for warning in events[0].warnings)


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
async def test_an_answer_in_json_is_constrained_from_its_first_token(kind: str) -> None:
    engine = ScriptedEngine([text_chunks("{", "}")])
    answer = ResponseFormat(kind, '{"type":"object"}' if kind == "json_schema" else "")  # type: ignore[arg-type]
    prompt = ChatPrompt((Message("user", "json please"),))
    await run(engine, asked(prompt, response_format=answer))
    assert engine.requests[0].grammar
    assert not engine.requests[0].grammar_trigger
    opened = (*prompt.messages, Message("assistant", "{", partial=True))
    with pytest.raises(StudioError) as refusal:
        await run(engine, asked(ChatPrompt(opened), response_format=answer))
    assert refusal.value.param == "response_format"


async def test_thinking_is_told_apart_and_counted() -> None:
    engine = ScriptedEngine([written("Let me see.\n</think>\n\nFour.")])
    prompt = ChatPrompt((Message("user", "2+2?"),), enable_thinking=True)
    completion, _ = await run(engine, asked(prompt))
    assert completion.choices[0].reasoning == "Let me see."
    assert completion.choices[0].text == "Four."
    thoughts = len(tokenizer().encode("Let me see.\n</think>\n\n", specials=True))
    assert completion.usage.reasoning_tokens == thoughts


async def test_thinking_that_meets_its_budget_is_closed_and_the_answer_follows() -> None:
    thought = written("one two three four five six seven eight nine")[:-1]
    answer = text_chunks("Done", ".")
    engine = ScriptedEngine([[chunk] for chunk in thought] + [Stall()], [answer])
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    completion, events = await run(engine, asked(prompt, thinking_budget=4, max_tokens=50))
    first, second = engine.requests
    (choice,) = completion.choices
    assert choice.reasoning == "one two three four"
    assert choice.text == "Done."
    told = tokenizer().decode(second.token_ids[len(first.token_ids) :])
    assert told == "one two three four\n</think>\n\n"
    assert second.max_tokens == 50
    forced = len(tokenizer().encode("\n</think>\n\n", specials=True))
    assert completion.usage.reasoning_tokens == 4 + forced
    assert completion.usage.completion_tokens == 4 + forced + 2
    assert sum(isinstance(event, Started) for event in events) == 1
    assert engine.open == 0


async def test_max_tokens_bounds_what_follows_the_thinking() -> None:
    engine = ScriptedEngine([[chunk] for chunk in written("a b c\n</think>\n\n1 2 3 4 5 6 7 8")])
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    completion, _ = await run(engine, asked(prompt, max_tokens=3))
    assert completion.choices[0].finish_reason is FinishReason.LENGTH
    assert completion.choices[0].text == "1 2"
    assert engine.requests[0].max_tokens > 3
    await run(engine, asked(prompt, max_tokens=3, max_completion_tokens=5))
    assert engine.requests[1].max_tokens == 5


async def test_the_last_switch_in_the_text_counts() -> None:
    switching = msgspec.structs.replace(MODEL, thinking=Thinking("hybrid", prompt_switch=True))
    engine = ScriptedEngine([text_chunks("ok")])
    for text, thinks in (("hi /no_think", False), ("/no_think hi /think", True), ("hi", True)):
        prompt = ChatPrompt((Message("user", text),), enable_thinking=True)
        generation = Generation(
            deployment(engine), switching, asked(prompt), visit(), desk(), 10, Settled()
        )
        async with aclosing(generation.events()) as batches:
            async for _ in batches:
                pass
        fed = tokenizer().decode(engine.requests[-1].token_ids)
        assert fed.endswith("<think>\n") == thinks


async def test_n_answers_cannot_share_a_thinking_budget() -> None:
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    with pytest.raises(StudioError) as refusal:
        await run(ScriptedEngine([]), asked(prompt, n=2, thinking_budget=4))
    assert refusal.value.param == "n"


async def test_an_answer_cut_inside_a_call_loses_no_text() -> None:
    chunks = written('Wait: <tool_call>\n{"name": "get_weather", "argu')
    cut = [*chunks[:-1], msgspec.structs.replace(chunks[-1], finish=EngineFinish.LIMIT)]
    completion, _ = await run(ScriptedEngine([cut]), asked(about_weather()))
    (choice,) = completion.choices
    assert choice.finish_reason is FinishReason.LENGTH
    assert "Wait:" in choice.text
    assert "get_weather" in choice.text + "".join(call.name for call in choice.tool_calls)


async def test_what_is_allowed_in_all_holds_across_the_end_of_the_thinking() -> None:
    thought = written("one two three four five six seven eight nine")[:-1]
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    forced = len(tokenizer().encode("\n</think>\n\n", specials=True))
    for allowed, left in ((4 + forced + 2, 2), (4 + forced, 0)):
        engine = ScriptedEngine([[chunk] for chunk in thought], [text_chunks("Done", ".")])
        request = asked(prompt, thinking_budget=4, max_completion_tokens=allowed)
        completion, _ = await run(engine, request)
        if left:
            assert engine.requests[1].max_tokens == left
        else:
            assert len(engine.requests) == 1
            assert completion.choices[0].finish_reason is FinishReason.LENGTH


async def test_an_answer_that_is_cut_before_it_says_anything_still_begins() -> None:
    forced = len(tokenizer().encode("\n</think>\n\n", specials=True))
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    request = asked(prompt, thinking_budget=1, max_completion_tokens=1 + forced)
    completion, events = await run(ScriptedEngine([written("\n")[:1], Stall()]), request)
    assert isinstance(events[0], Started)
    assert completion.choices[0].finish_reason is FinishReason.LENGTH
