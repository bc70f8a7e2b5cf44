"""The tables of parameters, walked row by row against a running server and the model that comes with it.

Every row has to hold over HTTP: what is served is taken, and a bad value of it refused by name; what is harmless is
taken and not reported; what is not served is refused by name. Refusals have the shape of their dialect.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest
from msgspec import Struct

from ownstudio.dialects.dashscope_parameters import BODY, INPUT, PARAMETERS
from ownstudio.dialects.openai_parameters import CHAT, TEXT
from ownstudio.dialects.parameters import Parameters
from support.instance import ServedInstance

Json = dict[str, Any]

ANSWER_S_MAX = 30.0
CONTEXT = {"OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__CONTEXT": "512"}
# A value that no parameter has: whoever looks at it refuses it.
ODD = {"something": True}

CHAT_PATH = "/compatible-mode/v1/chat/completions"
TEXT_PATH = "/compatible-mode/v1/completions"
NATIVE_PATH = "/api/v1/services/aigc/text-generation/generation"

SAID = {"role": "user", "content": "Say hello as json."}
TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
FORCED = {"type": "function", "function": {"name": "now"}}
UNKNOWN = {"type": "function", "function": {"name": "then"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object"}}}


class Row(Struct, frozen=True):
    """A value that is taken, values that are refused (null is a value left out), and what has to stand beside them."""

    good: object
    bad: tuple[object, ...]
    beside: Json = {}


SAMPLING = {
    "temperature": Row(0, (2, -0.1, "warm")),
    "top_p": Row(0.5, (0, 1.1, "x")),
    "top_k": Row(5, (-1, "x")),
    "repetition_penalty": Row(1.1, (0, "x")),
    "presence_penalty": Row(-2, (2.1, "x")),
    "frequency_penalty": Row(2, (-2.1, "x")),
    "stop": Row(["\n\n", "END"], (["a", 1], 5, ["x"] * 65)),
}
LENGTHS = {
    "max_tokens": Row(2, (0, 1_000_000, "x")),
    "max_completion_tokens": Row(1, (0, 1_000_000, "x")),
}
MODEL = Row("qwen-plus", (None, "gpt-9", 5))
ANSWERS = {
    "n": Row(2, (0, 5, "x")),
    "logprobs": Row(True, ("yes",)),
    "top_logprobs": Row(2, (6, -1, "x"), {"logprobs": True}),
    "tools": Row([TOOL], ("x", [TOOL] * 257)),
    "tool_choice": Row(FORCED, ("always", UNKNOWN, 5), {"tools": [TOOL]}),
    "parallel_tool_calls": Row(True, ("yes",), {"tools": [TOOL]}),
    "enable_thinking": Row(True, ("yes",), {"thinking_budget": 1}),
    "thinking_budget": Row(1, (0, 1_000_000, "x"), {"enable_thinking": True}),
    "preserve_thinking": Row(True, ("yes",)),
    "response_format": Row(SCHEMA, ({"type": "xml"}, "json")),
}
STREAMING = {
    "stream": Row(True, ("yes",)),
    "stream_options": Row({"include_usage": True}, ("x",), {"stream": True}),
}
MESSAGES = Row([SAID], (None, "x", [SAID, {"role": "nobody", "content": "x"}]))

CHAT_ROWS = (
    SAMPLING
    | LENGTHS
    | ANSWERS
    | STREAMING
    | {"model": MODEL, "messages": MESSAGES, "seed": Row(2**64 - 1, (-1, 2**64, "x"))}
)
TEXT_ROWS = (
    SAMPLING
    | STREAMING
    | {
        "model": Row("qwen2.5-coder-32b-instruct", (None, "gpt-9", "qwen-plus")),
        "prompt": Row([[1, 2]], (None, ["a", "b"], 5)),
        "max_tokens": LENGTHS["max_tokens"],
        "suffix": Row("return a", (5,)),
        "n": Row(1, (0, 2)),
        "seed": Row(2**31 - 1, (-1, 2**31)),
        "echo": Row(True, ("yes",)),
        "logprobs": Row(2, (6, "x")),
    }
)
BODY_ROWS = {
    "model": MODEL,
    "input": Row({"prompt": "hi"}, (None, "x")),
    "parameters": Row({"max_tokens": 1}, ("x",)),
}
INPUT_ROWS = {
    "messages": Row([SAID], (None, "x")),
    "prompt": Row("hi", (5,)),
    "history": Row([{"user": "a", "bot": "b"}], ("x",), {"messages": None, "prompt": "hi"}),
}
PARAMETER_ROWS = (
    SAMPLING
    | LENGTHS
    | ANSWERS
    | {
        "result_format": Row("text", ("xml",)),
        "incremental_output": Row(True, ("yes",)),
        "seed": Row(2**63 - 1, (-1, 2**63, "x")),
    }
)


class Endpoint(NamedTuple):
    """`body` lays fields over a request that is fine without them and answers in a token."""

    path: str
    table: Parameters
    rows: dict[str, Row]
    body: Callable[[Json], Json]


def chat_body(fields: Json) -> Json:
    return {"model": "qwen-plus", "messages": [SAID], "max_tokens": 1, **fields}


def text_body(fields: Json) -> Json:
    return {"model": "qwen2.5-coder-32b-instruct", "prompt": "def f", "max_tokens": 1, **fields}


def native_body(fields: Json) -> Json:
    given = {"messages": [SAID]}
    parameters = {"max_tokens": 1, "result_format": "message"}
    return {"model": "qwen-plus", "input": given, "parameters": parameters, **fields}


def native_input(fields: Json) -> Json:
    return native_body({"input": {"messages": [SAID], **fields}})


def native_parameters(fields: Json) -> Json:
    return native_body({"parameters": {"max_tokens": 1, "result_format": "message", **fields}})


ENDPOINTS = {
    "chat": Endpoint(CHAT_PATH, CHAT, CHAT_ROWS, chat_body),
    "completions": Endpoint(TEXT_PATH, TEXT, TEXT_ROWS, text_body),
    "native body": Endpoint(NATIVE_PATH, BODY, BODY_ROWS, native_body),
    "native input": Endpoint(NATIVE_PATH, INPUT, INPUT_ROWS, native_input),
    "native parameters": Endpoint(NATIVE_PATH, PARAMETERS, PARAMETER_ROWS, native_parameters),
}


class Answer(NamedTuple):
    status: int
    text: str
    request_id: str
    ignored: str

    def taken(self) -> None:
        """The request was served, and all of it was understood."""
        assert self.status == 200, self.text
        assert self.ignored == ""

    def refused(self, name: str) -> None:
        """The request was refused for the field `name`, in the shape of the dialect."""
        assert self.status in (400, 404), self.text
        told = json.loads(self.text)
        assert told["request_id"] == self.request_id
        if "error" not in told:
            assert told.keys() == {"code", "message", "request_id"}
            assert told["code"]
            assert name in told["message"].lower()
            return
        error = told["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert re.split(r"[.\[]", error["param"])[0] == name
        assert error["message"]


class Client:
    def __init__(self, served: ServedInstance) -> None:
        self._address = served.address
        self._key = served.key

    def ask(self, path: str, body: Json) -> Answer:
        request = urllib.request.Request(
            self._address + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
                return _answer(answer.status, answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return _answer(refusal.code, refusal)


def _answer(status: int, told: Any) -> Answer:
    ignored = told.headers.get("x-ownstudio-ignored", "")
    return Answer(status, told.read().decode(), told.headers["x-request-id"], ignored)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with ServedInstance(tmp_path_factory.mktemp("home"), environment=CONTEXT) as served:
        yield Client(served)


def walk(names: Callable[[Parameters], Iterable[str]]) -> pytest.MarkDecorator:
    """Each row of one kind of table, of every endpoint."""
    found = [(endpoint, name) for endpoint, one in ENDPOINTS.items() for name in names(one.table)]
    return pytest.mark.parametrize(("endpoint", "name"), found)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_served_parameter_has_values_to_walk_with(endpoint: str) -> None:
    assert ENDPOINTS[endpoint].rows.keys() == ENDPOINTS[endpoint].table.supported.keys()


@walk(lambda table: table.supported)
def test_what_is_served_is_taken_and_a_bad_value_refused_by_name(
    client: Client, endpoint: str, name: str
) -> None:
    path, _, rows, body = ENDPOINTS[endpoint]
    row = rows[name]
    client.ask(path, body({**row.beside, name: row.good})).taken()
    for bad in row.bad:
        client.ask(path, body({**row.beside, name: bad})).refused(name)


@walk(lambda table: table.harmless)
def test_what_is_harmless_is_taken_whatever_it_is(client: Client, endpoint: str, name: str) -> None:
    path, _, _, body = ENDPOINTS[endpoint]
    client.ask(path, body({name: ODD})).taken()


@walk(lambda table: table.refused)
def test_what_is_not_served_is_refused_unless_it_asks_for_nothing(
    client: Client, endpoint: str, name: str
) -> None:
    path, table, _, body = ENDPOINTS[endpoint]
    client.ask(path, body({name: ODD})).refused(name)
    for idle in (None, *table.refused[name].idle):
        client.ask(path, body({name: idle})).taken()


MARK = {"cache_control": {"type": "ephemeral"}}
TEXT_PART = {"type": "text", "text": "Hello.", **MARK}
CODING_MESSAGES = [
    {"role": "system", "content": [TEXT_PART], **MARK},
    {"role": "user", "content": [TEXT_PART, TEXT_PART], **MARK},
]
CODING_FIELDS: Json = {
    "tools": [{**TOOL, **MARK}],
    "max_tokens": 1,
    "metadata": {"sessionId": "s", "promptId": "p"},
    "preserve_thinking": True,
    "vl_high_resolution_images": True,
    "cache_control": {"type": "ephemeral"},
}


def test_what_coding_tools_send_is_taken(client: Client) -> None:
    asked = {"model": "qwen3-coder-plus", "messages": CODING_MESSAGES, **CODING_FIELDS}
    client.ask(CHAT_PATH, asked).taken()
    client.ask(CHAT_PATH, {**asked, "stream": True}).taken()


def test_what_coding_tools_send_to_the_native_path_is_taken(client: Client) -> None:
    parameters = {**CODING_FIELDS, "result_format": "message"}
    given = {"messages": CODING_MESSAGES}
    asked = {"model": "qwen3-coder-plus", "input": given, "parameters": parameters}
    answer = client.ask(NATIVE_PATH, asked)
    assert (answer.status, answer.ignored) == (200, "parameters.metadata")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_no_table_knows_changes_nothing_and_is_reported(client: Client, endpoint: str) -> None:
    path, _, _, body = ENDPOINTS[endpoint]
    answer = client.ask(path, body({"min_p": ODD}))
    assert answer.status == 200
    assert answer.ignored.rpartition(".")[2] == "min_p"
