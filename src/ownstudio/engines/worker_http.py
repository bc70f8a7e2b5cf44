"""HTTP with a worker over its Unix socket: one request, one connection, the answer piece by piece.

A general client spends on each request several times what the rest of the gateway does with it, for cookies, redirects,
pools and proxies that a socket of our own never sees (figures: docs/benchmarks.md). What remains is small: a request is
written, llhttp reads the answer, and closing the connection is how a request is aborted.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from httptools import HttpParserError, HttpResponseParser

# Above this the socket is read no further until somebody takes what has come.
_BUFFERED_BYTES_MAX = 256 * 1024


class Answer(asyncio.Protocol):
    """The answer to one request. `status` is 0 until its head has come."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._whole = False
        self._lost: Exception | None = None
        self._wanted: asyncio.Future[None] | None = None
        self.status = 0

    async def head(self) -> None:
        """Wait for the status. Raises ConnectionError where the connection ends before it."""
        while not self.status:
            await self._more()

    async def read(self) -> bytes:
        """What has come of the body since the last time, at least a byte; b"" at its end.

        Raises ConnectionError where the connection ends before the body does, TimeoutError after `expire`.
        """
        while not self._pieces:
            if self._whole:
                return b""
            await self._more()
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return body

    async def read_all(self, bytes_max: int) -> bytes:
        """The whole body, cut off at about `bytes_max`."""
        body = b""
        while len(body) < bytes_max and (piece := await self.read()):
            body += piece
        return body

    def expire(self) -> None:
        """Whoever reads, or comes to read, gets TimeoutError."""
        self._lost = TimeoutError()
        self._wake()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._wanted = asyncio.get_running_loop().create_future()
        try:
            await self._wanted
        finally:
            self._wanted = None

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of asyncio's class in every event loop.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as fault:
            self._lost = ConnectionError(f"the answer is not HTTP: {fault}")
            self.close()
        if self._buffered > _BUFFERED_BYTES_MAX and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._lost or ConnectionError(str(exc or "the connection was closed"))
        self._wake()

    # What the parser calls:

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        self._whole = True


class WorkerHttp:
    """Speaks to the worker behind `socket_path`; `key` is what it wants to be shown."""

    def __init__(self, socket_path: Path, key: str) -> None:
        self._path = str(socket_path)
        self._headers = f" HTTP/1.1\r\nHost: worker\r\nAuthorization: Bearer {key}\r\n"

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncGenerator[Answer, None]:
        """Ask with a JSON body; the head of the answer has come. Leaving closes the connection.

        Raises OSError where nobody listens, ConnectionError where the connection breaks off.
        """
        head = (
            f"POST {path}{self._headers}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        async with self._asked(head.encode() + body) as answer:
            yield answer

    @asynccontextmanager
    async def get(self, path: str) -> AsyncGenerator[Answer, None]:
        async with self._asked(
            f"GET {path}{self._headers}Connection: close\r\n\r\n".encode()
        ) as it:
            yield it

    @asynccontextmanager
    async def _asked(self, request: bytes) -> AsyncGenerator[Answer, None]:
        loop = asyncio.get_running_loop()
        _, answer = await loop.create_unix_connection(lambda: Answer(request), self._path)
        try:
            await answer.head()
            yield answer
        finally:
            answer.close()
