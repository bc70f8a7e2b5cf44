"""Text generation over a WebSocket, as messages: one `run-task` in, and the events of its task out.

A task that streams has a `result-generated` for each result but the last, which comes with `task-finished`.
One that does not has a single whole result, since the Python SDK returns the first that it sees.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Completion, Event
from ownstudio.dialects import Call
from ownstudio.dialects.answer_json import Json
from ownstudio.dialects.dashscope_errors import error_code, error_message
from ownstudio.dialects.dashscope_results import Form, ResultStream, whole_result
from ownstudio.dialects.fields import Fields, malformed, read_object, text, wrong_type

RUN, CONTINUE, FINISH = "run-task", "continue-task", "finish-task"
TASK_ID_CHARACTERS_MAX = 64

# What a task may be; a message that leaves some of it out means the same.
_TASK = {"task": "text-generation", "task_group": "aigc", "function": "generation"}


class Message(Struct, frozen=True):
    """One message of a client. `streams` says that it wants results as they come."""

    action: str
    task_id: str
    streams: bool
    payload: Fields


def read_message(data: bytes) -> Message:
    """Raises StudioError for what is no message."""
    fields = read_object(data)
    header = fields.get("header")
    if type(header) is not dict:
        raise wrong_type("header", "Object")
    payload = fields.get("payload")
    if payload is not None and type(payload) is not dict:
        raise wrong_type("payload", "Object")
    action = text(header, "action")
    if action not in (RUN, CONTINUE, FINISH):
        raise malformed("action", f"The action of a message must be '{RUN}'")
    task_id = text(header, "task_id") or ""
    if not 1 <= len(task_id) <= TASK_ID_CHARACTERS_MAX:
        raise malformed(
            "task_id", f"Range of task_id length should be [1, {TASK_ID_CHARACTERS_MAX}]"
        )
    streaming = text(header, "streaming") or "none"
    if streaming not in ("none", "out"):
        raise malformed("streaming", "Text generation takes its input at once: use 'out' or 'none'")
    return Message(action, task_id, streaming == "out", payload or {})


def check_task(payload: Fields) -> None:
    """Raises StudioError for a task that is not text generation."""
    for name, value in _TASK.items():
        if payload.get(name) not in (None, "", value):
            raise StudioError(
                ErrorKind.INVALID_PARAMETER, f"'{name}' must be '{value}'", param=name
            )


class TaskEncoder:
    """The messages of one task that streams."""

    def __init__(self, task_id: str, call: Call) -> None:
        self._task_id = task_id
        self._results = ResultStream(call, Form(call, list_content=False))

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        results = self._results.feed(events)
        if not self._results.done:
            return [_event(self._task_id, "result-generated", result) for result in results]
        *earlier, last = results
        return [
            *(_event(self._task_id, "result-generated", result) for result in earlier),
            _event(self._task_id, "task-finished", last),
        ]


def whole_task(task_id: str, completion: Completion, call: Call) -> list[bytes]:
    """The messages of a task that does not stream."""
    result = whole_result(completion, Form(call, list_content=False))
    return [_event(task_id, "result-generated", result), _event(task_id, "task-finished")]


def task_started(task_id: str) -> bytes:
    return _event(task_id, "task-started")


def task_failed(task_id: str, error: StudioError) -> bytes:
    return _message(
        {
            "task_id": task_id,
            "event": "task-failed",
            "error_code": error_code(error),
            "error_message": error_message(error),
            "attributes": {},
        }
    )


def _event(task_id: str, event: str, payload: bytes = b"") -> bytes:
    return _message({"task_id": task_id, "event": event, "attributes": {}}, payload)


def _message(header: Json, payload: bytes = b"") -> bytes:
    return b'{"header":%b,"payload":{%b}}' % (msgspec.json.encode(header), payload)
