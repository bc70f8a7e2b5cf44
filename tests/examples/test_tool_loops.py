"""The pages' tool loops, against a served instance: what holds whatever the model says, and what a trained one does.

A loop goes on for as long as the model calls, so what bounds it is the model's context: a prompt that has outgrown it
is refused, and the sample ends with that refusal.
"""

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple

import jsonschema
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from ownstudio.engines.gguf import read_gguf
from ownstudio.engines.weights import resolve_weights
from support.instance import User

PAGES = Path(__file__).parents[2] / "examples" / "pages"
# The samples draw their tokens: a model that knows the way may lose it once, not thrice.
TRIES = 3

Json = dict[str, Any]

TOOLS_OF = {
    "chat_tools": {"get_current_weather", "get_current_time"},
    "coder_tools": {"write_file"},
    "dashscope_coder_tools": {"write_file"},
}
WORDS_AFTER_CALLS = ("Final answer: ", "Model's final response: ")
WORDS_OF_THE_END = (
    *WORDS_AFTER_CALLS,
    "No tool call is needed. I can answer directly: ",
    "No tool call needed, responding directly: ",
)
# How a loop may end otherwise: the context is full, or the answer that filled it lacks arguments.
CUT_SHORT = (
    r"Range of input length should be \[1, \d+\]",
    r"TypeError: write_file\(\) missing \d required",
    r"KeyError: 'location'",
)


class Loop(NamedTuple):
    """A sample, and what its user enters."""

    folder: str
    name: str
    typed: str = ""

    def run(self, user: User, node: Path | None, cwd: Path) -> CompletedProcess[str]:
        if self.folder == "node":
            assert node is not None
            return user.attempt(["node", node / f"{self.name}.mjs"], cwd)
        sample = PAGES / self.folder / f"{self.name}.py"
        return user.attempt([sys.executable, sample], cwd, typed=self.typed)


LOOPS = [
    Loop("python", "chat_tools", "What is the weather in Singapore?\n"),
    Loop("python", "chat_tools", "What time is it?\n"),
    Loop("python", "chat_tools", "How is the weather in Singapore? What time is it now?\n"),
    Loop("python", "coder_tools"),
    Loop("python", "dashscope_coder_tools"),
    Loop("node", "coder_tools"),
]


@pytest.fixture(params=LOOPS, ids=lambda loop: " ".join(loop).strip())
def loop(request: pytest.FixtureRequest) -> Loop:
    found: Loop = request.param
    return found


@pytest.fixture
def node_if_needed(loop: Loop, request: pytest.FixtureRequest) -> Path | None:
    if loop.folder != "node":
        return None
    folder: Path = request.getfixturevalue("node")
    return folder


def rounds_of(output: str) -> list[Json]:
    """What the sample of the chat pages prints of each answer: all of the first one, the message of the others."""
    found = re.findall(r"^Model output in round (\d+): (\{.*\})$", output, re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    return [ast.literal_eval(said) for _, said in found]


def called_in(loop: Loop, output: str) -> list[str]:
    """The names of the functions that were called, in order."""
    if loop.name != "chat_tools":
        return re.findall(r"^Calling tool \[(.*?)\] with arguments: \{", output, re.MULTILINE)
    first, *others = rounds_of(output)
    messages = [first["choices"][0]["message"], *others]
    return [call["function"]["name"] for said in messages for call in said["tool_calls"] or []]


def check_message(message: Json, tools: set[str]) -> None:
    assert message["role"] == "assistant"
    assert isinstance(message["content"], str)
    calls = message.get("tool_calls")
    if calls is None:
        return
    (call,) = calls  # no more than one where nobody asks for parallel calls
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"]["name"] in tools
    assert isinstance(json.loads(call["function"]["arguments"]), dict)


def check_choice(choice: Json, tools: set[str]) -> None:
    check_message(choice["message"], tools)
    calls = bool(choice["message"].get("tool_calls"))
    assert choice["finish_reason"] in (("tool_calls", "length") if calls else ("stop", "length"))


def check_arguments(output: str) -> None:
    """What the Python samples print of each call before they make it."""
    for said in re.findall(r"^Calling tool .*? with arguments: (\{.*\})$", output, re.MULTILINE):
        arguments = ast.literal_eval(said)
        assert all(isinstance(value, str) for value in arguments.values())
        assert arguments.keys() <= {"path", "content"}


def check_ended(done: CompletedProcess[str]) -> None:
    if done.returncode != 0 or "Execution error: {" in done.stdout or "Error during" in done.stdout:
        said = done.stdout + done.stderr
        assert any(re.search(words, said) for words in CUT_SHORT), said
    else:
        assert any(words in done.stdout for words in WORDS_OF_THE_END)


def test_a_loop_ends_and_every_answer_in_it_is_well_formed(
    tool_user: User, node_if_needed: Path | None, tmp_path: Path, loop: Loop
) -> None:
    done = loop.run(tool_user, node_if_needed, tmp_path)
    tools = TOOLS_OF[loop.name]
    if loop.name == "chat_tools":
        first, *others = rounds_of(done.stdout)
        assert first["object"] == "chat.completion"
        assert first["usage"]["total_tokens"] >= first["usage"]["prompt_tokens"] > 0
        check_choice(first["choices"][0], tools)
        for message in others:
            check_message(message, tools)
    elif loop.folder == "python":
        check_arguments(done.stdout)
    assert set(called_in(loop, done.stdout)) <= tools
    check_ended(done)
    assert tool_user.served.health() == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
@pytest.mark.parametrize("name", ["coder_tools", "dashscope_coder_tools"])
def test_the_first_step_with_curl(tool_user: User, name: str) -> None:
    answer = json.loads(tool_user.run([PAGES / "curl" / f"{name}.sh"]))
    (choice,) = answer.get("choices") or answer["output"]["choices"]
    check_choice(choice, TOOLS_OF[name])
    usage = answer["usage"]
    assert usage["total_tokens"] == sum(
        count
        for kind, count in usage.items()
        if re.fullmatch(r"\w+_tokens", kind) and kind != "total_tokens"
    )


# Bounded in every part, so that whatever writes under it comes to an end.
TRIP = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 8},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "by": {"enum": ["train", "bus", None]},
        "stops": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["city", "days", "by"],
}


@pytest.fixture
def client(tool_user: User) -> Iterator[OpenAI]:
    with OpenAI(base_url=tool_user.served.base_url, api_key=tool_user.served.key) as client:
        yield client


def test_a_call_that_is_demanded_is_made_and_its_result_taken(client: OpenAI) -> None:
    """By construction, so with any model: the grammar leaves it nothing else to write."""
    tools: Any = [
        {"type": "function", "function": {"name": "get_current_time", "parameters": {}}},
        {"type": "function", "function": {"name": "book", "parameters": TRIP}},
    ]
    choice: Any = {"type": "function", "function": {"name": "book"}}
    messages: list[Any] = [{"role": "user", "content": "Book me a trip."}]
    asked = client.chat.completions.create(
        model="qwen-plus", messages=messages, tools=tools, tool_choice=choice
    )
    assert asked.choices[0].finish_reason == "tool_calls"
    message = asked.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.function.name == "book"
    jsonschema.validate(json.loads(call.function.arguments), TRIP)
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "Booked."}]
    answered = client.chat.completions.create(
        model="qwen-plus", messages=messages, tools=tools, tool_choice="none", max_tokens=16
    )
    assert answered.choices[0].message.tool_calls is None


def test_an_answer_under_a_schema_fits_it(client: OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "trip", "schema": TRIP}}
    answer = client.chat.completions.create(
        model="qwen-plus",
        messages=[{"role": "user", "content": "Where to?"}],
        response_format=form,
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), TRIP)


def check_trained(tmp_path: Path) -> None:
    bundled = read_gguf(resolve_weights("bundled", tmp_path))
    told = [bundled.text("general.name"), bundled.text("general.description")]
    if re.search(r"untrained|random", " ".join(told), re.IGNORECASE):
        pytest.fail(f"This needs a trained model, and the bundled one says of itself: {told}")


@pytest.mark.model
def test_a_trained_model_calls_a_function_and_ends_the_loop_by_itself(
    tool_user: User, node_if_needed: Path | None, tmp_path: Path, loop: Loop
) -> None:
    """No word is asked for: a small model has the form before it has the content."""
    check_trained(tmp_path)
    outputs: list[str] = []
    for _ in range(TRIES):
        done = loop.run(tool_user, node_if_needed, tmp_path)
        outputs.append(done.stdout + done.stderr)
        if _called_and_ended(loop, done):
            return
    pytest.fail("It never called and ended:\n\n" + "\n\n".join(outputs))


def _called_and_ended(loop: Loop, done: CompletedProcess[str]) -> bool:
    if done.returncode != 0 or not called_in(loop, done.stdout):
        return False
    before, words, answer = done.stdout.rpartition(max(WORDS_AFTER_CALLS, key=done.stdout.rfind))
    return bool(before and words and answer.strip()) and "Error during" not in before
