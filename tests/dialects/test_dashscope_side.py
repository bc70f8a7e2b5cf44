"""The native side endpoints and the messages of a WebSocket."""

import json
from collections.abc import Callable

import pytest

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Done, Finish, FinishReason, Started, TextDelta, Usage, collect
from ownstudio.core.request import ChatPrompt
from ownstudio.dialects.dashscope import DashScope
from ownstudio.dialects.dashscope_side import (
    count_answer,
    model_page,
    models_page,
    read_count_request,
)
from ownstudio.dialects.dashscope_task import (
    TaskEncoder,
    check_task,
    read_message,
    task_failed,
    task_started,
    whole_task,
)
from support.native import body

Resolve = Callable[[str], Model]

TASK = "e110b69dd96841a28eb66617c7f82719"


def test_pages_of_models(models: list[Model]) -> None:
    page = json.loads(models_page(models, {"page_no": "2", "page_size": "1"}, "r"))
    assert page["request_id"] == "r"
    output = page["output"]
    assert (output["total"], output["page_no"], output["page_size"]) == (2, 2, 1)
    assert [entry["model"] for entry in output["models"]] == [models[1].name]
    beyond = json.loads(models_page(models, {"page_no": "9"}, "r"))["output"]
    assert (beyond["total"], beyond["models"]) == (2, [])


def test_a_query_for_one_model(models: list[Model]) -> None:
    found = json.loads(models_page(models, {"model": "qwen-plus"}, "r"))["output"]
    assert [entry["model"] for entry in found["models"]] == ["qwen-plus"]
    none = json.loads(models_page(models, {"model": "gpt-9"}, "r"))["output"]
    assert (none["total"], none["models"]) == (0, [])
    assert json.loads(model_page(models[0], "r"))["output"]["model"] == "qwen-plus"


@pytest.mark.parametrize(
    "query",
    [
        {"page_no": "0"},
        {"page_no": "x"},
        {"page_no": "-1"},
        {"page_size": "101"},
        {"page_size": "1" * 30},
        {"page_size": "²"},
    ],
)
def test_pages_that_cannot_be(models: list[Model], query: dict[str, str]) -> None:
    with pytest.raises(StudioError, match="Range of page_"):
        models_page(models, query, "r")


def test_what_to_count(resolve: Resolve) -> None:
    text = read_count_request(body(prompt="a<|im_end|>"), resolve)
    assert text.prompt == "a<|im_end|>"
    chat = read_count_request(body(messages=[{"role": "user", "content": "a"}]), resolve)
    assert isinstance(chat.prompt, ChatPrompt)
    with pytest.raises(StudioError):
        read_count_request(body(messages=None), resolve)


def test_the_answer_of_a_count() -> None:
    assert json.loads(count_answer([1, 2], ["a", "b"], None, "r")) == {
        "output": {"token_ids": [1, 2], "tokens": ["a", "b"]},
        "usage": {"input_tokens": 2},
        "request_id": "r",
    }
    assert json.loads(count_answer([1], ["a"], "a", "r"))["output"]["prompt"] == "a"


def message(**header: object) -> bytes:
    said = {"action": "run-task", "task_id": TASK, "streaming": "out"} | header
    return json.dumps({"header": said, "payload": {"model": "m"}}).encode()


def test_messages_are_read() -> None:
    read = read_message(message())
    assert (read.action, read.task_id, read.streams) == ("run-task", TASK, True)
    assert read.payload == {"model": "m"}
    assert read_message(message(streaming="none")).streams is False
    assert read_message(b'{"header":{"action":"finish-task","task_id":"t"}}').payload == {}


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"header":{"task_id":"t"}}',
        message(action="dance"),
        message(task_id=""),
        message(task_id="x" * 65),
        message(task_id=7),
        message(streaming="duplex"),
        b'{"header":{"action":"run-task","task_id":"t"},"payload":[]}',
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(StudioError):
        read_message(data)


def test_only_text_generation_is_a_task() -> None:
    check_task({})
    check_task({"task": "text-generation", "task_group": "aigc", "function": "generation"})
    with pytest.raises(StudioError, match="'task' must be 'text-generation'"):
        check_task({"task": "text-to-speech"})


def test_a_task_that_streams(resolve: Resolve) -> None:
    call = DashScope(stream=True).parse(body({"result_format": "message"}), resolve)
    encoder = TaskEncoder(TASK, call)
    said = [
        *encoder.feed([Started(3), TextDelta(0, "hi", 1)]),
        *encoder.feed([TextDelta(0, "!", 2), Finish(0, FinishReason.STOP, 2), Done(Usage(3, 2))]),
    ]
    events = [json.loads(one) for one in said]
    assert [one["header"] for one in events] == [
        {"task_id": TASK, "event": "result-generated", "attributes": {}},
        {"task_id": TASK, "event": "task-finished", "attributes": {}},
    ]
    assert [one["payload"]["output"]["choices"][0]["message"]["content"] for one in events] == [
        "hi",
        "hi!",
    ]
    assert events[-1]["payload"]["usage"]["output_tokens"] == 2


def test_a_task_that_does_not_stream_has_one_result(resolve: Resolve) -> None:
    call = DashScope().parse(body(), resolve)
    completion = collect(
        [Started(3), TextDelta(0, "hi", 1), Finish(0, FinishReason.STOP, 1), Done(Usage(3, 1))]
    )
    result, finished = [json.loads(one) for one in whole_task(TASK, completion, call)]
    assert result["header"]["event"] == "result-generated"
    assert result["payload"]["output"] == {"finish_reason": "stop", "text": "hi"}
    assert finished == {
        "header": {"task_id": TASK, "event": "task-finished", "attributes": {}},
        "payload": {},
    }


def test_the_beginning_and_the_failure_of_a_task() -> None:
    assert json.loads(task_started(TASK)) == {
        "header": {"task_id": TASK, "event": "task-started", "attributes": {}},
        "payload": {},
    }
    failed = json.loads(task_failed(TASK, StudioError(ErrorKind.MODEL_NOT_FOUND, "x")))
    assert failed["header"] == {
        "task_id": TASK,
        "event": "task-failed",
        "error_code": "InvalidParameter",
        "error_message": "Model not exist.",
        "attributes": {},
    }
