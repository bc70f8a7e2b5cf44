"""Counters in Redis, shared by all gateways that use it.

Each operation is one script, so one step for everybody. The clock is that of Redis, so that gateways whose clocks
differ agree. All keys of an account share a hash tag and so lie on one node of a cluster.

A take that is cancelled may have reached Redis or not: it is followed to its end and given back. After a lost
connection it is sent once more, and may then count twice in the windows, though it runs once.

What Redis does not answer in time it may do all the same, as soon as it goes on. What the windows have of that is an
error on the safe side, and gone with the minute. Leases are not, so they are removed until Redis has said so.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError

from ownstudio.limits.scripts import PUT_BACK, TAKE
from ownstudio.limits.terms import (
    SECOND,
    Ask,
    Concurrency,
    CountersDown,
    Grant,
    Kind,
    Pace,
    Refusal,
    Room,
    scopes_of,
)

TIMEOUT_S = 1.0
CONNECTIONS_MAX = 16

# When orphans are removed: so long after the first of them came, and after each failure twice as long, up to a most.
REMOVE_AFTER_S = 0.25
REMOVE_EVERY_S_MAX = 5.0
# So many orphans are known, and so many are removed in one go.
ORPHANS_MAX = 10_000
REMOVED_AT_ONCE = 500

_PREFIX = "ownstudio:limits"
_KINDS: tuple[Kind, ...] = ("requests", "tokens", "burst", "concurrency")

T = TypeVar("T")


class _Orphan(NamedTuple):
    """Where the leases of one receipt may lie, and when they have ended by themselves, in the loop's time."""

    keys: Sequence[str]
    until: float


class _Orphans:
    """Leases that Redis may have and nobody owns: of who was told that Redis is away, or of who could not give back.

    A task removes them while there are any: it tries again until Redis answers or they have ended by themselves. If
    there are too many, those that came first are left to end.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        # By receipt, first come first.
        self._known: dict[str, _Orphan] = {}
        self._removing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def other_name(self, receipt: str) -> str:
        """The receipt, or a name like it where orphans have it: who waits asks again under the same receipt."""
        while receipt in self._known:
            receipt += "+"
        return receipt

    def add(self, receipt: str, account: str, concurrency: Sequence[Concurrency]) -> None:
        if not concurrency:
            return
        if len(self._known) >= ORPHANS_MAX:
            del self._known[next(iter(self._known))]
        loop = asyncio.get_running_loop()
        until = loop.time() + max(most.lease_s for most in concurrency)
        self._known[receipt] = _Orphan(_lease_keys(account, concurrency), until)
        if self._removing is None or self._removing.done():
            self._removing = loop.create_task(self._remove())

    async def close(self) -> None:
        """Remove what can be removed at once, and give up the rest."""
        self._closing.set()
        if self._removing is not None:
            await asyncio.wait([self._removing])

    async def _remove(self) -> None:
        delay_s = REMOVE_AFTER_S
        while self._known:
            # What is to be removed may still be on its way, so also the first time.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), delay_s)
            try:
                while self._known:
                    await self._remove_some()
            except CountersDown:
                if self._closing.is_set():
                    return
                delay_s = min(2 * delay_s, REMOVE_EVERY_S_MAX)
                self._forget()

    async def _remove_some(self) -> None:
        some = dict(islice(self._known.items(), REMOVED_AT_ONCE))
        pipeline = self._client.pipeline(transaction=False)
        for receipt, orphan in some.items():
            for key in orphan.keys:
                pipeline.zrem(key, receipt)
        with _translated():
            await pipeline.execute()
        for receipt in some:
            self._known.pop(receipt, None)

    def _forget(self) -> None:
        """Those whose time is over."""
        now = asyncio.get_running_loop().time()
        self._known = {
            receipt: orphan for receipt, orphan in self._known.items() if orphan.until > now
        }


class RedisCounters:
    """`now` is a clock in seconds instead of Redis' own, for tests to turn."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        now: Callable[[], float] | None = None,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Once more, at once, with a new connection: what was idle while Redis restarted is dead.
            retry=Retry(NoBackoff(), 1, supported_errors=(LostConnection,)),
        )
        self._client = Redis(connection_pool=pool)
        self._take_script = self._client.register_script(TAKE)
        self._put_back_script = self._client.register_script(PUT_BACK)
        self._now = now
        self._owned: set[asyncio.Task[Any]] = set()
        self._orphans = _Orphans(self._client)

    async def close(self) -> None:
        """Finish what is under way, then hang up."""
        while self._owned:
            await asyncio.wait(self._owned)
        await self._orphans.close()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        taking = self._own(self._take(ask, pace))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._own(self._undo(taking))
            raise

    async def put_back(self, grant: Grant, *, requests: int, tokens: int) -> None:
        # What is owed is given back also when whoever gives it is cancelled meanwhile.
        await asyncio.shield(self._own(self._put_back(grant, requests, tokens)))

    async def _take(self, ask: Ask, pace: Pace) -> Grant | Refusal:
        receipt = self._orphans.other_name(ask.receipt)
        scopes = scopes_of(ask, pace)
        leases = _lease_keys(ask.account, ask.concurrency)
        keys = [*_window_keys(ask.account, scopes), *leases]
        surging = pace.surge > 0 and ask.surge_scope is not None
        arguments: list[str | int | float] = [
            "" if self._now is None else round(self._now() * SECOND),
            int(pace.per_second),
            pace.surge if surging else "",
            ask.tokens,
            receipt,
            len(leases),
        ]
        for cap in ask.caps:
            arguments += [_or_none(cap.requests_per_minute), _or_none(cap.tokens_per_minute)]
        for most in ask.concurrency:
            arguments += [most.limit, round(most.lease_s * SECOND)]
        answer: Sequence[int]
        try:
            with _translated():
                answer = await self._take_script(keys=keys, args=arguments)
        except CountersDown:
            self._orphans.add(receipt, ask.account, ask.concurrency)
            raise
        if answer[0]:
            return Grant(
                receipt=receipt,
                account=ask.account,
                scopes=scopes,
                concurrency=ask.concurrency,
                second=answer[1],
                reserved=ask.tokens,
                requests=_room(answer[2:5]),
                tokens=_room(answer[5:8]),
            )
        kind, index, wait, limit, current, window_s = answer[1:7]
        in_order = (*scopes, *(most.scope for most in ask.concurrency))
        return Refusal(
            kind=_KINDS[kind - 1],
            scope=in_order[index - 1],
            retry_after_s=None if wait < 0 else wait / SECOND,
            limit=limit,
            current=current,
            window_s=window_s,
            requests=_room(answer[7:10]),
            tokens=_room(answer[10:13]),
        )

    async def _put_back(self, grant: Grant, requests: int, tokens: int) -> None:
        if not (requests or tokens or grant.concurrency):
            return
        leases = _lease_keys(grant.account, grant.concurrency)
        keys = [*_window_keys(grant.account, grant.scopes), *leases]
        try:
            with _translated():
                await self._put_back_script(
                    keys=keys, args=[grant.second, requests, tokens, grant.receipt, len(leases)]
                )
        except CountersDown:
            self._orphans.add(grant.receipt, grant.account, grant.concurrency)
            raise

    async def _undo(self, taking: asyncio.Task[Grant | Refusal]) -> None:
        """Give back what was taken for somebody who has gone, as far as Redis can be reached."""
        try:
            taken = await taking
            if isinstance(taken, Grant):
                await self._put_back(taken, 1, taken.reserved)
        except CountersDown:
            return

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task


def _window_keys(account: str, scopes: Iterable[str]) -> list[str]:
    return [f"{_PREFIX}:{{{account}}}:window:{scope}" for scope in scopes]


def _lease_keys(account: str, concurrency: Iterable[Concurrency]) -> list[str]:
    return [f"{_PREFIX}:{{{account}}}:leases:{most.scope}" for most in concurrency]


def _or_none(limit: int | None) -> int | str:
    return "" if limit is None else limit


def _room(numbers: Sequence[int]) -> Room | None:
    limit, remaining, reset = numbers
    return None if limit < 0 else Room(limit, remaining, reset / SECOND)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise CountersDown(f"Redis: {error or type(error).__name__}") from error
