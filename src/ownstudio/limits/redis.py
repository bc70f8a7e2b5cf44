"""Counters in Redis, shared by all gateways that use it.

Each operation is one script, so one step for everybody. The clock is that of Redis, so that gateways whose clocks
differ agree. All keys of an account share a hash tag and so lie on one node of a cluster.

A take that is cancelled may have reached Redis or not: it is followed to its end and given back. After a lost
connection it is sent once more, and may then count twice: the error is on the safe side, and gone with the minute.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError

from ownstudio.limits.scripts import PUT_BACK, TAKE
from ownstudio.limits.terms import (
    SECOND,
    Ask,
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

_PREFIX = "ownstudio:limits"
_KINDS: tuple[Kind, ...] = ("requests", "tokens", "burst", "concurrency")

T = TypeVar("T")


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

    async def close(self) -> None:
        """Finish what is under way, then hang up."""
        while self._owned:
            await asyncio.wait(self._owned)
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
        scopes = scopes_of(ask, pace)
        most = ask.concurrency
        keys = _keys(ask.account, scopes, None if most is None else most.scope)
        surging = pace.surge > 0 and ask.surge_scope is not None
        arguments: list[str | int | float] = [
            "" if self._now is None else round(self._now() * SECOND),
            int(pace.per_second),
            pace.surge if surging else "",
            ask.tokens,
            ask.receipt,
            "" if most is None else most.limit,
            0 if most is None else round(most.lease_s * SECOND),
        ]
        for cap in ask.caps:
            arguments += [_or_none(cap.requests_per_minute), _or_none(cap.tokens_per_minute)]
        with _translated():
            answer: Sequence[int] = await self._take_script(keys=keys, args=arguments)
        if answer[0]:
            return Grant(
                receipt=ask.receipt,
                account=ask.account,
                scopes=scopes,
                lease=None if most is None else most.scope,
                second=answer[1],
                reserved=ask.tokens,
                requests=_room(answer[2:5]),
                tokens=_room(answer[5:8]),
            )
        kind, index, wait, limit, current, window_s = answer[1:7]
        return Refusal(
            kind=_KINDS[kind - 1],
            scope=scopes[index - 1] if index <= len(scopes) or most is None else most.scope,
            retry_after_s=None if wait < 0 else wait / SECOND,
            limit=limit,
            current=current,
            window_s=window_s,
            requests=_room(answer[7:10]),
            tokens=_room(answer[10:13]),
        )

    async def _put_back(self, grant: Grant, requests: int, tokens: int) -> None:
        if not (requests or tokens or grant.lease):
            return
        keys = _keys(grant.account, grant.scopes, grant.lease)
        receipt = "" if grant.lease is None else grant.receipt
        with _translated():
            await self._put_back_script(keys=keys, args=[grant.second, requests, tokens, receipt])

    async def _undo(self, taking: asyncio.Task[Grant | Refusal]) -> None:
        """Give back what was taken for somebody who has gone. Where Redis is away, the minute does it."""
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


def _keys(account: str, scopes: tuple[str, ...], lease: str | None) -> list[str]:
    keys = [f"{_PREFIX}:{{{account}}}:window:{scope}" for scope in scopes]
    if lease is not None:
        keys.append(f"{_PREFIX}:{{{account}}}:leases:{lease}")
    return keys


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
