"""What is refused at the door, over a real socket: each with its status, its shape and its request id."""

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ownstudio.qwen.tokenizer import Tokenizer
from support.scripted import ScriptedEngine, text_chunks
from support.serving import CHAT, Served, served
from support.studio import MODEL

ASKED: dict[str, Any] = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hello"}]}


def body(**changed: Any) -> bytes:
    return json.dumps(ASKED | changed).encode()


async def refused(
    here: Served, data: bytes | io.BytesIO, path: str = CHAT
) -> tuple[int, dict[str, Any]]:
    """The status and the `error` of an answer, once its shape and ids have been checked."""
    async with here.client.post(path, data=data) as answer:
        whole = await answer.json()
        assert answer.content_type == "application/json"
        assert whole["request_id"] == answer.headers["x-request-id"]
        assert whole["id"].endswith(whole["request_id"])
        assert set(whole["error"]) == {"message", "type", "param", "code"}
        error: dict[str, Any] = whole["error"]
        return answer.status, error


@pytest.mark.parametrize(
    ("data", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"\xff\xfe", 400, None),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, None),
        (rb'{"model":"qwen-plus","messages":[{"role":"user","content":"\ud83d"}]}', 400, None),
        (body(model="gpt-9"), 404, "model"),
        (body(messages=[]), 400, "messages"),
        (body(messages=[{"role": "assistant", "content": "x"}]), 400, "messages"),
        (body(temperature=2), 400, "temperature"),
        (body(top_p=0), 400, "top_p"),
        (body(n=5), 400, "n"),
        (body(max_tokens=0), 400, "max_tokens"),
        (body(max_tokens=1_000_000), 400, "max_tokens"),
        (body(seed=-1), 400, "seed"),
        (body(stop=["a", 1]), 400, "stop"),
        (body(stream="yes"), 400, "stream"),
        (body(tools=[{"type": "function", "function": {"name": "no spaces"}}]), 400, None),
        (body(logit_bias={"5": 1}), 400, "logit_bias"),
        (body(messages=[{"role": "user", "content": "word " * 5000}]), 400, "messages"),
    ],
)
async def test_a_bad_body_names_its_fault_and_costs_nothing(
    tmp_path: Path, data: bytes, status: int, param: str | None
) -> None:
    engine = ScriptedEngine([text_chunks("a")])
    async with served(engine, tmp_path) as here:
        got_status, error = await refused(here, data)
        assert got_status == status
        if param is not None:
            assert error["param"] == param
        assert engine.requests == []
        # The server is as it was.
        async with here.client.post(CHAT, data=body()) as answer:
            assert answer.status == 200


async def test_a_body_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path, body_bytes_max=1000) as here:
        assert (await refused(here, b"x" * 1001))[0] == 413

        async def endless() -> Any:
            for _ in range(10):
                yield b"x" * 500

        async with here.client.post(CHAT, data=endless()) as answer:
            assert answer.status == 413


async def test_ten_megabytes_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        head = here.raw_chat(b"").replace(b"content-length: 0", b"content-length: 10000000")
        writer.write(head)
        status = await asyncio.wait_for(reader.readline(), 5)
        assert b"413" in status
        writer.close()


@pytest.mark.parametrize(
    "header", [{}, {"authorization": "Basic eA=="}, {"authorization": "Bearer"}]
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/compatible-mode/v1/no-such-path"])
async def test_without_a_key_everything_is_401(
    tmp_path: Path, header: dict[str, str], path: str
) -> None:
    async with (
        served(ScriptedEngine([]), tmp_path) as here,
        aiohttp.ClientSession(f"http://127.0.0.1:{here.port}") as stranger,
    ):
        async with stranger.post(path, data=b"{", headers=header) as answer:
            assert answer.status == 401
            assert (await answer.json())["error"]["code"] == "invalid_api_key"


async def test_a_wrong_key_is_401_and_a_revoked_one_within_a_second(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        wrong = {"authorization": "Bearer sk-wrong"}
        async with here.client.post(CHAT, data=body(), headers=wrong) as answer:
            assert answer.status == 401
            assert (await answer.json())["error"]["message"] == "Incorrect API key provided. "
        (key,) = await here.keyring.list()
        await here.keyring.revoke(key.id)
        async with asyncio.timeout(1):
            while True:
                async with here.client.post(CHAT, data=body()) as answer:
                    if answer.status == 401:
                        break
                await asyncio.sleep(0.02)


async def test_unknown_paths_and_methods_are_told_in_the_dialect(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        status, error = await refused(here, b"{}", "/compatible-mode/v1/embeddings")
        assert (status, error["code"]) == (404, "not_found")
        async with here.client.get(CHAT) as answer:
            assert answer.status == 405
            message = (await answer.json())["error"]["message"]
            assert answer.headers["allow"] == "POST"
        assert message == "Request method 'GET' is not supported."
        for path in ("/nowhere", "/v1/models/%0d%0aX:y"):
            async with here.client.get(path) as answer:
                assert answer.status == 404
                assert answer.headers["x-request-id"]


async def test_fields_that_no_table_knows_are_named_in_a_header(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        async with here.client.post(CHAT, data=body(temprature=1, user="me")) as answer:
            assert answer.status == 200
            assert answer.headers["x-ownstudio-ignored"] == "temprature"


async def test_a_huge_prompt_is_refused_before_it_is_tokenized(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path, body_bytes_max=8 << 20) as here:
        huge = body(messages=[{"role": "user", "content": "word " * 1_500_000}])
        started = time.perf_counter()
        status, error = await refused(here, io.BytesIO(huge))
        assert (status, error["param"]) == (400, "messages")
        assert "Range of input length should be [1, 4095]" in error["message"]
        assert time.perf_counter() - started < 2


LONG = "word " * 200_000


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ({"function": {"name": LONG}}, {}),
        ({"id": LONG}, {}),
        ({}, {"tool_call_id": LONG}),
        ({}, {"name": LONG}),
    ],
    ids=["the name of a function", "the id of a call", "the id of an answer", "a name"],
)
async def test_a_huge_name_or_id_is_refused_before_it_is_tokenized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, answer: Any
) -> None:
    def encode(self: Tokenizer, text: str, *, specials: bool) -> list[int]:
        raise AssertionError("tokenized")

    messages = [
        *ASKED["messages"],
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}} | call]},
        {"role": "tool", "content": "ok"} | answer,
    ]
    async with served(ScriptedEngine([]), tmp_path, body_bytes_max=8 << 20) as here:
        monkeypatch.setattr(Tokenizer, "encode", encode)
        status, error = await refused(here, io.BytesIO(body(messages=messages)))
    assert (status, error["param"]) == (400, "messages")
    assert "Range of input length should be [1, 4095]" in error["message"]


async def test_models(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        async with here.client.get("/v1/models") as answer:
            listed = await answer.json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == [MODEL.name]
        async with here.client.get(f"/v1/models/{MODEL.name}") as answer:
            assert (await answer.json())["object"] == "model"
        async with here.client.get("/v1/models/none") as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["code"] == "model_not_found"


async def test_metrics_count_endings_and_know_no_client(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a", "b")]), tmp_path) as here:
        async with here.client.post(CHAT, data=body()) as answer:
            request_id = answer.headers["x-request-id"]
        async with here.client.get("/metrics") as answer:
            page = await answer.text()
    assert 'ownstudio_generations_total{deployment="test",ending="stop"} 1.0' in page
    assert 'ownstudio_completion_tokens_total{deployment="test"} 2.0' in page
    assert 'ownstudio_requests_total{route="chat",status="200"} 1.0' in page
    assert request_id not in page
    assert here.key not in page


async def test_health_tells_an_engine_that_is_down(tmp_path: Path) -> None:
    async with served(ScriptedEngine(fault="x.gguf: cut off"), tmp_path) as here:
        async with here.client.get("/health") as answer:
            assert answer.status == 503
            assert (await answer.json())["deployments"] == {"test": "failed"}
        async with here.client.post(CHAT, data=body()) as answer:
            assert answer.status == 503
            assert "cut off" not in await answer.text()
