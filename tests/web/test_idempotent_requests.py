"""Goal: over a real socket, in every dialect, a request with an Idempotency-Key is generated once."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.scripted import Die, ScriptedEngine, Stall, text_chunks
from support.serving import CHAT, Served, served

NATIVE = "/api/v1/services/aigc/text-generation/generation"
ASKED = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = ASKED | {"stream": True}
KEYED = {"idempotency-key": "one"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def post(
    here: Served, body: object, path: str = CHAT, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    async with here.client.post(path, json=body, headers=KEYED | headers) as answer:
        head = {name.lower(): value for name, value in answer.headers.items()}
        head.pop("date", None)
        return answer.status, head, await answer.read()


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (CHAT, ASKED, {}),
        (CHAT, STREAMED, {}),
        (NATIVE, {"model": "qwen-plus", "input": {"prompt": "hello"}}, {}),
        (
            NATIVE,
            {"model": "qwen-plus", "input": {"prompt": "hello"}},
            {"x-dashscope-sse": "enable"},
        ),
    ],
)
async def test_a_retry_is_answered_with_the_same_bytes_and_not_generated(
    tmp_path: Path, path: str, body: object, headers: dict[str, str]
) -> None:
    engine = ScriptedEngine([text_chunks("a", "你")])
    async with served(engine, tmp_path) as here:
        status, head, first = await post(here, body, path, **headers)
        retry = await post(here, body, path, **headers)
    assert status == 200
    assert retry == (200, head | {"x-ownstudio-replayed": "true"}, first)
    assert len(engine.requests) == 1


async def test_a_hang_up_aborts_nothing_and_the_retry_gets_the_whole_stream(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([text_chunks("a")[:1], stall, text_chunks("a", "b")[1:]])
    async with served(engine, tmp_path) as here:
        async with here.client.post(CHAT, json=STREAMED, headers=KEYED) as answer:
            await answer.content.readuntil(b'"content":"a"')
            await stall.reached.wait()
            answer.close()
        await asyncio.sleep(0.2)
        assert (engine.open, engine.aborted) == (1, 0)
        stall.go.set()
        status, _, body = await post(here, STREAMED)
    assert (status, len(engine.requests)) == (200, 1)
    texts = [json.loads(frame.removeprefix(b"data: ")) for frame in body.split(b"\n\n")[:-2]]
    said = "".join(text["choices"][0]["delta"].get("content") or "" for text in texts)
    assert said == "ab"
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("body", [ASKED, STREAMED])
@pytest.mark.parametrize("written", [0, 1])
async def test_after_a_failure_a_retry_is_generated(
    tmp_path: Path, body: object, written: int
) -> None:
    broken = [text_chunks("a")[:written], Die()] if written else [Die()]
    # Before its first chunk a dead engine is tried twice.
    scripts = [broken, [text_chunks("b")]] if written else [broken, broken, [text_chunks("b")]]
    engine = ScriptedEngine(*scripts)
    async with served(engine, tmp_path) as here:
        _, _, first = await post(here, body)
        status, head, second = await post(here, body)
    assert b'"error"' in first
    assert status == 200
    assert b'"b"' in second
    assert "x-ownstudio-replayed" not in head


async def test_another_body_is_a_conflict_in_the_words_of_its_dialect(tmp_path: Path) -> None:
    prompt = {"model": "qwen-plus", "input": {"prompt": "hello"}}
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        await post(here, ASKED)
        status, _, body = await post(here, STREAMED)
        assert (status, json.loads(body)["error"]["code"]) == (409, "idempotency_conflict")
        assert (await post(here, prompt, NATIVE))[0] == 200
        status, _, body = await post(here, prompt, NATIVE, **{"x-dashscope-sse": "enable"})
        assert (status, json.loads(body)["message"]) == (
            409,
            "The Idempotency-Key was used for another request.",
        )


async def test_a_shutdown_ends_a_keyed_request_like_any_other(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall], [text_chunks("b")])
    async with served(engine, tmp_path) as here:
        first = asyncio.ensure_future(post(here, ASKED))
        await stall.reached.wait()
        here.studio.abort_all()
        status, head, _ = await first
        assert (status, bool(head["retry-after"])) == (503, True)
        status, _, body = await post(here, ASKED)
    assert status == 200
    assert b'"b"' in body


async def test_a_bad_key_is_refused_by_name(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        status, _, body = await post(here, ASKED, **{"idempotency-key": "two words"})
    assert status == 400
    assert b"Idempotency-Key" in body
