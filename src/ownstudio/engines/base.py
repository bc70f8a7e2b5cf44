"""The engine port: token ids in, chunks out. Whatever computes stands behind these four methods."""

from collections.abc import AsyncGenerator
from enum import Enum
from typing import Protocol

from msgspec import Struct

from ownstudio.core.events import TokenId, TokenLogprob
from ownstudio.core.request import EngineRequest


class EngineFinish(Enum):
    """Why the engine stopped writing a choice: the model's end token, or the token limit."""

    END_TOKEN = "end_token"
    LIMIT = "limit"


class Chunk(Struct, frozen=True, gc=False):
    """A piece of one choice as the engine wrote it, before any meaning.

    `text` never ends inside a character. `tokens` counts all that the choice has written so far, its end
    token excluded; `token_ids` are those of this piece. `cached_tokens` is how many of the prompt's were
    taken from the engine's KV cache. The last chunk of a choice carries `finish`.
    """

    choice: int
    text: str
    token_ids: tuple[TokenId, ...]
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: EngineFinish | None = None
    cached_tokens: int = 0


class EngineState(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class EngineFacts(Struct, frozen=True):
    """What an engine says of itself when it is ready. `context` is tokens per request, `slots` how many run at once."""

    context: int
    slots: int


class EngineDied(Exception):
    """The engine went away before the generation was over; the text is for the operator."""


class EngineRefused(Exception):
    """The engine understood the request and will not run it; the text is for the operator."""


class EngineUnavailable(Exception):
    """The engine cannot be started; the text names the fault and is safe to show.

    `retry_after_s` is how many seconds from now it is tried again, where that is known.
    """

    def __init__(self, fault: str, retry_after_s: float | None = None) -> None:
        super().__init__(fault)
        self.retry_after_s = retry_after_s


class Engine(Protocol):
    async def ready(self) -> EngineFacts:
        """Start the engine if it is not running; wait until it answers. Raises EngineUnavailable."""
        ...

    def stream(self, request: EngineRequest) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of one request, as many at a time as arrived together.

        Every choice ends with a chunk that has `finish`. Closing the generator aborts the request in the engine.
        Raises EngineDied, EngineRefused.
        """
        ...

    def state(self) -> EngineState: ...

    async def close(self) -> None: ...
