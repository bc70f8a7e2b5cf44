"""Text generation over a WebSocket, on a real socket: tasks, refusals, hang-ups."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ownstudio.dialects.dashscope import DashScope
from ownstudio.web import native_socket
from support.scripted import Die, ScriptedEngine, Stall, text_chunks
from support.serving import Served, served

SOCKET = "/api-ws/v1/inference"
TASK = "e110b69dd96841a28eb66617c7f82719"

Json = dict[str, Any]


def run_task(streaming: str = "out", task_id: str = TASK, **payload: Any) -> str:
    asked: Json = {
        "model": "qwen-plus",
        "task": "text-generation",
        "task_group": "aigc",
        "function": "generation",
        "parameters": {"result_format": "message"},
        "input": {"messages": [{"role": "user", "content": "hi"}]},
    }
    header = {"action": "run-task", "task_id": task_id, "streaming": streaming}
    return json.dumps({"header": header, "payload": asked | payload})


@asynccontextmanager
async def connected(
    engine: ScriptedEngine, tmp_path: Path, path: str = SOCKET
) -> AsyncGenerator[tuple[Served, aiohttp.ClientWebSocketResponse], None]:
    async with served(engine, tmp_path) as here:
        async with here.client.ws_connect(path) as socket:
            yield here, socket


async def events_of(socket: aiohttp.ClientWebSocketResponse) -> list[Json]:
    """The messages of one task, up to its end."""
    told: list[Json] = []
    while not told or told[-1]["header"]["event"] not in ("task-finished", "task-failed"):
        told.append(await socket.receive_json(timeout=5))
    return told


def contents(events: list[Json]) -> list[str]:
    return [
        event["payload"]["output"]["choices"][0]["message"]["content"]
        for event in events
        if event["payload"]
    ]


@pytest.mark.parametrize("path", [SOCKET, SOCKET + "/"])
async def test_a_task_that_streams(tmp_path: Path, path: str) -> None:
    engine = ScriptedEngine([[chunk] for chunk in text_chunks("a", "b")])
    async with connected(engine, tmp_path, path) as (_, socket):
        await socket.send_str(run_task())
        told = await events_of(socket)
    assert [event["header"]["event"] for event in told] == [
        "task-started",
        "result-generated",
        "result-generated",
        "task-finished",
    ]
    assert {event["header"]["task_id"] for event in told} == {TASK}
    assert contents(told) == ["a", "ab", "ab"]
    assert told[-1]["payload"]["output"]["choices"][0]["finish_reason"] == "stop"
    assert told[-1]["payload"]["usage"]["output_tokens"] == 2


async def test_a_task_that_does_not_stream_and_another_after_it(tmp_path: Path) -> None:
    async with connected(ScriptedEngine([text_chunks("a", "b")]), tmp_path) as (_, socket):
        for _ in range(2):
            await socket.send_str(run_task("none"))
            told = await events_of(socket)
            assert contents(told) == ["ab"]
            assert [event["header"]["event"] for event in told] == [
                "task-started",
                "result-generated",
                "task-finished",
            ]


async def test_a_task_that_is_sent_too_early_waits(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall, text_chunks("a")], [text_chunks("b")])
    async with connected(engine, tmp_path) as (_, socket):
        await socket.send_str(run_task("none"))
        await stall.reached.wait()
        await socket.send_str(run_task("none", "second"))
        stall.go.set()
        first, second = await events_of(socket), await events_of(socket)
    assert (contents(first), contents(second)) == (["a"], ["b"])
    assert second[0]["header"]["task_id"] == "second"


async def test_whoever_sends_too_much_meanwhile_is_hung_up_on(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall])
    aborted = asyncio.Event()
    engine.on_abort = aborted.set
    async with connected(engine, tmp_path) as (_, socket):
        for _ in range(20):
            await socket.send_str(run_task())
        await asyncio.wait_for(aborted.wait(), 5)


async def test_what_waits_is_bounded_in_bytes_as_it_comes_in(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall])
    aborted = asyncio.Event()
    engine.on_abort = aborted.set
    async with connected(engine, tmp_path) as (_, socket):
        await socket.send_str(run_task("none"))
        await stall.reached.wait()
        for _ in range(3):
            await socket.send_str("x" * 400_000)
        assert (await socket.receive_json(timeout=5))["header"]["event"] == "task-started"
        told = await socket.receive(timeout=5)
        assert (told.type, told.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        await asyncio.wait_for(aborted.wait(), 5)


@pytest.mark.parametrize("large", [False, True])
async def test_a_large_message_is_read_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    threads: list[int] = []

    def read_message(data: bytes) -> Any:
        threads.append(threading.get_ident())
        return original(data)

    class Noted(DashScope):
        def read(self, *given: Any) -> Any:
            threads.append(threading.get_ident())
            return super().read(*given)

    original = native_socket.read_message
    monkeypatch.setattr(native_socket, "read_message", read_message)
    monkeypatch.setattr(native_socket, "DashScope", Noted)
    content = "word " * 60_000 if large else "hi"
    async with connected(ScriptedEngine([text_chunks("a")]), tmp_path) as (_, socket):
        await socket.send_str(
            run_task("none", input={"messages": [{"role": "user", "content": content}]})
        )
        await events_of(socket)
    here = threading.get_ident()
    assert [thread == here for thread in threads] == [not large] * 2


async def test_a_revoked_key_starts_no_more_tasks(tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a")])
    async with connected(engine, tmp_path) as (here, socket):
        await socket.send_str(run_task("none"))
        assert contents(await events_of(socket)) == ["a"]
        await here.keyring.revoke((await here.keyring.authenticate(here.key)).key_id)
        async with asyncio.timeout(5):
            while here.keyring.cached(here.key) is not None:
                await asyncio.sleep(0.02)
        await socket.send_str(run_task("none", "second"))
        (failed,) = await events_of(socket)
        assert failed["header"] == {
            "task_id": "second",
            "event": "task-failed",
            "error_code": "InvalidApiKey",
            "error_message": "Invalid API-key provided.",
            "attributes": {},
        }
        told = await socket.receive(timeout=5)
        assert (told.type, told.data) == (aiohttp.WSMsgType.CLOSE, 1008)
    assert len(engine.requests) == 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (run_task(model="gpt-9"), "InvalidParameter"),
        (run_task(input={}), "BadRequest.EmptyInput"),
        (run_task(task="text-to-speech"), "InvalidParameter"),
        (run_task(parameters={"temperature": 2}), "InvalidParameter"),
        ("{", "InvalidParameter"),
        ("[]", "InvalidParameter"),
    ],
)
async def test_refusals_are_events_and_the_connection_stays(
    tmp_path: Path, sent: str, code: str
) -> None:
    async with connected(ScriptedEngine([text_chunks("a")]), tmp_path) as (_, socket):
        await socket.send_str(sent)
        (failed,) = await events_of(socket)
        assert failed["header"]["event"] == "task-failed"
        assert failed["header"]["error_code"] == code
        assert failed["header"]["error_message"]
        await socket.send_str(run_task("none"))
        assert contents(await events_of(socket)) == ["a"]


async def test_an_engine_that_dies(tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a", "b")[:1], Die()])
    async with connected(engine, tmp_path) as (_, socket):
        await socket.send_str(run_task())
        told = await events_of(socket)
    assert contents(told) == ["a"]
    assert told[-1]["header"]["error_code"] == "InternalError.Algo"


async def test_a_hang_up_aborts_the_task(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall])
    aborted = asyncio.Event()
    engine.on_abort = aborted.set
    async with connected(engine, tmp_path) as (here, socket):
        await socket.send_str(run_task())
        await stall.reached.wait()
        await socket.close()
        await asyncio.wait_for(aborted.wait(), 5)
        await asyncio.wait_for(here.studio.idle.wait(), 5)
        page = await metrics_once_closed(here)
    assert 'ownstudio_requests_total{route="native-socket",status="499"} 1.0' in page


async def test_a_message_that_is_too_large_ends_the_connection(tmp_path: Path) -> None:
    async with connected(ScriptedEngine([]), tmp_path) as (_, socket):
        await socket.send_str("x" * ((1 << 20) + 1))
        told = await socket.receive(timeout=5)
        assert told.type is aiohttp.WSMsgType.CLOSE
        assert told.data == 1009


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (SOCKET, None),
        (SOCKET, "sk-wrong"),
        ("/nowhere", "right"),
        ("/compatible-mode/v1/chat/completions", "right"),
    ],
)
async def test_without_a_key_or_elsewhere_there_is_no_socket(
    tmp_path: Path, path: str, key: str | None
) -> None:
    async with (
        served(ScriptedEngine([]), tmp_path) as here,
        aiohttp.ClientSession(f"http://127.0.0.1:{here.port}") as stranger,
    ):
        shown = here.key if key == "right" else key
        headers = {} if shown is None else {"authorization": f"Bearer {shown}"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stranger.ws_connect(path, headers=headers)
        assert refused.value.status == 403


@pytest.mark.parametrize("streaming", ["none", "out"])
async def test_it_is_counted(tmp_path: Path, streaming: str) -> None:
    async with connected(ScriptedEngine([text_chunks("a")]), tmp_path) as (here, socket):
        await socket.send_str(run_task(streaming))
        await events_of(socket)
        await socket.close()
        page = await metrics_once_closed(here)
    assert 'ownstudio_completion_tokens_total{deployment="test"} 1.0' in page
    assert 'ownstudio_requests_total{route="native-socket",status="101"} 1.0' in page


async def test_a_close_without_a_task_is_no_hang_up(tmp_path: Path) -> None:
    async with connected(ScriptedEngine([]), tmp_path) as (here, socket):
        await socket.close()
        page = await metrics_once_closed(here)
    assert 'ownstudio_requests_total{route="native-socket",status="101"} 1.0' in page


async def metrics_once_closed(here: Served) -> str:
    """The page of metrics, once it counts a connection that has ended."""
    async with asyncio.timeout(5):
        while True:
            async with here.client.get("/metrics") as answer:
                page = await answer.text()
            if 'ownstudio_requests_total{route="native-socket"' in page:
                return page
            await asyncio.sleep(0.02)
