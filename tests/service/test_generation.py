"""Every way a generation can end: what the client gets, what is recorded, and that it is recorded once."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Completion, Event, FinishReason, TokenLogprob, Usage, collect
from ownstudio.core.request import GenerationRequest, Stop, TextPrompt
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.service.ending import Ending
from ownstudio.service.generation import Generation
from support.desk import desk, visit
from support.scripted import Die, ScriptedEngine, Stall, Step, text_chunks
from support.studio import MODEL, Settled, chat, deployment


def generation(
    engine: ScriptedEngine, request: GenerationRequest, settled: Settled, deadline_s: float = 10
) -> Generation:
    return Generation(deployment(engine), MODEL, request, visit(), desk(), deadline_s, settled)


async def events_of(generation: Generation) -> list[Event]:
    async with aclosing(generation.events()) as batches:
        return [event async for batch in batches for event in batch]


async def answer(*script: Step, **asked: object) -> tuple[Completion, Settled]:
    settled = Settled()
    events = await events_of(generation(ScriptedEngine(script), chat(**asked), settled))
    return collect(events), settled


async def test_a_whole_answer() -> None:
    completion, settled = await answer(text_chunks("Hel", "lo"))
    assert completion.choices[0].text == "Hello"
    assert completion.choices[0].finish_reason is FinishReason.STOP
    # Three tokens that the engine had already are too few to count as cached.
    assert completion.usage == Usage(prompt_tokens=11, completion_tokens=2)
    assert settled.only.ending is Ending.STOP
    assert settled.only.usage == completion.usage
    assert settled.only.first_token_seconds is not None


async def test_a_cut_answer() -> None:
    completion, settled = await answer(text_chunks("Hel", finish=EngineFinish.LIMIT))
    assert completion.choices[0].finish_reason is FinishReason.LENGTH
    assert settled.only.ending is Ending.LENGTH


async def test_a_stop_text_ends_the_answer_before_it_and_aborts_the_engine() -> None:
    engine = ScriptedEngine([text_chunks("a", "b", "END", "never"), Stall()])
    settled = Settled()
    events = await events_of(generation(engine, chat(stop=Stop(texts=("bE",))), settled))
    completion = collect(events)
    assert completion.choices[0].text == "a"
    assert completion.choices[0].finish_reason is FinishReason.STOP
    assert completion.usage.completion_tokens == 3
    assert (engine.open, engine.aborted) == (0, 1)


async def test_a_stop_sequence_of_token_ids() -> None:
    completion, _ = await answer(
        text_chunks("a", "b", "c", "d"), stop=Stop(token_ids=((1, 2), (7,)))
    )
    assert completion.choices[0].text == "a"


async def test_ids_that_the_engine_left_out_are_spelled_again() -> None:
    # "蘋" is two tokens of the vocabulary; llama.cpp reports only the one that completes the character.
    spelled = tuple(deployment(ScriptedEngine([])).tokenizer.encode("蘋", specials=False))
    assert len(spelled) > 1
    torn = [
        Chunk(0, "a", (1,), 1),
        Chunk(0, "蘋", spelled[-1:], 1 + len(spelled)),
        Chunk(0, "b", (2,), 2 + len(spelled)),
        Chunk(0, "", (), 2 + len(spelled), finish=EngineFinish.END_TOKEN),
    ]
    completion, _ = await answer(torn, stop=Stop(token_ids=(spelled,)))
    assert completion.choices[0].text == "a"


async def test_logprobs_of_what_a_stop_text_cut_off_are_not_told() -> None:
    def chunk(text: str, tokens: int) -> Chunk:
        entry = TokenLogprob(text, tuple(text.encode()), -0.5)
        return Chunk(0, text, (tokens,), tokens, logprobs=(entry,))

    completion, _ = await answer(
        [chunk("a", 1), chunk("b", 2), chunk("c", 3)], stop=Stop(texts=("bc",)), top_logprobs=0
    )
    assert [entry.token for entry in completion.choices[0].logprobs] == ["a"]


async def test_choices_end_one_by_one() -> None:
    def chunk(choice: int, text: str, tokens: int, finish: EngineFinish | None = None) -> Chunk:
        return Chunk(choice, text, (1,) if text else (), tokens, finish=finish)

    completion, _ = await answer(
        [chunk(0, "x", 1), chunk(1, "STOP", 1), chunk(0, "y", 2)],
        [chunk(1, "more", 2), chunk(1, "", 2, EngineFinish.LIMIT)],
        [chunk(0, "", 2, EngineFinish.END_TOKEN)],
        stop=Stop(texts=("STOP",)),
        n=2,
    )
    assert [choice.text for choice in completion.choices] == ["xy", ""]
    assert completion.usage.completion_tokens == 3


@pytest.mark.parametrize("deaths", [1, 2])
async def test_an_engine_that_dies_before_its_first_token_is_tried_once_more(deaths: int) -> None:
    engine = ScriptedEngine(*([[Die()]] * deaths), [text_chunks("alive")])
    settled = Settled()
    run = events_of(generation(engine, chat(), settled))
    if deaths == 1:
        assert collect(await run).choices[0].text == "alive"
        assert settled.only.ending is Ending.STOP
    else:
        with pytest.raises(StudioError) as failure:
            await run
        assert failure.value.kind is ErrorKind.ENGINE_UNAVAILABLE
        assert failure.value.retry_after
        assert settled.only.ending is Ending.ENGINE_UNAVAILABLE
    assert engine.started == 2


async def test_an_engine_that_dies_in_mid_stream_is_not_tried_again() -> None:
    engine = ScriptedEngine([text_chunks("Hel", "lo")[:1], Die()])
    settled = Settled()
    with pytest.raises(StudioError) as failure:
        await events_of(generation(engine, chat(), settled))
    assert failure.value.kind is ErrorKind.ENGINE_FAILED
    assert "killed" not in failure.value.message
    assert settled.only.ending is Ending.ENGINE_DIED
    assert settled.only.usage.completion_tokens == 1
    assert engine.started == 1


async def test_an_engine_that_cannot_start() -> None:
    settled = Settled()
    with pytest.raises(StudioError) as failure:
        await events_of(generation(ScriptedEngine(fault="x.gguf: cut off"), chat(), settled))
    assert failure.value.kind is ErrorKind.ENGINE_UNAVAILABLE
    assert failure.value.detail == "x.gguf: cut off"
    assert settled.only.ending is Ending.ENGINE_UNAVAILABLE


async def test_a_stream_that_just_ends_is_no_answer() -> None:
    settled = Settled()
    with pytest.raises(StudioError) as failure:
        await events_of(generation(ScriptedEngine([text_chunks("a")[:1]]), chat(), settled))
    assert failure.value.kind is ErrorKind.ENGINE_FAILED
    assert settled.only.ending is Ending.ENGINE_DIED


async def test_the_deadline() -> None:
    engine = ScriptedEngine([Stall()])
    settled = Settled()
    with pytest.raises(StudioError) as failure:
        await events_of(generation(engine, chat(), settled, deadline_s=0.02))
    assert failure.value.kind is ErrorKind.TIMEOUT
    assert settled.only.ending is Ending.DEADLINE
    assert (engine.open, engine.aborted) == (0, 1)


async def test_an_abort_from_outside() -> None:
    stall = Stall()
    engine = ScriptedEngine([text_chunks("a")[:1], stall])
    settled = Settled()
    run = generation(engine, chat(), settled)
    task = asyncio.ensure_future(events_of(run))
    await stall.reached.wait()
    run.abort(StudioError(ErrorKind.SHUTTING_DOWN, "closing"))
    with pytest.raises(StudioError, match="closing"):
        await task
    assert settled.only.ending is Ending.SHUTDOWN
    assert engine.aborted == 1


@pytest.mark.parametrize("where", ["cancelled", "closed"])
async def test_a_hang_up(where: str) -> None:
    stall = Stall()
    engine = ScriptedEngine([text_chunks("a")[:1], stall])
    settled = Settled()
    run = generation(engine, chat(), settled)
    if where == "cancelled":
        task = asyncio.ensure_future(events_of(run))
        await stall.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with aclosing(run.events()) as batches:
            await anext(batches)
    assert settled.only.ending is Ending.HANG_UP
    assert settled.only.usage.completion_tokens == 1
    assert (engine.open, engine.aborted) == (0, 1)


async def test_slots_come_back_however_it_ends() -> None:
    for script in ([text_chunks("a")], [Die()], [text_chunks("a")[:1], Die()], [Stall()]):
        engine = ScriptedEngine(script)
        home = deployment(engine, slots=1)
        run = Generation(home, MODEL, chat(), visit(), desk(), 0.02, Settled())
        with suppress(StudioError):
            await events_of(run)
        assert home.slots.busy == 0


async def test_too_long_a_prompt_names_the_range_and_wakes_no_engine() -> None:
    engine = ScriptedEngine([text_chunks("a")])
    settled = Settled()
    with pytest.raises(StudioError) as refusal:
        await events_of(generation(engine, chat("word " * 5000), settled))
    assert refusal.value.message == "Range of input length should be [1, 4095]"
    assert refusal.value.kind is ErrorKind.CONTEXT_TOO_LONG
    assert settled.only.ending is Ending.REFUSED
    assert engine.started == 0


async def test_an_empty_text_prompt_is_refused() -> None:
    request = GenerationRequest(MODEL.name, TextPrompt(""), MODEL.defaults)
    with pytest.raises(StudioError) as refusal:
        await events_of(generation(ScriptedEngine([]), request, Settled()))
    assert refusal.value.param == "prompt"


async def test_the_answer_is_held_to_what_the_context_leaves() -> None:
    engine = ScriptedEngine([text_chunks("a")])
    await events_of(generation(engine, chat(max_tokens=4090), Settled()))
    assert engine.requests[0].max_tokens == 4096 - 11
    await events_of(generation(engine, chat(max_tokens=5), Settled()))
    assert engine.requests[1].max_tokens == 5
