"""`/api-ws/v1/inference`: text generation over a WebSocket, one task at a time.

Rules: the key is checked before the connection is accepted, and again before each task, since a connection
may outlive its key; whoever asks nothing for `IDLE_S` or takes nothing for `STALL_S` is hung up on; a client
that goes takes its task with it, and only then has hung up. What waits for the end of a task is bounded as it
comes in, in number and in bytes.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any, TypeVar
from uuid import uuid4

from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Event, collect
from ownstudio.dialects import Call
from ownstudio.dialects.dashscope import DashScope
from ownstudio.dialects.dashscope_task import (
    RUN,
    Message,
    TaskEncoder,
    check_task,
    read_message,
    task_failed,
    task_started,
    whole_task,
)
from ownstudio.service.admission import Visit
from ownstudio.service.studio import Studio
from ownstudio.web.exchange import Exchange, HungUp, read_aside
from ownstudio.web.gateway import EXCHANGE, Door, internal_error
from ownstudio.web.regions import Caller

logger = logging.getLogger(__name__)

PATH = "/api-ws/v1/inference"
IDLE_S = 60.0
STALL_S = 60.0
# How many messages may wait for the end of a task.
INBOX_MAX = 8

SWITCHED, REFUSED = 101, 403
# Close codes of RFC 6455.
GOING_AWAY, POLICY_VIOLATION, TOO_BIG = 1001, 1008, 1009

T = TypeVar("T")


class NativeSocket:
    """The endpoint. `name` is its label in the metrics."""

    name = "native-socket"

    def __init__(self, studio: Studio, door: Door, message_bytes_max: int) -> None:
        self._studio = studio
        self._door = door
        self._message_bytes_max = message_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        scope["endpoint"] = self
        await receive()
        try:
            if scope["path"].rstrip("/") != PATH:
                raise StudioError(ErrorKind.NOT_FOUND, "Not found!")
            await self._door.admit(exchange)
        except StudioError:
            # Closing a connection that is not accepted yet refuses it.
            exchange.status = REFUSED
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        exchange.status = SWITCHED
        await send({"type": "websocket.accept"})
        socket = _Socket(receive, send, self._message_bytes_max)
        try:
            code = await self._converse(exchange, socket)
        except _Closed:
            return
        except _TooBig:
            code = TOO_BIG
        await socket.close(code)

    async def _converse(self, exchange: Exchange, socket: "_Socket") -> int:
        """The code to close the connection with, once there is nothing more to say. Raises HungUp, _Closed, _TooBig."""
        while (data := await socket.next_message(IDLE_S)) is not None:
            try:
                message = await read_aside(len(data), partial(read_message, data))
            except StudioError as error:
                await socket.say(task_failed("", error))
                continue
            if message.action != RUN:
                continue
            try:
                caller = await self._door.admit(exchange)
            except StudioError as error:
                await socket.say(task_failed(message.task_id, error))
                return POLICY_VIOLATION
            await socket.watched(self._task(caller, socket, message, len(data)))
        return GOING_AWAY

    async def _task(self, caller: Caller, socket: "_Socket", message: Message, size: int) -> None:
        """Run one task, whose message was `size` bytes long, and say how it went. Raises HungUp."""
        try:
            check_task(message.payload)
            dialect = DashScope(stream=message.streams)
            call = await read_aside(size, lambda: dialect.read(message.payload, caller.resolve))
            await socket.say(task_started(message.task_id))
            # Each task on a connection is an entry of its own on the ledger.
            visit = Visit(caller.principal, str(uuid4()))
            if message.streams:
                await self._stream(socket, message.task_id, call, visit)
            else:
                await self._whole(socket, message.task_id, call, visit)
        except StudioError as error:
            if error.detail:
                logger.warning("%s %s: %s", message.task_id, error.kind.word, error.detail)
            await socket.say(task_failed(message.task_id, error))
        except HungUp:
            raise
        except Exception:
            logger.exception("task %s failed", message.task_id)
            await socket.say(task_failed(message.task_id, internal_error()))

    async def _stream(self, socket: "_Socket", task_id: str, call: Call, visit: Visit) -> None:
        encoder = TaskEncoder(task_id, call)
        async with aclosing(self._studio.generate(visit, call.model, call.request)) as batches:
            async for events in batches:
                for said in encoder.feed(events):
                    await socket.say(said)

    async def _whole(self, socket: "_Socket", task_id: str, call: Call, visit: Visit) -> None:
        gathered: list[list[Event]] = []
        async with aclosing(self._studio.generate(visit, call.model, call.request)) as batches:
            async for events in batches:
                gathered.append(events)
        for said in whole_task(task_id, collect(chain.from_iterable(gathered)), call):
            await socket.say(said)


class _Closed(Exception):
    """The client has closed the connection."""


class _TooBig(Exception):
    """The client sent more bytes than may wait."""


class _Socket:
    """An accepted connection. What came and was not taken yet is at most `bytes_max` long altogether."""

    def __init__(self, receive: Receive, send: Send, bytes_max: int) -> None:
        self._receive = receive
        self._send = send
        self._bytes_max = bytes_max
        self._waiting: asyncio.Future[AsgiMessage] | None = None
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0

    async def say(self, text: bytes) -> None:
        """Send one message. Raises HungUp when the client takes nothing."""
        try:
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "websocket.send", "text": text.decode()})
        except TimeoutError:
            raise HungUp from None

    async def next_message(self, within_s: float) -> bytes | None:
        """The next message; None when none came in time. Raises _Closed, _TooBig."""
        if self._inbox:
            data = self._inbox.popleft()
            self._inbox_bytes -= len(data)
            return data
        await asyncio.wait([self._next()], timeout=within_s)
        if not self._next().done():
            self._next().cancel()
            return None
        return self._received()

    async def watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` for as long as the client is there; what it says meanwhile waits. Raises HungUp, _TooBig."""
        worker = asyncio.ensure_future(work)
        try:
            while not worker.done():
                either: list[asyncio.Future[Any]] = [worker, self._next()]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                # Whoever closes at the same moment as the work ends has had all of it.
                if self._next().done() and not worker.done():
                    data = self._received()
                    self._inbox.append(data)
                    self._inbox_bytes += len(data)
                    if len(self._inbox) > INBOX_MAX:
                        raise HungUp
            await worker
        except _Closed:
            raise HungUp from None
        finally:
            if not worker.done():
                worker.cancel()
                await asyncio.wait([worker])

    async def close(self, code: int) -> None:
        await self._send({"type": "websocket.close", "code": code})

    def _next(self) -> asyncio.Future[AsgiMessage]:
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._receive())
        return self._waiting

    def _received(self) -> bytes:
        """The message that has come. Raises _Closed where it is the last one, _TooBig where it cannot wait."""
        received = self._next().result()
        self._waiting = None
        if received["type"] == "websocket.disconnect":
            raise _Closed
        text: str | None = received.get("text")
        data: bytes = received.get("bytes") or b""
        if text is not None:
            data = text.encode()
        if self._inbox_bytes + len(data) > self._bytes_max:
            raise _TooBig
        return data
