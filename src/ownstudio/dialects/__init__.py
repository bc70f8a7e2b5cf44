"""The wire languages. Each parses a body into the neutral request and writes neutral events as bytes.

Dialects are pure (no I/O, no clock: ids and times come in) and know nothing of each other.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from ownstudio.catalog import Model
from ownstudio.core.errors import StudioError
from ownstudio.core.events import Completion, Event
from ownstudio.core.request import GenerationRequest


class Identity(Struct, frozen=True):
    """What marks one answer: the request id (a UUID) and its Unix time in seconds."""

    request_id: str
    created: int


class Call(Struct, frozen=True):
    """A parsed request with what concerns the wire alone.

    `include_usage` is how an OpenAI stream ends; `result_format` and `incremental` say what a native answer
    holds and whether its stream sends what is new or everything so far. `echo` is a text that the answer
    begins with. `ignored` names the fields of the body that no table knows; the answer lists them in a
    header.
    """

    request: GenerationRequest
    model: Model
    stream: bool = False
    include_usage: bool = False
    result_format: Literal["text", "message"] = "message"
    incremental: bool = True
    echo: str = ""
    ignored: tuple[str, ...] = ()


class Encoder(Protocol):
    """Writes one stream. `feed` and `finish` return bytes ready to send; `error` ends a stream that failed."""

    def feed(self, events: Sequence[Event]) -> bytes: ...

    def finish(self) -> bytes: ...

    def error(self, error: StudioError) -> bytes: ...


class Dialect(Protocol):
    def parse(self, body: bytes, resolve: Callable[[str], Model]) -> Call:
        """Read a body. `resolve` finds a model by name. Raises StudioError, naming the parameter at fault."""
        ...

    def render(self, completion: Completion, call: Call, identity: Identity) -> bytes: ...

    def encoder(self, call: Call, identity: Identity) -> Encoder: ...

    def error(self, error: StudioError, request_id: str) -> bytes: ...
