"""What is asked of the limits and what they answer, and the rules that all counters keep.

The window is the last 60 seconds, ending now, so that in no 60 seconds more is admitted than allowed. It is counted in
buckets of one second, and a bucket leaves the window when the last admission in it does. Therefore what was admitted
earlier in the same second counts up to a second too long: the error is on the safe side, and there is none while
demand is there, since then all of a bucket is admitted the moment that there is room.

Each scope has a window. All caps of an ask are checked and taken in one step or none is: what is refused consumes
nothing. Times inside are whole microseconds, so that waiting as long as a refusal says is always enough.
"""

from typing import Literal, Protocol

from msgspec import Struct

SECOND = 1_000_000
MINUTE = 60 * SECOND

# The surge rule compares so many seconds with as many before them, and never minds so few requests.
SURGE_SECONDS = 10
SURGE_FREE = 10
SURGE_PREFIX = "surge:"

# Nobody knows when a running request ends. Whoever has too many running may look again after this.
CONCURRENCY_RETRY = SECOND

Kind = Literal["requests", "tokens", "burst", "concurrency"]


class CountersDown(Exception):
    """The counters cannot be reached. The text is for the operator."""


class Cap(Struct, frozen=True):
    """What may pass in a minute in one scope, such as one account's use of one model. None is no limit."""

    scope: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Concurrency(Struct, frozen=True):
    """At most `limit` requests of a scope at once. A place that nobody gives back is free again after `lease_s`."""

    scope: str
    limit: int
    lease_s: float


class Ask(Struct, frozen=True):
    """One request, before it is admitted.

    `account` owns every scope of the ask. The scopes of the caps are distinct; each is counted, so a cap that limits
    nothing is better left out. So are those of `concurrency`, in each of which the request runs. `turn` says who takes
    turns when requests wait, which is the key. `tokens` is the input, counted exactly, and the longest possible output.
    `surge_scope` is what the surge rule looks at.
    """

    receipt: str
    account: str
    turn: str
    caps: tuple[Cap, ...] = ()
    tokens: int = 0
    concurrency: tuple[Concurrency, ...] = ()
    surge_scope: str | None = None


class Pace(Struct, frozen=True):
    """What holds besides the minute.

    `per_second`: also in each second at most a sixtieth of the limit, rounded up; a request with more tokens than that
    passes in a second that is still empty. `surge`: in the ten seconds that end now at most so many times the requests
    of the ten seconds before, and ten more; 0 is no such rule.
    """

    per_second: bool = True
    surge: float = 0.0


class Room(Struct, frozen=True):
    """What is left of a limit per minute. `reset_s`: until what was taken longest ago comes back, 0 where nothing is
    taken."""

    limit: int
    remaining: int
    reset_s: float


class Grant(Struct, frozen=True):
    """An admission, to be settled or withdrawn exactly once.

    `requests` and `tokens` are the caps with the least left of each. `second`, `scopes`, `concurrency` and `reserved`
    say where it was taken from.
    """

    receipt: str = ""
    account: str = ""
    scopes: tuple[str, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    second: int = 0
    reserved: int = 0
    requests: Room | None = None
    tokens: Room | None = None
    waited_s: float = 0.0
    # Taken from the counters of this process while the shared ones were away.
    from_fallback: bool = False


class Refusal(Struct, frozen=True):
    """Why not: of everything in the way, what is in it longest.

    `retry_after_s` is when it will have left, if nobody else takes its place; None is never: the request asks for more
    than the limit. For concurrency it is a guess. `current` of `limit` were taken in the last `window_s` seconds (0 for
    concurrency: they run now).
    """

    kind: Kind
    scope: str
    retry_after_s: float | None
    limit: int
    current: int
    window_s: int
    requests: Room | None = None
    tokens: Room | None = None


class Counters(Protocol):
    """Where takings are counted. Memory and Redis behave alike; one suite of tests holds them to it."""

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        """Take all or nothing. Cancelled, it has taken nothing.

        Raises CountersDown; the request then runs nowhere, though the minute may have counted it.
        """

    async def put_back(self, grant: Grant, *, requests: int, tokens: int) -> None:
        """Take this much out of where the grant was counted, if that is still in the window, and end its leases.

        Negative tokens are counted in addition. Raises CountersDown; the leases end then when the counters are back.
        """


def scopes_of(ask: Ask, pace: Pace) -> tuple[str, ...]:
    """The windows that an ask is counted in: its caps' in their order, then that of the surge rule."""
    scopes = [cap.scope for cap in ask.caps]
    if pace.surge > 0 and ask.surge_scope is not None:
        scopes.append(SURGE_PREFIX + ask.surge_scope)
    return tuple(scopes)
