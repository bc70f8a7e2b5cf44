"""Tools together with a format: what the engine is held to, and what is made of either answer."""

import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import ownstudio
from ownstudio.core.events import Choice, FinishReason, Started, collect
from ownstudio.core.request import (
    ChatPrompt,
    GenerationRequest,
    Message,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.engines.llamacpp import LlamaCppEngine
from ownstudio.engines.worker import WorkerOptions
from ownstudio.qwen.tools import ToolForm
from ownstudio.service.deployment import Deployment
from ownstudio.service.generation import Generation
from support.desk import desk, visit
from support.gbnf import accepts
from support.scripted import ScriptedEngine
from support.studio import MODEL, Settled, deployment, tokenizer

BUNDLED = Path(ownstudio.__file__).parent / "bundled" / "ownstudio-tiny.gguf"

SCHEMA = (
    '{"type":"object","properties":{"rain":{"type":"boolean"},"city":{"enum":["Paris","Rome"]}},'
    '"required":["rain","city"]}'
)
TOOLS = (Tool("get_weather", "The weather of a city", SCHEMA), Tool("get_time"))
FORMATS = [ResponseFormat("json_object"), ResponseFormat("json_schema", SCHEMA)]
ANSWER = '{"rain": true, "city": "Paris"}'
CALLS = {
    ToolForm.JSON: '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>',
    ToolForm.XML: "<tool_call>\n<function=get_time>\n</function>\n</tool_call>",
}


def asked(answer: ResponseFormat, **fields: object) -> GenerationRequest:
    messages = (Message("user", "How is the weather in Paris? Answer in JSON."),)
    prompt = ChatPrompt(messages, tools=TOOLS, **fields)  # type: ignore[arg-type]
    return GenerationRequest(
        MODEL.name, prompt, MODEL.defaults, max_tokens=200, response_format=answer
    )


async def run(served: Deployment, request: GenerationRequest) -> tuple[Choice, tuple[str, ...]]:
    """The answer, and the warnings."""
    generation = Generation(served, MODEL, request, visit(), desk(), 10, Settled())
    async with aclosing(generation.events()) as batches:
        events = [event async for batch in batches for event in batch]
    (choice,) = collect(events).choices
    return choice, next(event.warnings for event in events if isinstance(event, Started))


def written(text: str) -> list[Chunk]:
    ids = tokenizer().encode(text, specials=True)
    chunks = [Chunk(0, tokenizer().decode([id_]), (id_,), n) for n, id_ in enumerate(ids, 1)]
    return [*chunks, Chunk(0, "", (), len(ids), finish=EngineFinish.END_TOKEN)]


def in_form(engine: ScriptedEngine, form: ToolForm) -> Deployment:
    served = deployment(engine)
    return replace(served, family=msgspec.structs.replace(served.family, tool_form=form))


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize("answer", FORMATS, ids=lambda answer: answer.kind)
@pytest.mark.parametrize("parallel", [True, False])
async def test_a_model_with_tools_and_a_format_may_call_or_answer(
    answer: ResponseFormat, form: ToolForm, parallel: bool
) -> None:
    call = CALLS[form]
    engine = ScriptedEngine([written(call)], [written(ANSWER)])
    served = in_form(engine, form)
    request = asked(answer, parallel_tool_calls=parallel)
    choice, warnings = await run(served, request)
    assert [call.name for call in choice.tool_calls] == ["get_time"]
    assert choice.finish_reason is FinishReason.TOOL_CALLS
    assert warnings == ()
    choice, _ = await run(served, request)
    assert (choice.text, choice.tool_calls) == (ANSWER, ())
    assert choice.finish_reason is FinishReason.STOP
    held = engine.requests[0]
    assert not held.grammar_trigger
    assert accepts(held.grammar, call)
    assert accepts(held.grammar, ANSWER)
    assert accepts(held.grammar, f"{call}\n{call}") == parallel
    assert accepts(held.grammar, '{"rain": 5}') == (answer.kind == "json_object")
    for text in ("It rains.", f"Let me see.\n{call}", f"{call}\n{ANSWER}"):
        assert not accepts(held.grammar, text)


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize(
    ("choice", "calls", "answers"),
    [
        (ToolChoice("required"), True, False),
        (ToolChoice("required", "get_time"), True, False),
        (ToolChoice("required", "get_weather"), False, False),
        (ToolChoice("none"), False, True),
    ],
)
async def test_a_choice_of_tools_decides_between_calls_and_a_format(
    choice: ToolChoice, calls: bool, answers: bool, form: ToolForm
) -> None:
    engine = ScriptedEngine([written("{}")])
    await run(in_form(engine, form), asked(FORMATS[1], tool_choice=choice))
    (held,) = engine.requests
    assert accepts(held.grammar, CALLS[form]) == calls
    assert accepts(held.grammar, ANSWER) == answers


async def test_the_bundled_model_answers_with_a_call_or_with_json(tmp_path: Path) -> None:
    options = WorkerOptions(model_path=str(BUNDLED), context=2048, slots=1, cache_ram_mib=0)
    engine = LlamaCppEngine(options, tmp_path)
    await engine.ready()
    try:
        for seed in range(3):
            request = asked(FORMATS[1], parallel_tool_calls=False)
            sampling = msgspec.structs.replace(request.sampling, seed=seed)
            request = msgspec.structs.replace(request, sampling=sampling)
            choice, _ = await run(deployment(engine), request)
            if choice.tool_calls:
                assert choice.finish_reason is FinishReason.TOOL_CALLS
                assert not choice.text
            else:
                assert choice.finish_reason is FinishReason.STOP
                assert json.loads(choice.text).keys() == {"rain", "city"}
    finally:
        await engine.close()
