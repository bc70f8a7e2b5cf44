"""The native dialect, DashScope: `POST /services/aigc/text-generation/generation` and its multimodal twin.

Whether to stream is said by a header, and which of the two paths was taken decides what content looks
like, so there is one dialect object for each combination: `DashScope(stream=…, list_content=…)`.
"""

from collections.abc import Callable, Sequence

from ownstudio.catalog import Model
from ownstudio.core.errors import StudioError
from ownstudio.core.events import Completion, Event
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.answer_json import one_line
from ownstudio.dialects.dashscope_errors import error_body
from ownstudio.dialects.dashscope_request import read_call
from ownstudio.dialects.dashscope_results import Form, ResultStream, whole_result
from ownstudio.dialects.fields import Fields, read_object


class DashScope:
    """The native dialect; see `Dialect` for what each method owes."""

    def __init__(self, *, stream: bool = False, list_content: bool = False) -> None:
        self._stream = stream
        self._list_content = list_content

    def parse(self, body: bytes, resolve: Callable[[str], Model]) -> Call:
        return self.read(read_object(body), resolve)

    def read(self, fields: Fields, resolve: Callable[[str], Model]) -> Call:
        """`parse` for a body that has been decoded already."""
        return read_call(fields, resolve, stream=self._stream, list_content=self._list_content)

    def render(self, completion: Completion, call: Call, identity: Identity) -> bytes:
        return _enveloped(whole_result(completion, self.form(call)), identity.request_id)

    def encoder(self, call: Call, identity: Identity) -> "EventEncoder":
        return EventEncoder(ResultStream(call, self.form(call)), identity.request_id)

    def error(self, error: StudioError, request_id: str) -> bytes:
        return error_body(error, request_id)

    def form(self, call: Call) -> Form:
        return Form(call, list_content=self._list_content)


class EventEncoder:
    """Server-sent events: a number, a name, the status as a comment, one line of data, and no end mark.

    There is no space after a colon: the Python SDK compares whole lines. `finish` raises ValueError when
    no `Done` was fed.
    """

    def __init__(self, results: ResultStream, request_id: str) -> None:
        self._results = results
        self._request_id = request_id
        self._number = 0

    def feed(self, events: Sequence[Event]) -> bytes:
        return b"".join(
            [
                self._frame(b"result", 200, one_line(_enveloped(result, self._request_id)))
                for result in self._results.feed(events)
            ]
        )

    def finish(self) -> bytes:
        if not self._results.done:
            raise ValueError("the stream ended before its generation did")
        return b""

    def error(self, error: StudioError) -> bytes:
        return self._frame(b"error", error.status, error_body(error, self._request_id))

    def _frame(self, name: bytes, status: int, data: bytes) -> bytes:
        self._number += 1
        return b"id:%d\nevent:%b\n:HTTP_STATUS/%d\ndata:%b\n\n" % (
            self._number,
            name,
            status,
            data,
        )


def _enveloped(result: bytes, request_id: str) -> bytes:
    return b'{%b,"request_id":"%b"}' % (result, request_id.encode())
