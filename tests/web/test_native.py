"""The native area over a real socket: statuses, headers, streams and refusals."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.web.exchange import Patience
from support.native import body, frames
from support.scripted import Die, ScriptedEngine, Stall, text_chunks
from support.serving import CHAT, Served, served
from support.studio import MODEL

NATIVE = "/api/v1/services/aigc/text-generation/generation"
MULTIMODAL = "/api/v1/services/aigc/multimodal-generation/generation"
SSE = {"X-DashScope-SSE": "enable"}


async def refused(
    here: Served, path: str = NATIVE, *, method: str = "POST", **asked: Any
) -> tuple[int, str, str]:
    """Status, code and message, once the shape has been checked."""
    async with here.client.request(method, path, **asked) as answer:
        told = await answer.json()
        assert answer.content_type == "application/json"
        assert set(told) == {"code", "message", "request_id"}
        assert told["request_id"] == answer.headers["x-request-id"]
        return answer.status, told["code"], told["message"]


async def test_a_whole_answer(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a", "b")]), tmp_path) as here:
        async with here.client.post(NATIVE, data=body()) as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            told = await answer.json()
    assert told["output"] == {"finish_reason": "stop", "text": "ab"}
    assert told["request_id"] == answer.headers["x-request-id"]
    assert told["usage"]["output_tokens"] == 2
    # The engine had three already, which are too few to count.
    assert told["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


@pytest.mark.parametrize("value", ["enable", "Enable", " ENABLE "])
async def test_a_header_makes_it_a_stream(tmp_path: Path, value: str) -> None:
    chunks = text_chunks("a", "b")
    engine = ScriptedEngine([[chunk] for chunk in chunks])
    async with served(engine, tmp_path) as here:
        asked = here.client.post(NATIVE, data=body(), headers={"X-DashScope-SSE": value})
        async with asked as answer:
            assert answer.status == 200
            assert answer.headers["content-type"] == "text/event-stream;charset=UTF-8"
            told = frames(await answer.read())
    assert [data["output"]["text"] for *_, data in told] == ["a", "ab", "ab"]
    assert [data["usage"]["input_tokens"] for *_, data in told] == [9, 9, 9]
    assert {data["request_id"] for *_, data in told} == {answer.headers["x-request-id"]}


@pytest.mark.parametrize("header", [{}, {"X-DashScope-SSE": "disable"}])
async def test_nothing_else_does(tmp_path: Path, header: dict[str, str]) -> None:
    fields = json.loads(body({"stream": True})) | {"stream": True}
    headers = header | {"Accept": "text/event-stream"}
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        async with here.client.post(NATIVE, json=fields, headers=headers) as answer:
            assert (await answer.json())["output"]["text"] == "a"


async def test_the_multimodal_path_answers_with_lists(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        given = body(messages=[{"role": "user", "content": [{"text": "hi"}]}])
        async with here.client.post(MULTIMODAL, data=given) as answer:
            (choice,) = (await answer.json())["output"]["choices"]
            assert choice["message"]["content"] == [{"text": "a"}]
        image = body(messages=[{"role": "user", "content": [{"image": "x"}, {"text": "a"}]}])
        assert await refused(here, MULTIMODAL, data=image) == (
            400,
            "InvalidParameter",
            "Content of type 'image' is not supported: only text is.",
        )


async def test_a_call_made_on_the_multimodal_path_can_be_sent_back_as_it_is(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"text": "hi"}]}]
    engine = ScriptedEngine([CALLED], [text_chunks("a")])
    async with served(engine, tmp_path) as here:
        async with here.client.post(
            MULTIMODAL, data=body({"tools": TOOLS}, messages=asked)
        ) as answer:
            (choice,) = (await answer.json())["output"]["choices"]
        calling = choice["message"]
        assert (choice["finish_reason"], calling["content"]) == ("tool_calls", [])
        result = {"role": "tool", "content": "ok", "tool_call_id": calling["tool_calls"][0]["id"]}
        again = body({"tools": TOOLS}, messages=[*asked, calling, result])
        async with here.client.post(MULTIMODAL, data=again) as answer:
            (choice,) = (await answer.json())["output"]["choices"]
    assert choice["message"]["content"] == [{"text": "a"}]


async def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path, body_bytes_max=1000) as here:
        assert await refused(here, data=b"x" * 1001) == (
            413,
            "BadRequest.TooLarge",
            "Payload Too Large.",
        )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"X-DashScope-Async": "enable"},
            (403, "AccessDenied", "Current user api does not support asynchronous calls."),
        ),
        (
            {"X-DashScope-EncryptionKey": "{}"},
            (
                400,
                "InvalidParameter",
                "The header 'X-DashScope-EncryptionKey' is not supported: send the body as it is.",
            ),
        ),
    ],
)
async def test_headers_that_are_refused(
    tmp_path: Path, headers: dict[str, str], expected: tuple[int, str, str]
) -> None:
    engine = ScriptedEngine([text_chunks("a")])
    async with served(engine, tmp_path) as here:
        assert await refused(here, data=body(), headers=headers) == expected
        assert engine.requests == []


async def test_headers_that_change_nothing(tmp_path: Path) -> None:
    headers = {
        "X-DashScope-WorkSpace": "default",
        "X-DashScope-DataInspection": '{"input":"cip","output":"cip"}',
        "X-DashScope-Plugin": "{}",
        "X-DashScope-OssResourceResolve": "enable",
        "X-DashScope-Async": "disable",
    }
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        async with here.client.post(NATIVE, data=body(), headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/v1/apps/x/completion", (404, "NotFound", "Not found!")),
        ("GET", "/api/v1/", (404, "NotFound", "Not found!")),
        (
            "POST",
            "/api/v1/services/embeddings/text-embedding/text-embedding",
            (400, "InvalidParameter", "url error, please check url！"),
        ),
        ("GET", NATIVE, (400, "InvalidParameter", "Request method 'GET' is not supported.")),
        ("GET", "/api/v1/models/none", (404, "InvalidParameter", "Model not exist.")),
        ("GET", "/api/v1/models?page_no=0", (400, "InvalidParameter", None)),
        ("GET", "/api/v1/models?" + "a=1&" * 40, (400, "InvalidParameter", None)),
    ],
)
async def test_paths_and_methods(
    tmp_path: Path, method: str, path: str, expected: tuple[int, str, str | None]
) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        got = await refused(here, path, method=method)
    assert got[:2] == expected[:2]
    if expected[2] is not None:
        assert got[2] == expected[2]


@pytest.mark.parametrize("path", [NATIVE, "/api/v1/models", "/api/v1/nowhere", "/api/v1/tokenizer"])
async def test_a_key_comes_before_the_route(tmp_path: Path, path: str) -> None:
    async with (
        served(ScriptedEngine([]), tmp_path) as here,
        aiohttp.ClientSession(f"http://127.0.0.1:{here.port}") as stranger,
    ):
        async with stranger.post(path, data=b"{") as answer:
            told = await answer.json()
            assert (answer.status, told["code"]) == (401, "InvalidApiKey")
            assert told["message"] == "No API-key provided."
        wrong = {"authorization": "Bearer sk-wrong"}
        assert await refused(here, path, headers=wrong) == (
            401,
            "InvalidApiKey",
            "Invalid API-key provided.",
        )


async def test_a_refused_stream_is_plain_json(tmp_path: Path) -> None:
    async with served(ScriptedEngine([Die()]), tmp_path) as here:
        status, code, _ = await refused(here, data=body({"top_p": 0}), headers=SSE)
        assert (status, code) == (400, "InvalidParameter")
        status, code, _ = await refused(here, data=body(), headers=SSE)
        assert (status, code) == (503, "ModelUnavailable")


async def test_a_failure_in_mid_stream_is_an_event_and_the_end(tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a", "b")[:1], Die()])
    async with served(engine, tmp_path) as here:
        async with here.client.post(NATIVE, data=body(), headers=SSE) as answer:
            assert answer.status == 200
            first, last = frames(await answer.read())
    assert first[:3] == (1, "result", 200)
    assert last[:3] == (2, "error", 500)
    assert last[3] == {
        "code": "InternalError.Algo",
        "message": "Inference internal error.",
        "request_id": answer.headers["x-request-id"],
    }


async def test_silence_is_filled_and_a_late_failure_stays_in_band(tmp_path: Path) -> None:
    stall = Stall()
    engine = ScriptedEngine([stall, Die()], [Die()])
    patience = Patience(first_byte_s=0.1, keep_alive_s=0.1, stall_s=30)
    async with served(engine, tmp_path, patience=patience) as here:
        async with here.client.post(NATIVE, data=body(), headers=SSE) as answer:
            assert await answer.content.readline() == b": keep-alive\n"
            await answer.content.readline()
            stall.go.set()
            rest = (await answer.read()).decode()
    assert rest.replace(": keep-alive\n\n", "").startswith(
        "id:1\nevent:error\n:HTTP_STATUS/503\ndata:{"
    )


async def test_what_nobody_knows_is_named_in_a_header(tmp_path: Path) -> None:
    async with served(ScriptedEngine([text_chunks("a")]), tmp_path) as here:
        async with here.client.post(NATIVE, data=body({"temprature": 1})) as answer:
            assert answer.headers["x-ownstudio-ignored"] == "parameters.temprature"


async def test_models(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        async with here.client.get("/api/v1/models?page_no=1&page_size=5") as answer:
            output = (await answer.json())["output"]
        assert (output["total"], output["page_no"], output["page_size"]) == (1, 1, 5)
        assert [entry["model"] for entry in output["models"]] == [MODEL.name]
        async with here.client.get(f"/api/v1/models/{MODEL.name}") as answer:
            assert (await answer.json())["output"]["model"] == MODEL.name


async def test_counting_agrees_with_what_is_billed(tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a")])
    given = {"messages": [{"role": "user", "content": "你是谁？<|im_end|>"}]}
    async with served(engine, tmp_path) as here:
        async with here.client.post("/api/v1/tokenizer", data=body(**given)) as answer:
            counted = await answer.json()
        async with here.client.post(NATIVE, data=body(**given)) as answer:
            billed = (await answer.json())["usage"]["input_tokens"]
    assert counted["usage"] == {"input_tokens": billed}
    assert counted["output"]["token_ids"] == engine.requests[0].token_ids
    assert len(counted["output"]["tokens"]) == billed
    assert counted["output"]["prompt"].startswith("<|im_start|>user\n你是谁？")


async def test_counting_plain_text(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        given = body(prompt="如何做土豆炖猪脚?")
        async with here.client.post("/api/v1/tokenizer", data=given) as answer:
            told = await answer.json()
        large = body(prompt="word " * 5000)
        async with here.client.post("/api/v1/tokenizer", data=large) as answer:
            assert (await answer.json())["usage"] == {"input_tokens": 5001}
    assert told["output"]["token_ids"] == [100007, 99190, 109971, 110798, 100761, 100037, 30]
    assert told["output"]["tokens"] == ["如何", "做", "土豆", "炖", "猪", "脚", "?"]
    assert told["usage"] == {"input_tokens": 7}
    assert "prompt" not in told["output"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("<|fim_prefix|>def quick_sort(arr):<|fim_suffix|>", 7),
        ("<|fim_suffix|>", 1),
        ("a<|fim_suffix|>b<|im_end|>", 4),
    ],
)
async def test_counting_takes_plain_text_as_it_stands(
    tmp_path: Path, text: str, count: int
) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        async with here.client.post("/api/v1/tokenizer", data=body(prompt=text)) as answer:
            told = await answer.json()
    assert told["usage"] == {"input_tokens": count}
    assert "".join(told["output"]["tokens"]) == text


@pytest.mark.parametrize("as_chat", [False, True])
async def test_counting_what_cannot_fit_is_refused_before_it_is_tokenized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_chat: bool
) -> None:
    def encode(self: Tokenizer, text: str, *, specials: bool) -> list[int]:
        raise AssertionError("tokenized")

    text = "word " * 150_000
    given: Any = {"messages": [{"role": "user", "content": text}]} if as_chat else {"prompt": text}
    async with served(ScriptedEngine([]), tmp_path) as here:
        monkeypatch.setattr(Tokenizer, "encode", encode)
        assert await refused(here, "/api/v1/tokenizer", data=body(**given)) == (
            400,
            "InvalidParameter",
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 4095]",
        )


async def test_counting_shows_tokens_that_are_no_character(tmp_path: Path) -> None:
    async with served(ScriptedEngine([]), tmp_path) as here:
        async with here.client.post("/api/v1/tokenizer", data=body(prompt="𓀀")) as answer:
            tokens = (await answer.json())["output"]["tokens"]
    assert len(tokens) > 1
    assert all("\ufffd" in token for token in tokens)


def two_choices() -> list[list[Chunk]]:
    return [
        [Chunk(0, "a", (1,), 1), Chunk(1, "b", (2,), 1)],
        [Chunk(1, "B", (3,), 2), Chunk(1, "", (), 2, finish=EngineFinish.END_TOKEN)],
        [Chunk(0, "A", (4,), 2), Chunk(0, "", (), 2, finish=EngineFinish.LIMIT)],
    ]


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALLED = text_chunks(
    "<tool_call>", '\n{"name": "f", "argu', 'ments": {"a": [1]}}\n', "</tool_call>"
)

Said = list[tuple[str, str, list[tuple[str, str]]]]


def said(choices: list[Any]) -> Said:
    """Text, reason and calls of each choice of a whole answer, in either dialect."""
    return [
        (
            choice["message"]["content"],
            choice["finish_reason"],
            [
                (made["function"]["name"], made["function"]["arguments"])
                for made in choice["message"].get("tool_calls", [])
            ],
        )
        for choice in sorted(choices, key=lambda choice: choice.get("index", 0))
    ]


def gathered(chunks: list[Any], n: int) -> Said:
    """The same of an OpenAI stream."""
    whole: list[Any] = [
        {"message": {"content": "", "tool_calls": []}, "finish_reason": None, "index": index}
        for index in range(n)
    ]
    for chunk in chunks:
        for choice in chunk["choices"]:
            held, delta = whole[choice["index"]], choice["delta"]
            held["message"]["content"] += delta.get("content") or ""
            held["finish_reason"] = choice["finish_reason"] or held["finish_reason"]
            for made in delta.get("tool_calls") or []:
                calls = held["message"]["tool_calls"]
                if made["index"] == len(calls):
                    calls.append(made)
                else:
                    calls[made["index"]]["function"]["arguments"] += made["function"]["arguments"]
    return said(whole)


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ([[chunk] for chunk in text_chunks("a", "b", "c")], {}),
        (two_choices(), {"n": 2}),
        ([[chunk] for chunk in CALLED], {"tools": TOOLS}),
    ],
    ids=["text", "two choices", "tool call"],
)
async def test_both_dialects_say_the_same(tmp_path: Path, script: Any, asked: Any) -> None:
    """One generation underneath: text, calls, reason and counts agree, streamed or not."""
    messages = [{"role": "user", "content": "hello"}]
    native = body({"result_format": "message", **asked}, messages=messages)
    openai = {"model": MODEL.name, "messages": messages, **asked}
    streamed_openai = openai | {"stream": True, "stream_options": {"include_usage": True}}
    async with served(ScriptedEngine(script), tmp_path) as here:
        async with here.client.post(NATIVE, data=native) as answer:
            native_whole = await answer.json()
        async with here.client.post(NATIVE, data=native, headers=SSE) as answer:
            native_stream = [data for *_, data in frames(await answer.read())]
        async with here.client.post(CHAT, json=openai) as answer:
            openai_whole = await answer.json()
        async with here.client.post(CHAT, json=streamed_openai) as answer:
            lines = (await answer.read()).decode().split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    expected = said(openai_whole["choices"])
    assert said(native_whole["output"]["choices"]) == expected
    ends = [data["output"]["choices"][0] for data in native_stream]
    assert said([end for end in ends if end["finish_reason"] != "null"]) == expected
    assert gathered(chunks, len(expected)) == expected
    counts = openai_whole["usage"]
    assert chunks[-1]["usage"] == counts
    assert native_whole["usage"] == {
        "total_tokens": counts["total_tokens"],
        "output_tokens": counts["completion_tokens"],
        "input_tokens": counts["prompt_tokens"],
        "prompt_tokens_details": counts["prompt_tokens_details"],
    }
