"""The embedded engine with its real worker and the bundled model."""

import asyncio
import errno
import os
import select
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

import ownstudio
from ownstudio.core.request import EngineRequest, Sampling, Tool
from ownstudio.engines.base import (
    Chunk,
    EngineDied,
    EngineFacts,
    EngineFinish,
    EngineRefused,
    EngineState,
    EngineUnavailable,
)
from ownstudio.engines.llamacpp import EngineBounds, LlamaCppEngine, fault_in
from ownstudio.engines.worker import WorkerOptions
from ownstudio.engines.worker_http import WorkerHttp
from ownstudio.qwen.grammar import call_grammar
from ownstudio.qwen.tools import ToolForm

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUNDLED = Path(ownstudio.__file__).parent / "bundled" / "ownstudio-tiny.gguf"
CONTEXT = 512
SLOTS = 16
OPTIONS = WorkerOptions(
    model_path=str(BUNDLED), context=CONTEXT, slots=SLOTS, threads=1, cache_ram_mib=16
)
GREEDY = Sampling(temperature=0.0)


def request(first: int = 1000, *, length: int = 32, **fields: Any) -> EngineRequest:
    """A prompt of `length` tokens from `first` on, which no other test shares."""
    template = EngineRequest(
        token_ids=list(range(first, first + length)), sampling=GREEDY, max_tokens=16
    )
    return msgspec.structs.replace(template, **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LlamaCppEngine, None]:
    shared = LlamaCppEngine(OPTIONS, tmp_path_factory.mktemp("run"))
    yield shared
    await shared.close()


@pytest_asyncio.fixture(loop_scope="module")
async def own_engine(tmp_path: Path) -> AsyncGenerator[LlamaCppEngine, None]:
    """One that a test may kill."""
    own = LlamaCppEngine(OPTIONS._replace(slots=2), tmp_path)
    yield own
    await own.close()


async def answer(engine: LlamaCppEngine, asked: EngineRequest) -> list[Chunk]:
    async with aclosing(engine.stream(asked)) as stream:
        return [chunk async for chunks in stream for chunk in chunks]


def text(chunks: list[Chunk], choice: int = 0) -> str:
    return "".join(chunk.text for chunk in chunks if chunk.choice == choice)


@asynccontextmanager
async def closing(engine: LlamaCppEngine) -> AsyncGenerator[LlamaCppEngine, None]:
    try:
        yield engine
    finally:
        await engine.close()


async def busy_slots(engine: LlamaCppEngine) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(engine.socket_path))) as session,
        session.get(
            "http://worker/slots", headers={"Authorization": f"Bearer {engine.key}"}
        ) as response,
    ):
        return sum(slot["is_processing"] for slot in await response.json())


async def seconds_until_idle(engine: LlamaCppEngine) -> float:
    begun = time.monotonic()
    while await busy_slots(engine):
        assert time.monotonic() - begun < 10
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


async def test_it_starts_on_demand_once_for_all(own_engine: LlamaCppEngine) -> None:
    assert own_engine.state() is EngineState.STOPPED
    await asyncio.gather(*(answer(own_engine, request(max_tokens=2)) for _ in range(4)))
    assert own_engine.state() is EngineState.READY
    assert (await own_engine.supervisor.ensure_ready()).number == 1
    assert await own_engine.ready() == EngineFacts(context=CONTEXT, slots=2)


async def test_the_socket_is_private_and_asks_for_the_key(engine: LlamaCppEngine) -> None:
    await engine.ready()
    assert engine.socket_path.parent.stat().st_mode & 0o777 == 0o700
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(engine.socket_path))) as session,
        session.post("http://worker/completion", json={"prompt": [1]}) as response,
    ):
        assert response.status == 401


async def test_the_limit_ends_a_choice_and_every_token_is_counted(engine: LlamaCppEngine) -> None:
    chunks = await answer(engine, request(2000))
    assert chunks[-1].finish in EngineFinish
    if chunks[-1].finish is EngineFinish.LIMIT:
        assert chunks[-1].tokens == 16
    counts = [chunk.tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert [chunk.finish for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_a_prompt_seen_before_comes_from_the_cache(engine: LlamaCppEngine) -> None:
    asked = request(3000, length=100, max_tokens=4)
    cold = await answer(engine, asked)
    warm = await answer(engine, asked)
    assert (cold[-1].cached_tokens, warm[-1].cached_tokens) == (0, 99)
    assert text(cold) == text(warm)


def long_request(first: int, **fields: Any) -> EngineRequest:
    """One that goes on for hundreds of tokens: an end token is next to impossible at this temperature."""
    hot = Sampling(temperature=50.0, top_k=0, seed=first)
    return request(first, sampling=hot, max_tokens=400, **fields)


async def test_sixteen_requests_share_the_engine(engine: LlamaCppEngine) -> None:
    """Continuous batching: all sixteen have begun while none has ended."""
    all_begun = asyncio.Barrier(SLOTS + 1)

    async def begin(number: int) -> None:
        async with aclosing(engine.stream(long_request(4000 + 100 * number))) as stream:
            await anext(stream)
            await all_begun.wait()
            await anext(stream)
            await all_begun.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(SLOTS):
            group.create_task(begin(number))
        await all_begun.wait()
        assert await busy_slots(engine) == SLOTS
        await all_begun.wait()


@pytest.mark.parametrize("n", [2, 3, 4])
async def test_choices_interleave(engine: LlamaCppEngine, n: int) -> None:
    chunks = await answer(
        engine, request(8000 + n, n=n, max_tokens=12, sampling=Sampling(temperature=50.0, seed=7))
    )
    ends = [place for place, chunk in enumerate(chunks) if chunk.finish]
    assert {chunks[place].choice for place in ends} == set(range(n))
    assert {chunk.choice for chunk in chunks[: ends[0]]} == set(range(n))
    assert len({text(chunks, choice) for choice in range(n)}) == n


async def test_choices_share_one_prefill(engine: LlamaCppEngine) -> None:
    """The first token of four choices comes nearly as soon as that of one: no four prefills."""

    async def first_chunk_s(first: int, n: int) -> float:
        begun = time.monotonic()
        async with aclosing(engine.stream(long_request(first, length=480, n=n))) as stream:
            await anext(stream)
        return time.monotonic() - begun

    alone = min([await first_chunk_s(20_000 + 500 * k, 1) for k in range(3)])
    together = min([await first_chunk_s(30_000 + 500 * k, 4) for k in range(3)])
    assert together < 2.5 * alone


async def test_a_choice_is_drawn_with_its_own_seed(engine: LlamaCppEngine) -> None:
    def asked(seed: int, n: int) -> EngineRequest:
        return request(9000, n=n, sampling=Sampling(temperature=2.0, top_k=50, seed=seed))

    both = await answer(engine, asked(11, 2))
    second_alone = await answer(engine, asked(12, 1))
    assert text(both, 1) == text(second_alone)


async def test_the_same_seed_writes_the_same(engine: LlamaCppEngine) -> None:
    def asked(seed: int) -> EngineRequest:
        return request(9100, sampling=Sampling(temperature=2.0, top_k=50, seed=seed))

    seed = 2**63 + 5
    first, again, other = [text(await answer(engine, asked(s))) for s in (seed, seed, seed + 1)]
    assert first == again
    assert first != other


async def test_tokens_inside_a_character_are_counted_though_not_sent(
    engine: LlamaCppEngine,
) -> None:
    """Hot sampling from the whole vocabulary soon draws a token that breaks a character."""
    for seed in range(50):
        sampling = Sampling(temperature=50.0, seed=seed)
        chunks = await answer(engine, request(9200, max_tokens=100, sampling=sampling))
        sent = sum(len(chunk.token_ids) for chunk in chunks)
        if sent < chunks[-1].tokens:
            break
    assert sent < chunks[-1].tokens
    if chunks[-1].finish is EngineFinish.LIMIT:
        assert chunks[-1].tokens == 100


async def test_log_probabilities(engine: LlamaCppEngine) -> None:
    hot = Sampling(temperature=50.0, seed=3)
    chunks = await answer(engine, request(9300, top_logprobs=2, sampling=hot))
    chunk = next(chunk for chunk in chunks if chunk.text.isprintable() and chunk.logprobs)
    (entry,) = chunk.logprobs
    assert entry.token == bytes(entry.bytes).decode() == chunk.text
    assert len(entry.top) == 2
    assert entry.logprob <= entry.top[0].logprob < 0
    bare = await answer(engine, request(9300, top_logprobs=0, sampling=hot))
    assert [one.top for chunk in bare for one in chunk.logprobs][:1] == [()]
    without = await answer(engine, request(9300, sampling=hot))
    assert not any(chunk.logprobs for chunk in without)


@pytest.mark.parametrize("n", [1, 2])
async def test_a_hang_up_frees_the_slots(engine: LlamaCppEngine, n: int) -> None:
    async with aclosing(engine.stream(long_request(9400 + n, n=n))) as stream:
        begun = {chunk.choice for chunk in await anext(stream)}
        while len(begun) < n:
            begun |= {chunk.choice for chunk in await anext(stream)}
        assert await busy_slots(engine) == n
    assert await seconds_until_idle(engine) < 1.0


async def test_a_hang_up_during_the_prefill_ends_it(tmp_path: Path) -> None:
    """This prompt would take seconds; the server by itself would look for a hang-up only once a second."""
    engine = LlamaCppEngine(OPTIONS._replace(slots=1, context=8192), tmp_path)
    async with closing(engine):
        facts = await engine.ready()
        prompt = request(0, length=facts.context - 8, max_tokens=1)
        first = asyncio.ensure_future(anext(engine.stream(prompt)))
        await asyncio.sleep(0.3)
        assert await busy_slots(engine) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await seconds_until_idle(engine) < 0.9


async def test_too_long_a_prompt_is_refused(engine: LlamaCppEngine) -> None:
    with pytest.raises(EngineRefused, match="context size"):
        await answer(engine, request(9600, length=CONTEXT + 1))


async def test_the_context_bounds_an_answer(engine: LlamaCppEngine) -> None:
    chunks = await answer(
        engine,
        request(9700, length=CONTEXT - 4, max_tokens=100, sampling=Sampling(temperature=50.0)),
    )
    assert chunks[-1].finish is EngineFinish.LIMIT
    assert chunks[-1].tokens == 4


async def test_an_unknown_token_is_refused(engine: LlamaCppEngine) -> None:
    with pytest.raises(EngineRefused, match="invalid tokens"):
        await answer(engine, request(2**31 - 40))


async def test_more_choices_than_slots_are_refused(engine: LlamaCppEngine) -> None:
    with pytest.raises(ValueError, match="n"):
        await answer(engine, request(n=SLOTS + 1))


async def test_a_worker_killed_in_mid_stream_is_known_at_once_and_replaced(
    own_engine: LlamaCppEngine,
) -> None:
    async with aclosing(own_engine.stream(long_request(1000))) as stream:
        await anext(stream)
        pid = own_engine.supervisor.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        with pytest.raises(EngineDied):
            async for _ in stream:
                pass
    assert time.monotonic() - begun < 1.0
    # Whoever tries again at once gets the next worker, not the dead one.
    assert (await answer(own_engine, request(max_tokens=2)))[-1].finish
    assert (await own_engine.supervisor.ensure_ready()).number == 2


async def test_a_silent_worker_is_ended_and_replaced(tmp_path: Path) -> None:
    bounds = EngineBounds(first_chunk_s=60.0, gap_s=1.0)
    engine = LlamaCppEngine(OPTIONS._replace(slots=1), tmp_path, bounds=bounds)
    async with closing(engine), aclosing(engine.stream(long_request(1000))) as stream:
        await anext(stream)
        pid = engine.supervisor.pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineDied, match="no token"):
            async for _ in stream:
                pass
        assert (await answer(engine, request(max_tokens=2)))[-1].finish


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (BUNDLED.read_bytes()[:3_000_000], "."),
        (b"<html>404</html>" * 99, "invalid magic"),
        (b"", "."),
        (None, "No such file"),
    ],
    ids=["truncated", "web page", "empty", "missing"],
)
async def test_a_model_that_does_not_load_is_named_with_its_fault(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    model = tmp_path / "broken.gguf"
    if content is not None:
        model.write_bytes(content)
    options = OPTIONS._replace(model_path=str(model))
    async with closing(LlamaCppEngine(options, tmp_path / "run", name="small")) as engine:
        with pytest.raises(EngineUnavailable) as refusal:
            await engine.ready()
        assert engine.state() is EngineState.FAILED
    words = str(refusal.value)
    assert words.startswith("small could not be started: it exited with status 1: ")
    assert "broken.gguf" in words
    assert fault in words
    assert str(tmp_path) not in words


async def test_a_worker_that_hangs_before_a_first_token_is_replaced(tmp_path: Path) -> None:
    bounds = EngineBounds(probe_after_s=0.3, probe_s=0.3)
    engine = LlamaCppEngine(OPTIONS._replace(slots=2), tmp_path, bounds=bounds)
    async with closing(engine):
        await engine.ready()
        pid = engine.supervisor.pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(EngineDied):
            await answer(engine, request(1000))
        assert time.monotonic() - begun < 3.0
        assert (await answer(engine, request(max_tokens=2)))[-1].finish
        assert (await engine.supervisor.ensure_ready()).number == 2


async def test_a_worker_that_cannot_be_asked_from_here_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = EngineBounds(probe_after_s=0.1)
    engine = LlamaCppEngine(OPTIONS._replace(slots=1), tmp_path, bounds=bounds)
    asked = asyncio.Event()

    def no_file_left(*_: object) -> None:
        asked.set()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with closing(engine):
        await engine.ready()
        pid = engine.supervisor.pid()
        assert pid is not None
        async with aclosing(engine.stream(long_request(1000))) as stream:
            await anext(stream)
            monkeypatch.setattr(WorkerHttp, "get", no_file_left)
            os.kill(pid, signal.SIGSTOP)
            more = asyncio.ensure_future(anext(stream))
            await asyncio.wait_for(asked.wait(), 5.0)
            os.kill(pid, signal.SIGCONT)
            assert await more
        assert (await engine.supervisor.ensure_ready()).number == 1


async def test_clients_without_patience_do_not_keep_a_hanging_worker(tmp_path: Path) -> None:
    bounds = EngineBounds(probe_after_s=0.3, probe_s=0.3)
    engine = LlamaCppEngine(OPTIONS._replace(slots=2), tmp_path, bounds=bounds)
    async with closing(engine):
        incarnation = await engine.supervisor.ensure_ready()
        pid = engine.supervisor.pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer(engine, request(1000)), 0.2)
        assert await engine.supervisor.wait_left(incarnation, 3.0)


async def test_a_worker_deep_in_a_prefill_is_asked_and_left_alone(tmp_path: Path) -> None:
    """Its first token comes later than a silence may last, but its progress is reported."""
    bounds = EngineBounds(probe_after_s=0.1, gap_s=1.0)
    engine = LlamaCppEngine(OPTIONS._replace(slots=1, context=4096), tmp_path, bounds=bounds)
    async with closing(engine):
        facts = await engine.ready()
        begun = time.monotonic()
        assert await answer(engine, request(0, length=facts.context - 8, max_tokens=1))
        assert time.monotonic() - begun > bounds.gap_s
        assert (await engine.supervisor.ensure_ready()).number == 1


@pytest.mark.parametrize("lost", ["socket", "directory"])
async def test_a_lost_socket_is_made_anew(tmp_path: Path, lost: str) -> None:
    engine = LlamaCppEngine(OPTIONS._replace(slots=1), tmp_path / "run")
    async with closing(engine):
        await engine.ready()
        engine.socket_path.unlink()
        if lost == "directory":
            engine.socket_path.parent.rmdir()
        with pytest.raises(EngineDied):
            await answer(engine, request(1000))
        assert (await answer(engine, request(max_tokens=2)))[-1].finish
        assert (await engine.supervisor.ensure_ready()).number == 2
        assert engine.socket_path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_worker_ends_at_once_even_while_it_writes(tmp_path: Path) -> None:
    engine = LlamaCppEngine(OPTIONS, tmp_path)
    async with closing(engine), aclosing(engine.stream(long_request(1000))) as stream:
        await anext(stream)
        begun = time.monotonic()
        await engine.close()
        assert time.monotonic() - begun < 1.0


TOOLS = [Tool(name="now", parameters='{"type": "object", "properties": {}}')]


async def test_a_grammar_holds_from_the_first_token_to_the_end(engine: LlamaCppEngine) -> None:
    forced = call_grammar(TOOLS, ToolForm.JSON, lazy=False)
    asked = request(9800, grammar=forced.text, max_tokens=200, sampling=Sampling(temperature=50.0))
    chunks = await answer(engine, asked)
    call = text(chunks)
    assert call.startswith("<tool_call>\n")
    assert call.endswith("\n</tool_call>")
    assert msgspec.json.decode(call[len("<tool_call>\n") : -len("\n</tool_call>")]) == {
        "name": "now",
        "arguments": {},
    }
    assert chunks[-1].finish is EngineFinish.END_TOKEN


async def test_a_grammar_whose_trigger_is_one_token_may_wait_for_it(engine: LlamaCppEngine) -> None:
    lazy = call_grammar(TOOLS, ToolForm.JSON, lazy=True)
    assert lazy.trigger
    asked = request(9900, grammar=lazy.text, grammar_trigger=lazy.trigger)
    # Nothing was triggered, so nothing was held.
    assert text(await answer(engine, asked)) == text(await answer(engine, request(9900)))


async def test_a_death_from_outside_is_not_explained_by_the_log() -> None:
    refused = (
        "0.00.1 E srv    send_error: task id = 1, error: request (513 tokens) exceeds the context\n"
        "0.00.2 W srv          stop: cancel task, id_task = 1\n"
    )
    assert fault_in(refused, -signal.SIGSEGV, Path("/m/x.gguf")) == ""
    assert fault_in(refused, None, Path("/m/x.gguf")) == ""
    failed = "0.00.3 E ggml: out of memory\n"
    assert fault_in(failed, -signal.SIGKILL, Path("/m/x.gguf")) == ""
    assert fault_in(refused + failed, -signal.SIGABRT, Path("/m/x.gguf")) == "x.gguf: out of memory"


async def test_a_worker_that_ends_by_itself_is_explained_by_its_last_line() -> None:
    log = "0.00.1 W load: odd\nthe worker could not start: no such thing\n"
    words = fault_in(log, 1, Path("/m/x.gguf"))
    assert words == "x.gguf: the worker could not start: no such thing"
    assert fault_in("", 1, Path("/m/x.gguf")) == ""


async def test_the_first_error_of_a_log_is_the_fault() -> None:
    log = (
        "0.00.1 W load: control-looking token\n"
        "0.00.2 E llama_model_load: error loading model: tensor 'a' is missing\n"
        "0.00.3 E srv init: exiting due to model loading error\n"
    )
    assert fault_in(log, 1, Path("/m/x.gguf")) == "x.gguf: tensor 'a' is missing"
    assert (
        fault_in("GGML_ASSERT(n > 0) failed\n", -signal.SIGABRT, Path("/m/x.gguf"))
        == "x.gguf: GGML_ASSERT(n > 0) failed"
    )


async def test_too_long_a_socket_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="longer than"):
        LlamaCppEngine(OPTIONS, tmp_path / ("x" * 100))


PARENT = """
import asyncio, sys
from pathlib import Path
from ownstudio.engines.llamacpp import LlamaCppEngine
from ownstudio.engines.worker import WorkerOptions

async def main():
    engine = LlamaCppEngine(WorkerOptions(model_path=sys.argv[1], context=256, slots=1), Path(sys.argv[2]))
    await engine.ready()
    print(engine.supervisor.pid(), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pidfd")
async def test_kill_9_of_the_gateway_leaves_no_worker(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(BUNDLED), str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(ownstudio.__file__).parents[1])},
    )  # fmt: skip
    assert parent.stdout
    worker = os.pidfd_open(int(await parent.stdout.readline()))
    parent.kill()
    ended, _, _ = select.select([worker], [], [], 1.0)
    assert ended
    os.close(worker)
    await parent.wait()
