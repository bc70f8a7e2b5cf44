"""The pages' two tool loops over streams, to their end: a call, its result, the final words.

The deltas are put together as a user of each SDK does it, and sent back. In the suite the first call is forced and
bounded, so that it is made whatever the model knows; `make test-model` leaves the choice to the model.
"""

import json
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import openai
import pytest

from sdk.conftest import Sdk
from support.instance import ServedInstance, User

Json = dict[str, Any]

CONTEXT = {"OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__CONTEXT": "2048"}
AGENT = Path(__file__).with_name("tool_loop.mjs")
PACKAGES = Path(__file__).parents[2] / "examples" / "pages" / "node" / "package.json"
NPM_S_MAX = 120
# A model that knows the way may lose it once, not thrice.
TRIES = 3


def tool(name: str, description: str, **properties: str) -> Json:
    parts = {key: {"type": "string", "description": said} for key, said in properties.items()}
    parameters = {"type": "object", "properties": parts, "required": list(parts)} if parts else {}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


class Task(NamedTuple):
    """What is asked of which model, the functions it may call with what they return, and the one to be forced."""

    model: str
    question: str
    tools: list[Json]
    results: dict[str, str]
    forced: str


TASKS = {
    "weather and time": Task(
        "qwen-plus",
        "What is the weather in Singapore?",
        [
            tool("get_current_time", "Useful for when you want to know the current time."),
            tool(
                "get_current_weather",
                "Useful for querying the weather in a specific city.",
                location="A city or county, such as Beijing, Hangzhou, or Yuhang District.",
            ),
        ],
        {
            "get_current_time": "Current time: 2026-11-23 03:15:02.",
            "get_current_weather": "It is rainy in Singapore today. ",
        },
        "get_current_weather",
    ),
    "write_file": Task(
        "qwen3-coder-plus",
        "Write a Python script for quick sort and name it quick_sort.py.",
        [
            tool(
                "write_file",
                "Writes content to the specified file. If the file does not exist, it is created.",
                path="The relative or absolute path of the target file.",
                content="The string content to write to the file.",
            )
        ],
        {"write_file": "Success: The file 'quick_sort.py' has been written."},
        "write_file",
    ),
}


def bounded(tools: list[Json]) -> list[Json]:
    """The tools with an end to every string, so that whatever writes a call comes to the end of it."""
    bound: list[Json] = json.loads(json.dumps(tools))
    for one in bound:
        for part in one["function"]["parameters"].get("properties", {}).values():
            part["maxLength"] = 24
    return bound


class Round(NamedTuple):
    """One answer, put together: the message that goes back to the model, and how it ended."""

    message: Json
    reason: str

    @property
    def calls(self) -> list[Json]:
        found: list[Json] = self.message.get("tool_calls") or []
        return found


# One answer to what is asked: model, messages, tools, tool_choice and more.
Ask = Callable[[Json], Awaitable[Round]]


def first_question(task: Task, tools: list[Json], **beside: Any) -> Json:
    messages = [{"role": "user", "content": task.question}]
    return {"model": task.model, "messages": messages, "tools": tools, **beside}


def choices(task: Task, *, forced: bool) -> Sequence[Any]:
    """The `tool_choice` of each round: as many rounds as a loop may take."""
    if not forced:
        return ("auto",) * 6
    return ({"type": "function", "function": {"name": task.forced}}, "auto", "auto", "none")


async def loop(ask: Ask, asked: Json, task: Task, *, forced: bool) -> list[Round]:
    rounds: list[Round] = []
    for choice in choices(task, forced=forced):
        rounds.append(await ask({**asked, "tool_choice": choice}))
        if rounds[-1].reason != "tool_calls":
            break
        asked["messages"].append(rounds[-1].message)
        asked["messages"] += [
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": task.results[call["function"]["name"]],
            }
            for call in rounds[-1].calls
        ]
    return rounds


def collected(deltas: Sequence[tuple[Json, str | None]]) -> Round:
    """What a user makes of the deltas of one answer, each with its finish reason."""
    message: Json = {"role": "assistant", "content": ""}
    calls: dict[int, Json] = {}
    reason = ""
    for delta, ended in deltas:
        message["content"] += delta.get("content") or ""
        for piece in delta.get("tool_calls") or []:
            call = calls.setdefault(
                piece["index"], {"id": "", "type": "function", "function": {"arguments": ""}}
            )
            call["id"] += piece.get("id") or ""
            call["function"].setdefault("name", piece["function"].get("name"))
            call["function"]["arguments"] += piece["function"]["arguments"]
        reason = ended or reason
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return Round(message, reason)


def asks_openai(client: openai.AsyncOpenAI) -> Ask:
    async def ask(asked: Json) -> Round:
        stream = await client.chat.completions.create(**asked, stream=True)
        return collected(
            [
                (choice.delta.model_dump(), choice.finish_reason)
                async for chunk in stream
                for choice in chunk.choices
            ]
        )

    return ask


def asks_native(sdk: Sdk) -> Ask:
    async def ask(asked: Json) -> Round:
        told = await sdk.call(
            "generation", **asked, result_format="message", stream=True, incremental_output=True
        )
        assert all(one["status_code"] == 200 for one in told), told
        found = [choice for one in told for choice in one["output"]["choices"]]
        return collected(
            [
                (one["message"], None if one["finish_reason"] == "null" else one["finish_reason"])
                for one in found
            ]
        )

    return ask


def check_forced(rounds: list[Round], task: Task, tools: list[Json]) -> None:
    """The forced call is made and fits, whatever follows is well formed, and the last round has words."""
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    assert rounds[0].reason == "tool_calls"
    assert [call["function"]["name"] for call in rounds[0].calls] == [task.forced]
    for one in rounds:
        for call in one.calls:
            assert call["id"]
            arguments = json.loads(call["function"]["arguments"])
            if one.reason == "tool_calls":
                jsonschema.validate(arguments, schemas[call["function"]["name"]])
    assert len(rounds) > 1
    assert rounds[-1].reason in ("stop", "length")


def called_and_ended(rounds: list[Round]) -> bool:
    return (
        len(rounds) > 1
        and rounds[-1].reason == "stop"
        and bool(rounds[-1].message["content"].strip())
    )


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedInstance]:
    with ServedInstance(tmp_path_factory.mktemp("home"), environment=CONTEXT) as running:
        yield running


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the loop for Node.js, and the package that the pages' samples use installed beside it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js on this machine")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(AGENT, folder)
    shutil.copy(PACKAGES, folder)
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(
            install,
            check=True,
            capture_output=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            timeout=NPM_S_MAX,
        )
    except subprocess.SubprocessError:
        pytest.skip("the openai package of Node.js cannot be installed here")
    return folder


def openai_client(instance: ServedInstance) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=instance.base_url, api_key=instance.key, max_retries=0)


def run_node(
    instance: ServedInstance, folder: Path, asked: Json, task: Task, *, forced: bool
) -> list[Round]:
    """The rounds of a loop that Node.js has run."""
    entered = {
        "asked": asked,
        "results": task.results,
        "choices": choices(task, forced=forced),
    }
    done = User(instance).attempt(["node", folder / AGENT.name], typed=json.dumps(entered))
    assert done.returncode == 0, f"{done.stderr}\n{instance.log_tail()}"
    return [Round(**one) for one in json.loads(done.stdout)]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_a_forced_call_runs_the_loop_to_its_end_in_python(
    instance: ServedInstance, task: Task
) -> None:
    tools = bounded(task.tools)
    async with openai_client(instance) as client:
        asked = first_question(task, tools, max_tokens=128)
        rounds = await loop(asks_openai(client), asked, task, forced=True)
    check_forced(rounds, task, tools)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_a_forced_call_runs_the_loop_to_its_end_over_the_native_api(
    sdk: Sdk, instance: ServedInstance, task: Task
) -> None:
    await sdk.use(instance.address, instance.key)
    tools = bounded(task.tools)
    asked = first_question(task, tools, max_tokens=128)
    check_forced(await loop(asks_native(sdk), asked, task, forced=True), task, tools)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_forced_call_runs_the_loop_to_its_end_in_node(
    instance: ServedInstance, node_folder: Path, task: Task
) -> None:
    tools = bounded(task.tools)
    asked = first_question(task, tools, max_tokens=128)
    check_forced(run_node(instance, node_folder, asked, task, forced=True), task, tools)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_both_dialects_stream_the_same_call_and_the_same_words(
    sdk: Sdk, instance: ServedInstance, task: Task
) -> None:
    await sdk.use(instance.address, instance.key)
    beside: Json = {"max_tokens": 128, "temperature": 0}
    async with openai_client(instance) as client:
        asked = first_question(task, bounded(task.tools), **beside)
        ours = await loop(asks_openai(client), asked, task, forced=True)
    asked = first_question(task, bounded(task.tools), **beside)
    theirs = await loop(asks_native(sdk), asked, task, forced=True)
    assert [said(one) for one in ours] == [said(one) for one in theirs]


def said(one: Round) -> tuple[str, str, list[Json]]:
    return one.reason, one.message["content"], [call["function"] for call in one.calls]


@pytest.mark.model
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_a_trained_model_runs_the_loop_by_itself_in_python(
    instance: ServedInstance, task: Task
) -> None:
    tried = []
    async with openai_client(instance) as client:
        for _ in range(TRIES):
            asked = first_question(task, task.tools, max_tokens=512)
            tried.append(await loop(asks_openai(client), asked, task, forced=False))
            if called_and_ended(tried[-1]):
                return
    pytest.fail(f"It never called and ended: {tried}")


@pytest.mark.model
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_a_trained_model_runs_the_loop_by_itself_over_the_native_api(
    sdk: Sdk, instance: ServedInstance, task: Task
) -> None:
    await sdk.use(instance.address, instance.key)
    tried = []
    for _ in range(TRIES):
        asked = first_question(task, task.tools, max_tokens=512)
        tried.append(await loop(asks_native(sdk), asked, task, forced=False))
        if called_and_ended(tried[-1]):
            return
    pytest.fail(f"It never called and ended: {tried}")


@pytest.mark.model
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_trained_model_runs_the_loop_by_itself_in_node(
    instance: ServedInstance, node_folder: Path, task: Task
) -> None:
    tried = []
    for _ in range(TRIES):
        asked = first_question(task, task.tools, max_tokens=512)
        tried.append(run_node(instance, node_folder, asked, task, forced=False))
        if called_and_ended(tried[-1]):
            return
    pytest.fail(f"It never called and ended: {tried}")
