"""The load: a small HTTP/1.1 client that costs little beside what it measures, and closed loops of it.

It knows what our servers send and no more: a length or chunks, or the end of the connection. One `Connection` carries
one request at a time. Times are seconds from the first byte sent; uvloop's own clock would be too coarse for them.
"""

import asyncio
from itertools import count
from time import perf_counter
from typing import Self, cast

from msgspec import Struct

ANSWER_S_MAX = 60.0
NUMBER = b"00000000"
_EVENT = b"data: "
# What llama.cpp tells of a prefill is an event, but not one of the answer's.
_PROGRESS = b'"prompt_progress":'
_LAST_CHUNK = b"0\r\n\r\n"


class Target(Struct, frozen=True):
    """Where requests go: a port of the loopback interface, or a Unix socket; and what their head says."""

    path: str
    port: int = 0
    socket_path: str = ""
    key: str = ""

    def request(self, body: bytes) -> bytes:
        authorization = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\n{authorization}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Answer(Struct):
    """One answer as it came. `raw` is the body with its chunk frames; `first_s` is 0 until an event has come."""

    status: int = 0
    raw: bytes = b""
    events: int = 0
    first_s: float = 0.0
    seconds: float = 0.0

    def body(self) -> bytes:
        """The body without chunk frames."""
        pieces = []
        rest = self.raw
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            if length == 0:
                break
            pieces.append(rest[:length])
            rest = rest[length + 2 :]
        return b"".join(pieces)


class RequestFailed(Exception):
    """An answer that a benchmark cannot count: not 200, or broken off."""


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._length: int | None = None
        self._chunked = False
        self._sent_at = 0.0
        self._done: asyncio.Future[Answer] = self._loop.create_future()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self.answer = Answer()

    @classmethod
    async def open(cls, target: Target) -> Self:
        loop = asyncio.get_running_loop()
        if target.socket_path:
            _, connection = await loop.create_unix_connection(cls, target.socket_path)
        else:
            _, connection = await loop.create_connection(cls, "127.0.0.1", target.port)
        return connection

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._done = self._loop.create_future()
        self._started = self._loop.create_future()
        self._head, self._length, self._chunked = b"", None, False
        self.answer = Answer()
        self._sent_at = perf_counter()
        self._transport.write(request)

    async def ask(self, request: bytes) -> Answer:
        """Send and wait for the whole answer. Raises RequestFailed, TimeoutError."""
        self.send(request)
        async with asyncio.timeout(ANSWER_S_MAX):
            return await self._done

    async def started(self) -> None:
        """Wait for the first event of a stream."""
        async with asyncio.timeout(ANSWER_S_MAX):
            await self._started

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def closed(self) -> bool:
        return self._transport is None

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail("the connection ended before the answer did")

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if not answer.status:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._read_head(head)
        answer.raw += data
        events = data.count(_EVENT) - data.count(_PROGRESS)
        if events:
            if not answer.events:
                answer.first_s = perf_counter() - self._sent_at
                if not self._started.done():
                    self._started.set_result(None)
            answer.events += events
        if self._complete():
            answer.seconds = perf_counter() - self._sent_at
            if answer.status != 200:
                self._fail(f"status {answer.status}: {answer.raw[:300]!r}")
            elif not self._done.done():
                self._done.set_result(answer)

    def _read_head(self, head: bytes) -> None:
        status, *lines = head.split(b"\r\n")
        self.answer.status = int(status.split()[1])
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                self._length = int(value)
            elif name.lower() == b"transfer-encoding":
                self._chunked = True

    def _complete(self) -> bool:
        raw = self.answer.raw
        if self._chunked:
            return raw == _LAST_CHUNK or raw.endswith(b"\r\n" + _LAST_CHUNK)
        return self._length is not None and len(raw) >= self._length

    def _fail(self, why: str) -> None:
        for future in (self._done, self._started):
            if not future.done():
                future.set_exception(RequestFailed(why))
                future.exception()  # seen: nobody may be waiting for it


class Load(Struct, frozen=True):
    """What a closed loop did, from idle to idle."""

    answers: list[Answer]
    seconds: float

    @property
    def events(self) -> int:
        return sum(answer.events for answer in self.answers)


async def ask_once(target: Target, request: bytes) -> Answer:
    """One request on a connection of its own, as the product asks its engine. The time includes connecting."""
    begun = perf_counter()
    connection = await Connection.open(target)
    connecting_s = perf_counter() - begun
    try:
        answer = await connection.ask(request)
    finally:
        connection.close()
    answer.seconds += connecting_s
    answer.first_s += connecting_s
    return answer


async def closed_loop(
    target: Target, body: bytes, *, clients: int, seconds: float, requests_max: int = 1_000_000
) -> Load:
    """`clients` clients, each asking anew as soon as it is answered, on connections that stay open.

    Where `body` holds NUMBER, each request has a number of its own there, so that nobody can answer from a cache.
    """
    before, number, after = target.request(body).partition(NUMBER)
    numbers = count()
    answers: list[Answer] = []
    connections = [await Connection.open(target) for _ in range(clients)]
    begun = perf_counter()

    async def client(connection: Connection) -> None:
        while perf_counter() - begun < seconds and len(answers) < requests_max:
            request = b"%b%08d%b" % (before, next(numbers), after) if number else before
            answers.append(await connection.ask(request))

    try:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(client(connection))
    finally:
        for connection in connections:
            connection.close()
    return Load(answers, perf_counter() - begun)


async def wave(target: Target, bodies: list[bytes], *, reconnect: bool) -> Load:
    """All `bodies` at once, each on its own connection; over when the last is answered.

    With `reconnect` opening a connection is part of the time, as it is for whoever calls the engine directly.
    """
    requests = [target.request(body) for body in bodies]
    connections = [] if reconnect else [await Connection.open(target) for _ in bodies]
    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        if reconnect:
            tasks = [group.create_task(ask_once(target, request)) for request in requests]
        else:
            tasks = [
                group.create_task(connection.ask(request))
                for connection, request in zip(connections, requests, strict=True)
            ]
    seconds = perf_counter() - begun
    for connection in connections:
        connection.close()
    return Load([task.result() for task in tasks], seconds)
