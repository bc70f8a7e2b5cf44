"""One HTTP exchange over raw ASGI: a bounded body in, one answer or one stream out.

Rules, each because a server or a framework breaks it otherwise:
- The server never raises when a client has gone, so `receive` is watched for as long as work goes on.
- Nothing is sent before the first event, so that a refusal still has its status; but a client that has waited
  `first_byte_s` gets the headers and a comment, so that a long prefill does not look dead.
- A reader that takes nothing for `stall_s` is hung up on: it must not hold a slot for ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from ownstudio.core.errors import ErrorKind, StudioError

logger = logging.getLogger(__name__)

Header = tuple[bytes, bytes]
T = TypeVar("T")

JSON: Header = (b"content-type", b"application/json")
EVENT_STREAM: Header = (b"content-type", b"text/event-stream;charset=UTF-8")
KEEP_ALIVE_COMMENT = b": keep-alive\n\n"
TICK_S = 1.0
LARGE_BODY_BYTES = 256 * 1024
BODY_S_MAX = 60.0


class HungUp(Exception):
    """The client has gone, or takes nothing any more."""


class Patience(Struct, frozen=True):
    """Seconds that a stream may be silent before its first byte and between two, and that a write may hang."""

    first_byte_s: float
    keep_alive_s: float
    stall_s: float


class Exchange:
    """What an endpoint sees of one request. Every answer carries the request id."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.scope = scope
        self.request_id = request_id
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._sent_at = 0.0
        self._sending_since: float | None = None
        self.stream_headers: tuple[Header, ...] = (EVENT_STREAM,)
        self._worker: asyncio.Task[None] | None = None
        self._gone = False

    def header(self, name: bytes) -> bytes | None:
        """The value of a request header, by its lower-case name."""
        for key, value in self.scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return None

    async def body(self, bytes_max: int) -> bytes:
        """The whole body. Raises StudioError BODY_TOO_LARGE or INVALID_BODY, HungUp."""
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > bytes_max:
            raise _too_large(bytes_max)
        try:
            async with asyncio.timeout(BODY_S_MAX):
                return await self._read(bytes_max)
        except TimeoutError:
            raise StudioError(
                ErrorKind.INVALID_BODY, f"The request body did not come within {BODY_S_MAX:g} s."
            ) from None

    async def _read(self, bytes_max: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > bytes_max:
                raise _too_large(bytes_max)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def answer(self, status: int, body: bytes, *headers: Header) -> None:
        """Send a whole answer."""
        length = (b"content-length", str(len(body)).encode())
        await self._start(status, (*headers, length))
        await self._send({"type": "http.response.body", "body": body})

    async def write(self, frames: bytes) -> None:
        """Send a piece of the event stream; the first one sends the headers, an empty one nothing."""
        if not frames:
            return
        loop = asyncio.get_running_loop()
        self._sending_since = loop.time()
        if self.status is None:
            await self._start(200, self.stream_headers)
        await self._send({"type": "http.response.body", "body": frames, "more_body": True})
        self._sending_since = None
        self._sent_at = loop.time()

    async def end(self) -> None:
        """Close the event stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, status: int, headers: Iterable[Header]) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"x-request-id", self.request_id.encode()), *headers],
            }
        )
        self.status = status

    async def watched(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run `work` for as long as the client is there. Raises HungUp once `work` has been cancelled."""
        loop = asyncio.get_running_loop()
        self._sent_at = loop.time()
        self._worker = asyncio.current_task()
        watcher = loop.create_task(self._watch())
        try:
            await work()
        except asyncio.CancelledError:
            if not self._gone or self._worker is None:
                raise
            self._worker.uncancel()
            raise HungUp from None
        finally:
            self._worker = None
            watcher.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.hang_up()

    def hang_up(self) -> None:
        """Cancel the work under way: there is nobody to take its result."""
        if self._worker is not None and not self._gone:
            self._gone = True
            self._worker.cancel()

    async def tick(self, now: float, patience: Patience) -> None:
        """Called every second while a stream is open: comment on silence, hang up on a stalled reader."""
        if self._sending_since is not None:
            if now - self._sending_since > patience.stall_s:
                self.hang_up()
            return
        silence_max_s = patience.first_byte_s if self.status is None else patience.keep_alive_s
        if now - self._sent_at < silence_max_s:
            return
        try:
            async with asyncio.timeout(TICK_S):
                await self.write(KEEP_ALIVE_COMMENT)
        except TimeoutError:
            # It stays marked as sending, and is hung up on when that has lasted `stall_s`.
            logger.debug("%s takes nothing", self.request_id)
        except Exception:
            logger.exception("%s could not be kept alive", self.request_id)
            self.hang_up()


class OpenStreams:
    """Every event stream under way, with the one task that watches over their silence."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._streams: set[Exchange] = set()

    @contextmanager
    def watching(self, exchange: Exchange) -> Generator[None, None, None]:
        self._streams.add(exchange)
        try:
            yield
        finally:
            self._streams.discard(exchange)

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            # Together, so that one that hangs keeps no other waiting.
            await asyncio.gather(
                *(exchange.tick(now, self._patience) for exchange in list(self._streams))
            )


def _too_large(bytes_max: int) -> StudioError:
    return StudioError(
        ErrorKind.BODY_TOO_LARGE, f"The request body must not be larger than {bytes_max} bytes."
    )


async def read_aside(size: int, reading: Callable[[], T]) -> T:
    """What `reading` a body of `size` bytes gives.

    One that is made to be slow to read holds up a thread, not everybody else's streams.
    """
    return await asyncio.to_thread(reading) if size > LARGE_BODY_BYTES else reading()
