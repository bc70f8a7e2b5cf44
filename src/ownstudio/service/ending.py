"""How generations end, and what each ending costs: the one table of both."""

from enum import Enum

from msgspec import Struct

from ownstudio.core.errors import ErrorKind
from ownstudio.core.events import Usage


class Ending(Enum):
    """How a generation ended; the words are labels of a metric and stand in the ledger."""

    STOP = "stop"
    LENGTH = "length"
    HANG_UP = "hang_up"
    REFUSED = "refused"
    LIMITED = "limited"
    OVERLOADED = "overloaded"
    ENGINE_DIED = "engine_died"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    FAILED = "failed"


# What is charged: whole answers, and of an answer that its client hung up on what was written until then. Whatever we
# broke off costs nothing, however much of it had been sent (docs/billing.md).
CHARGED = frozenset({Ending.STOP, Ending.LENGTH, Ending.HANG_UP})

_OF_ERROR = {
    ErrorKind.REQUESTS_LIMITED: Ending.LIMITED,
    ErrorKind.TOKENS_LIMITED: Ending.LIMITED,
    ErrorKind.BURST_LIMITED: Ending.LIMITED,
    ErrorKind.CONCURRENCY_LIMITED: Ending.LIMITED,
    ErrorKind.OVERLOADED: Ending.OVERLOADED,
    ErrorKind.ENGINE_FAILED: Ending.ENGINE_DIED,
    ErrorKind.ENGINE_UNAVAILABLE: Ending.ENGINE_UNAVAILABLE,
    ErrorKind.TIMEOUT: Ending.DEADLINE,
    ErrorKind.SHUTTING_DOWN: Ending.SHUTDOWN,
    ErrorKind.INTERNAL: Ending.FAILED,
    ErrorKind.STORE_UNAVAILABLE: Ending.FAILED,
}


def ending_of(kind: ErrorKind) -> Ending:
    """How a generation ended that raised an error of this kind."""
    return _OF_ERROR.get(kind, Ending.REFUSED)


class Outcome(Struct, frozen=True):
    """What is recorded of an ended generation. Times are in seconds; a first token may never have come."""

    ending: Ending
    usage: Usage
    seconds: float
    first_token_seconds: float | None
