"""The vendor's own Python SDK as the judge of the native dialect, over real sockets."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ownstudio.engines.base import Chunk, EngineFinish
from sdk.conftest import Sdk
from support.instance import ServedInstance
from support.scripted import Die, ScriptedEngine, Step, text_chunks
from support.serving import Served, served

Json = dict[str, Any]

NATIVE = "/api/v1/services/aigc/text-generation/generation"
MESSAGES = [{"role": "user", "content": "你是谁？"}]
ASKED: Json = {"model": "qwen-plus", "messages": MESSAGES}
AS_MESSAGE: Json = ASKED | {"result_format": "message"}

CALLS = ("generation", "aio_generation")

# From this release on the SDK asks for what is new and puts it together itself.
MERGES = (1, 25)


async def pointed(sdk: Sdk, here: Served) -> None:
    await sdk.use(f"http://127.0.0.1:{here.port}", here.key)


def spoken(*texts: str) -> ScriptedEngine:
    return ScriptedEngine([[chunk] for chunk in text_chunks(*texts)])


def message_of(response: Json) -> Json:
    (choice,) = response["output"]["choices"]
    message: Json = choice["message"]
    return message


@pytest.mark.parametrize("call", CALLS)
async def test_a_call(sdk: Sdk, tmp_path: Path, call: str) -> None:
    async with served(spoken("I ", "am."), tmp_path) as here:
        await pointed(sdk, here)
        (plain,) = await sdk.call(call, **ASKED)
        (as_message,) = await sdk.call(call, **AS_MESSAGE)
        (by_prompt,) = await sdk.call(call, model="qwen-plus", prompt="你是谁？")
    assert plain["status_code"] == 200
    assert plain["output"]["text"] == "I am."
    assert plain["output"]["finish_reason"] == "stop"
    assert plain["usage"]["input_tokens"] == 11
    assert plain["usage"]["total_tokens"] == 13
    assert message_of(as_message) == {"role": "assistant", "content": "I am."}
    assert by_prompt["output"] == plain["output"]


@pytest.mark.parametrize("call", CALLS)
async def test_an_old_style_history(sdk: Sdk, tmp_path: Path, call: str) -> None:
    engine = spoken("c")
    async with served(engine, tmp_path) as here:
        await pointed(sdk, here)
        (told,) = await sdk.call(
            call, model="qwen-plus", prompt="hi", history=[{"user": "a", "bot": "b"}]
        )
        tokenizer = here.studio.deployments["test"].tokenizer
        prompt = tokenizer.decode(engine.requests[0].token_ids)
    assert told["output"]["text"] == "c"
    assert [turn.split("\n")[1] for turn in prompt.split("<|im_start|>")[1:-1]] == [
        "a<|im_end|>",
        "b<|im_end|>",
        "hi<|im_end|>",
    ]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("incremental", "contents"),
    [
        (None, ["I ", "I am.", "I am."]),
        (True, ["I ", "am.", ""]),
        (False, ["I ", "I am.", "I am."]),
    ],
)
async def test_streams(
    sdk: Sdk, tmp_path: Path, call: str, incremental: bool | None, contents: list[str]
) -> None:
    flag = {} if incremental is None else {"incremental_output": incremental}
    async with served(spoken("I ", "am."), tmp_path) as here:
        await pointed(sdk, here)
        told = await sdk.call(call, stream=True, **AS_MESSAGE, **flag)
        texts = await sdk.call(call, stream=True, **ASKED, **flag)
    assert all(response["status_code"] == 200 for response in told + texts)
    assert [message_of(response)["content"] for response in told] == contents
    assert [response["output"]["text"] for response in texts] == contents
    assert [response["usage"]["output_tokens"] for response in told] == [1, 2, 2]
    assert [response["output"]["choices"][0]["finish_reason"] for response in told] == [
        "null",
        "null",
        "stop",
    ]


def two_choices() -> list[Step]:
    return [
        [Chunk(0, "a", (1,), 1), Chunk(1, "b", (2,), 1)],
        [Chunk(0, "A", (3,), 2), Chunk(1, "B", (4,), 3)],
        [
            Chunk(0, "", (), 2, finish=EngineFinish.END_TOKEN),
            Chunk(1, "", (), 3, finish=EngineFinish.END_TOKEN),
        ],
    ]


@pytest.mark.parametrize("call", CALLS)
async def test_several_choices(sdk: Sdk, tmp_path: Path, call: str) -> None:
    async with served(ScriptedEngine(two_choices()), tmp_path) as here:
        await pointed(sdk, here)
        (whole,) = await sdk.call(call, n=2, **AS_MESSAGE)
        merged = await sdk.call(call, n=2, stream=True, incremental_output=False, **AS_MESSAGE)
    contents = [choice["message"]["content"] for choice in whole["output"]["choices"]]
    assert contents == ["aA", "bB"]
    assert [choice["index"] for choice in whole["output"]["choices"]] == [0, 1]
    assert whole["usage"]["output_tokens"] == 5
    last = {
        choice["index"]: choice["message"]["content"]
        for response in merged
        for choice in response["output"]["choices"]
    }
    assert last == {0: "aA", 1: "bB"}
    if sdk.version >= MERGES:
        assert len(merged[-1]["output"]["choices"]) == 2
        assert merged[-1]["usage"]["output_tokens"] == 5
        assert merged[-1]["usage"]["input_tokens"] == whole["usage"]["input_tokens"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("asked", "status", "code", "message"),
    [
        ({"model": "gpt-9"}, 404, "InvalidParameter", "Model not exist."),
        (
            {"temperature": 2.0},
            400,
            "InvalidParameter",
            "<400> InternalError.Algo.InvalidParameter: Temperature should be in [0.0, 2.0)",
        ),
        ({"messages": [{"role": "user"}]}, 400, "InvalidParameter", None),
        ({"enable_search": True}, 400, "InvalidParameter", None),
    ],
)
async def test_refusals_are_answers(
    sdk: Sdk, tmp_path: Path, call: str, asked: Json, status: int, code: str, message: str | None
) -> None:
    async with served(spoken("a"), tmp_path) as here:
        await pointed(sdk, here)
        for stream in (False, True):
            (told,) = await sdk.call(call, **(AS_MESSAGE | asked), stream=stream)
            assert (told["status_code"], told["code"]) == (status, code)
            assert told["request_id"]
            assert told["output"] is None
            if message is not None:
                assert told["message"] == message


async def test_a_wrong_key(sdk: Sdk, tmp_path: Path) -> None:
    async with served(spoken("a"), tmp_path) as here:
        await sdk.use(f"http://127.0.0.1:{here.port}", "sk-wrong")
        (told,) = await sdk.call("generation", **ASKED)
    assert (told["status_code"], told["code"]) == (401, "InvalidApiKey")
    assert told["message"] == "Invalid API-key provided."


@pytest.mark.parametrize("call", CALLS)
async def test_an_engine_that_dies_in_mid_stream(sdk: Sdk, tmp_path: Path, call: str) -> None:
    engine = ScriptedEngine([text_chunks("a", "b")[:1], Die()])
    async with served(engine, tmp_path) as here:
        await pointed(sdk, here)
        first, last = await sdk.call(call, stream=True, incremental_output=True, **AS_MESSAGE)
    assert message_of(first)["content"] == "a"
    # What the SDK makes of any error in a stream.
    assert last["status_code"] == 400
    assert (last["code"], last["message"]) == ("InternalError.Algo", "Inference internal error.")
    assert last["request_id"] == first["request_id"]


async def test_an_engine_that_is_not_there(sdk: Sdk, tmp_path: Path) -> None:
    async with served(ScriptedEngine([], fault="gone"), tmp_path) as here:
        await pointed(sdk, here)
        for stream in (False, True):
            (told,) = await sdk.call("generation", **ASKED, stream=stream)
            assert (told["status_code"], told["code"]) == (503, "ModelUnavailable")


async def test_partial(sdk: Sdk, tmp_path: Path) -> None:
    engine = spoken("oo():")
    begun = [*MESSAGES, {"role": "assistant", "content": "def f", "partial": True}]
    async with served(engine, tmp_path) as here:
        await pointed(sdk, here)
        (told,) = await sdk.call("generation", **(AS_MESSAGE | {"messages": begun}))
        tokenizer = here.studio.deployments["test"].tokenizer
        prompt = tokenizer.decode(engine.requests[0].token_ids)
    assert message_of(told)["content"] == "oo():"
    assert prompt.endswith("<|im_start|>assistant\ndef f")


async def test_the_multimodal_conversation(sdk: Sdk, tmp_path: Path) -> None:
    given = [{"role": "user", "content": [{"text": "hi"}]}]
    async with served(spoken("a", "b"), tmp_path) as here:
        await pointed(sdk, here)
        (told,) = await sdk.call("multimodal", model="qwen-plus", messages=given)
        streamed = await sdk.call("multimodal", model="qwen-plus", messages=given, stream=True)
        (refused,) = await sdk.call(
            "multimodal",
            model="qwen-plus",
            messages=[{"role": "user", "content": [{"image": "https://x/y.png"}]}],
        )
    assert message_of(told)["content"] == [{"text": "ab"}]
    assert [message_of(response)["content"] for response in streamed] == [
        [{"text": "a"}],
        [{"text": "ab"}],
        [{"text": "ab"}],
    ]
    assert refused["status_code"] == 400
    assert "'image' is not supported" in refused["message"]


async def test_counting(sdk: Sdk, tmp_path: Path) -> None:
    async with served(spoken("a"), tmp_path) as here:
        await pointed(sdk, here)
        (told,) = await sdk.call("tokenization", model="qwen-plus", messages=MESSAGES)
        (text,) = await sdk.call("tokenization", model="qwen-plus", prompt="你好")
    assert told["usage"] == {"input_tokens": 11}
    assert len(told["output"]["token_ids"]) == len(told["output"]["tokens"]) == 11
    assert text["output"]["tokens"] == ["你好"]


async def test_models(sdk: Sdk, tmp_path: Path) -> None:
    async with served(spoken("a"), tmp_path) as here:
        await pointed(sdk, here)
        (listed,) = await sdk.call("models_list")
        (found,) = await sdk.call("models_get", name="qwen-plus")
        (missing,) = await sdk.call("models_get", name="gpt-9")
    assert listed["output"]["total"] == 1
    assert [entry["model"] for entry in listed["output"]["models"]] == ["qwen-plus"]
    assert found["output"]["model"] == "qwen-plus"
    assert missing["status_code"] == 404


@pytest.mark.parametrize("call", CALLS)
async def test_over_a_websocket(sdk: Sdk, tmp_path: Path, call: str) -> None:
    socket: Json = {"api_protocol": "websocket"}
    async with served(spoken("a", "b"), tmp_path) as here:
        await pointed(sdk, here)
        (told,) = await sdk.call(call, **AS_MESSAGE, **socket)
        streamed = await sdk.call(call, **AS_MESSAGE, **socket, stream=True, ws_stream_mode="out")
        (refused,) = await sdk.call(call, **(AS_MESSAGE | {"model": "gpt-9"}), **socket)
        await sdk.use(f"http://127.0.0.1:{here.port}", "sk-wrong")
        (keyless,) = await sdk.call(call, **AS_MESSAGE, **socket)
    assert message_of(told)["content"] == "ab"
    assert [message_of(response)["content"] for response in streamed] == ["a", "ab", "ab"]
    assert (refused["status_code"], refused["code"]) == (44, "InvalidParameter")
    assert refused["message"] == "Model not exist."
    assert keyless["status_code"] == 403


WRITE_FILE = {
    "type": "function",
    "function": {
        "name": "write_file",
        "description": "Writes a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        },
        "required": ["path", "content"],
    },
}
WRITTEN = '{"path": "a.py", "content": "x = 1\\n"}'


def calling() -> ScriptedEngine:
    """A model that calls the tool, then says so once it has the result."""
    call = (
        "<tool_call>",
        '\n{"name": "write_file", "arg',
        f'uments": {WRITTEN}}}\n',
        "</tool_call>",
    )
    return ScriptedEngine(
        [[chunk] for chunk in text_chunks(*call)], [[chunk] for chunk in text_chunks("Done.")]
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "flag", [None, {}, {"incremental_output": True}, {"incremental_output": False}]
)
async def test_the_write_file_loop(sdk: Sdk, tmp_path: Path, call: str, flag: Json | None) -> None:
    """The page's loop: a call, its result, an answer. Without a flag it is not streamed."""
    asked = (
        AS_MESSAGE | {"tools": [WRITE_FILE]} | ({} if flag is None else {"stream": True, **flag})
    )
    async with served(calling(), tmp_path) as here:
        await pointed(sdk, here)
        told = await sdk.call(call, **asked)
        last = told[-1]
        message = message_of(last)
        if flag == {"incremental_output": True}:
            message = {**message_of(told[0]), **merged(told)}
        (made,) = message["tool_calls"]
        result = {"role": "tool", "content": "written", "tool_call_id": made["id"]}
        (answer,) = await sdk.call(
            "generation",
            **(AS_MESSAGE | {"tools": [WRITE_FILE], "messages": [*MESSAGES, message, result]}),
        )
    assert last["output"]["choices"][0]["finish_reason"] == "tool_calls"
    assert message["content"] == ""
    assert (made["type"], made["index"]) == ("function", 0)
    assert made["id"].startswith("call_")
    assert made["function"] == {"name": "write_file", "arguments": WRITTEN}
    assert message_of(answer)["content"] == "Done."


def merged(told: list[Json]) -> Json:
    """What a user of the SDK puts together from fragments of one call."""
    fragments = [made for response in told for made in message_of(response).get("tool_calls", [])]
    function = {"name": fragments[0]["function"]["name"]}
    function["arguments"] = "".join(made["function"]["arguments"] for made in fragments)
    return {"content": "", "tool_calls": [{**fragments[0], "function": function}]}


@pytest.fixture
def client(sdk: Sdk) -> Sdk:
    """The SDK where it has the 2.x surface."""
    if sdk.version < (2,):
        pytest.skip("this release has no Client")
    return sdk


@pytest.mark.parametrize("protocol", ["native", "openai"])
async def test_the_client_of_2_x(client: Sdk, tmp_path: Path, protocol: str) -> None:
    async with served(spoken("I ", "am."), tmp_path) as here:
        await pointed(client, here)
        (told,) = await client.call("client", protocol=protocol, **ASKED)
        streamed = await client.call("client", protocol=protocol, stream=True, **ASKED)
        refused = await client.outcome("client", protocol=protocol, **(ASKED | {"model": "gpt-9"}))
        (listed,) = await client.call("client_models")
    assert told["choices"][0]["message"]["content"] == "I am."
    contents = [
        choice["delta"]["content"] or "" for event in streamed for choice in event["choices"]
    ]
    assert "".join(contents) == "I am."
    assert "gpt-9" in refused["raised"] or "Model not exist." in refused["raised"]
    assert [entry["model"] for entry in listed["models"]] == ["qwen-plus"]


async def test_the_clients_mid_stream_error(client: Sdk, tmp_path: Path) -> None:
    engine = ScriptedEngine([text_chunks("a", "b")[:1], Die()])
    async with served(engine, tmp_path) as here:
        await pointed(client, here)
        outcome = await client.outcome("client", stream=True, **ASKED)
    assert "Inference internal error." in outcome["raised"]


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Any:
    context = {"OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__CONTEXT": "512"}
    with ServedInstance(tmp_path_factory.mktemp("home"), environment=context) as running:
        yield running


async def test_the_real_engine_speaks_both_dialects(instance: ServedInstance) -> None:
    asked = {"max_tokens": 8, "seed": 11, "temperature": 0.9}
    headers = {"authorization": f"Bearer {instance.key}"}
    async with aiohttp.ClientSession(instance.address, headers=headers) as http:
        native = {
            "model": "qwen-plus",
            "input": {"messages": MESSAGES},
            "parameters": asked | {"result_format": "message"},
        }
        async with http.post(NATIVE, json=native) as answer:
            here = await answer.json()
        openai = ASKED | asked
        async with http.post("/compatible-mode/v1/chat/completions", json=openai) as answer:
            there = await answer.json()
    assert message_of(here)["content"] == there["choices"][0]["message"]["content"]
    assert here["output"]["choices"][0]["finish_reason"] == there["choices"][0]["finish_reason"]
    assert here["usage"]["input_tokens"] == there["usage"]["prompt_tokens"]
    assert here["usage"]["output_tokens"] == there["usage"]["completion_tokens"]


async def test_the_real_engine(sdk: Sdk, instance: ServedInstance) -> None:
    """Stream and whole answer of one seed agree, and so do the two modes of streaming."""
    await sdk.use(instance.address, instance.key)
    asked = AS_MESSAGE | {"max_tokens": 8, "seed": 7}
    (whole,) = await sdk.call("generation", **asked)
    answer = message_of(whole)["content"]
    assert answer
    assert whole["usage"]["input_tokens"] == 11
    for incremental in (True, False, None):
        flag = {} if incremental is None else {"incremental_output": incremental}
        told = await sdk.call("generation", stream=True, **asked, **flag)
        contents = [message_of(response)["content"] for response in told]
        assert ("".join(contents) if incremental else contents[-1]) == answer
        counted = [response["usage"]["output_tokens"] for response in told]
        assert counted == sorted(counted)
        assert told[-1]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
