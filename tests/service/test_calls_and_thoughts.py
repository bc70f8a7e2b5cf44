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
    Stop,
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


WRITE = Tool(
    "write_file",
    "Write a file",
    '{"type":"object","properties":{"content":{"type":"string"}},"required":["content"]}',
)
PROGRAM = "import os\n# Note: keep\nmain()\n"
WRITTEN = msgspec.json.encode({"content": PROGRAM}).decode()
IN_JSON = f'<tool_call>\n{{"name": "write_file", "arguments": {WRITTEN}}}\n</tool_call>'
IN_XML = (
    f"<tool_call>\n<function=write_file>\n<parameter=content>\n{PROGRAM}\n</parameter>\n"
    "</function>\n</tool_call>"
)
# Those that the documentation of Qwen-Coder has its agents send, and some that calls and their tags are full of.
CODER_STOPS = ("\n# Explanation:", "Description", "Explanation:", "Note:")
STOPS_IN_CALLS = (*CODER_STOPS, "\n", ">>>", '"', "_call>\n{x", "</parameter>", "</tool_call>")


def to_write(**fields: object) -> ChatPrompt:
    messages = (Message("user", "Write it."),)
    return ChatPrompt(messages, tools=(WRITE,), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [IN_JSON, IN_XML])
async def test_no_stop_text_ends_a_call(text: str) -> None:
    engine = ScriptedEngine([written("I write." + text)])
    completion, _ = await run(engine, asked(to_write(), stop=Stop(texts=STOPS_IN_CALLS)))
    (choice,) = completion.choices
    assert choice.text == "I write."
    assert msgspec.json.decode(choice.tool_calls[0].arguments) == {"content": PROGRAM}
    assert choice.finish_reason is FinishReason.TOOL_CALLS


async def test_no_stop_of_token_ids_ends_a_call() -> None:
    note = tuple(tokenizer().encode(" Note", specials=False))
    engine = ScriptedEngine([written("I write.\n" + IN_JSON)], [written("I write. Note this.")])
    request = asked(to_write(), stop=Stop(token_ids=(note,)))
    completion, _ = await run(engine, request)
    assert msgspec.json.decode(completion.choices[0].tool_calls[0].arguments) == {
        "content": PROGRAM
    }
    completion, _ = await run(engine, request)
    assert completion.choices[0].text == "I write."


@pytest.mark.parametrize("text", [IN_JSON, IN_XML])
async def test_a_stop_text_outside_calls_ends_the_answer(text: str) -> None:
    request = asked(to_write(parallel_tool_calls=True), stop=Stop(texts=CODER_STOPS))
    for answer, calls in (
        (f"Now. Note: {text}", 0),
        (f"Now. {text}\nNote: {text}", 1),
        (f"Now. {text}\n{text}\nNote: {text}", 2),
    ):
        engine = ScriptedEngine([written(answer)[:-1], Stall()])
        completion, _ = await run(engine, request)
        (choice,) = completion.choices
        assert choice.text.strip() == "Now."
        assert len(choice.tool_calls) == calls
        assert choice.finish_reason is (FinishReason.TOOL_CALLS if calls else FinishReason.STOP)
        assert engine.aborted == 1


async def test_a_stop_text_may_be_the_tag_that_opens_a_call() -> None:
    engine = ScriptedEngine([written("Now. " + IN_JSON)])
    completion, _ = await run(engine, asked(to_write(), stop=Stop(texts=("<tool_call>",))))
    (choice,) = completion.choices
    assert (choice.text, choice.tool_calls) == ("Now. ", ())
    assert choice.finish_reason is FinishReason.STOP


async def test_thoughts_that_may_begin_a_stop_stay_thoughts_when_the_budget_ends_them() -> None:
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    for thoughts, stop, said in (
        ("I look. Ob", "Observation:", "Hello"),
        ("I look. ##", "## End", " End-to-end"),
        ("I look <", "< 5", " 5"),
    ):
        chunks = text_chunks(*thoughts)[:-1]
        engine = ScriptedEngine([[chunk] for chunk in chunks] + [Stall()], [text_chunks(said)])
        request = asked(prompt, thinking_budget=len(thoughts), stop=Stop(texts=(stop,)))
        completion, _ = await run(engine, request)
        (choice,) = completion.choices
        assert (choice.reasoning, choice.text) == (thoughts, said)
        assert choice.finish_reason is FinishReason.STOP


async def test_tokens_of_thoughts_and_of_the_answer_make_no_stop_together() -> None:
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    thoughts, said = Chunk(0, "Hm", (7,), 1), Chunk(0, "Hello", (8,), 1)
    end = Chunk(0, "", (), 1, finish=EngineFinish.END_TOKEN)
    engine = ScriptedEngine([[thoughts], Stall()], [[said], [end]])
    request = asked(prompt, thinking_budget=1, stop=Stop(token_ids=((7, 8),)))
    completion, _ = await run(engine, request)
    (choice,) = completion.choices
    assert (choice.reasoning, choice.text) == ("Hm", "Hello")


async def test_what_may_begin_a_stop_is_text_where_the_answer_is_as_long_as_it_may_be() -> None:
    engine = ScriptedEngine([text_chunks("Hm", "</think>", "I", " see", " Ob", "servation:")])
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    stop = Stop(texts=("Observation:",))
    completion, _ = await run(engine, asked(prompt, max_tokens=3, stop=stop))
    (choice,) = completion.choices
    assert choice.text == "I see Ob"
    assert choice.finish_reason is FinishReason.LENGTH


async def test_thoughts_that_may_begin_a_stop_are_told_where_no_room_is_left_for_an_answer() -> (
    None
):
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=True)
    forced = len(tokenizer().encode("\n</think>\n\n", specials=True))
    request = asked(
        prompt,
        thinking_budget=2,
        max_completion_tokens=2 + forced,
        stop=Stop(texts=("Observation:",)),
    )
    completion, _ = await run(ScriptedEngine([text_chunks("I see", " Ob")[:-1], Stall()]), request)
    (choice,) = completion.choices
    assert choice.reasoning == "I see Ob"
    assert choice.finish_reason is FinishReason.LENGTH
