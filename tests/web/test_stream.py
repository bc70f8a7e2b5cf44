"""Streams over a real socket: hang-ups, stalls, silence, and failures before and after the first byte."""

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from starlette.types import Message

from ownstudio.engines.base import Chunk
from ownstudio.web.exchange import KEEP_ALIVE_COMMENT, Exchange, OpenStreams, Patience
from support.scripted import Die, ScriptedEngine, Stall, text_chunks
from support.serving import CHAT, Served, served

ASKED = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = ASKED | {"stream": True}


async def until(condition: Callable[[], bool], within_s: float = 5) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def open_stream(here: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(here.raw_chat(json.dumps(STREAMED).encode()))
    await writer.drain()
    return reader, writer


async def test_a_hang_up_while_the_engine_is_silent_aborts_it_within_100_ms(tmp_path: Path) -> None:
    stall = Stall()
    aborted = asyncio.Event()
    engine = ScriptedEngine([text_chunks("a")[:1], stall])
    engine.on_abort = aborted.set
    async with served(engine, tmp_path) as here:
        reader, writer = await open_stream(here)
        await reader.readuntil(b'"content":"a"')
        await stall.reached.wait()
        writer.close()
        async with asyncio.timeout(0.1):
            await aborted.wait()
        await asyncio.wait_for(here.studio.idle.wait(), 1)


async def test_a_hang_up_before_the_first_event_aborts_too(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall])
    async with served(engine, tmp_path) as here:
        _, writer = await open_stream(here)
        await stall.reached.wait()
        writer.close()
        await until(lambda: engine.aborted == 1)


async def test_a_hang_up_aborts_an_answer_that_is_not_streamed(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall])
    async with served(engine, tmp_path) as here:
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(here.raw_chat(json.dumps(ASKED).encode()))
        await stall.reached.wait()
        writer.close()
        await until(lambda: engine.aborted == 1)


async def test_a_client_that_reads_nothing_is_hung_up_on(tmp_path: Path) -> None:
    flood: list[list[Chunk]] = [
        [Chunk(0, "x" * 65_536, (1,), tokens)] for tokens in range(1, 2_000)
    ]
    engine = ScriptedEngine(flood)
    patience = Patience(first_byte_s=30, keep_alive_s=30, stall_s=0.2)
    async with served(engine, tmp_path, patience=patience) as here:
        _, writer = await open_stream(here)
        await until(lambda: engine.aborted == 1, within_s=10)
        writer.close()


async def test_a_failure_before_the_first_event_has_its_status(tmp_path: Path) -> None:
    async with served(ScriptedEngine([Die()]), tmp_path) as here:
        async with here.client.post(CHAT, json=STREAMED) as answer:
            assert answer.status == 503
            assert answer.content_type == "application/json"
            assert answer.headers["retry-after"]
            error = (await answer.json())["error"]
    assert error["message"] == "Model is unavailable, please try again later."


async def test_a_failure_in_mid_stream_is_an_event_and_the_end(tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a", "b")[:1], Die()])
    async with served(engine, tmp_path) as here:
        async with here.client.post(CHAT, json=STREAMED) as answer:
            assert answer.status == 200
            frames = (await answer.read()).split(b"\n\n")
    assert b'"content":"a"' in frames[1]
    assert json.loads(frames[-2].removeprefix(b"data: "))["error"]["message"]
    assert b"[DONE]" not in b"".join(frames)


async def test_silence_is_filled_with_comments_and_a_late_failure_stays_in_band(
    tmp_path: Path,
) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall, Die()], [Die()])
    patience = Patience(first_byte_s=0.1, keep_alive_s=0.1, stall_s=30)
    async with served(engine, tmp_path, patience=patience) as here:
        async with here.client.post(CHAT, json=STREAMED) as answer:
            assert answer.status == 200
            assert await answer.content.readline() == b": keep-alive\n"
            stall.go.set()
            rest = await answer.read()
    assert b'data: {"error"' in rest


async def test_one_client_that_takes_nothing_keeps_no_other_waiting() -> None:
    sent: list[bytes] = []
    stuck = asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def hangs(message: Message) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async def breaks(message: Message) -> None:
        raise RuntimeError("the transport is gone")

    async def works(message: Message) -> None:
        sent.append(message.get("body", b""))

    streams = OpenStreams(Patience(first_byte_s=0, keep_alive_s=0, stall_s=0.5))
    ticking = asyncio.ensure_future(streams.run())
    with ExitStack() as stack:
        for send in (hangs, breaks, works):
            exchange = Exchange({"type": "http", "headers": []}, receive, send, "id")
            stack.enter_context(streams.watching(exchange))
        await stuck.wait()
        await until(lambda: sent.count(KEEP_ALIVE_COMMENT) >= 2)
    assert not ticking.done()
    ticking.cancel()


async def test_shutdown_ends_what_runs_with_an_error_event_and_refuses_more(tmp_path: Path) -> None:
    stall = Stall()
    async with served(ScriptedEngine([text_chunks("a")[:1], stall]), tmp_path) as here:
        async with here.client.post(CHAT, json=STREAMED) as answer:
            await stall.reached.wait()
            here.studio.drain()
            async with here.client.post(CHAT, json=ASKED) as refused:
                assert refused.status == 503
                assert refused.headers["retry-after"]
            here.studio.abort_all()
            assert b"shutting down" in await answer.read()
        await asyncio.wait_for(here.studio.idle.wait(), 1)


async def test_a_full_queue_is_503_with_retry_after(tmp_path: Path) -> None:
    stall = Stall()
    async with served(ScriptedEngine([stall]), tmp_path, slots=1, queue_max=0) as here:
        _, writer = await open_stream(here)
        await stall.reached.wait()
        async with here.client.post(CHAT, json=ASKED) as refused:
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) >= 1
        writer.close()


async def test_a_bug_in_mid_stream_is_still_told(tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a")[:1], [Chunk(99, "no such choice", (), 1)]])
    async with served(engine, tmp_path) as here:
        async with here.client.post(CHAT, json=STREAMED) as answer:
            body = await answer.read()
    assert b'data: {"error"' in body
    assert b"IndexError" not in body
