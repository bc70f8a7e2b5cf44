"""`/api-ws/v1/inference`: text generation over a WebSocket, one task at a time.

Rules: the key is checked before the connection is accepted; whoever asks nothing for `IDLE_S` or takes
nothing for `STALL_S` is hung up on; a client that goes takes its task with it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from contextlib import aclosing
from itertools import chain
from typing import Any

from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from ownstudio.accounts.keys import Keyring
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
from ownstudio.service.studio import Studio
from ownstudio.web.exchange import Exchange, HungUp
from ownstudio.web.gateway import EXCHANGE, authenticate, internal_error

logger = logging.getLogger(__name__)

PATH = "/api-ws/v1/inference"
IDLE_S = 60.0
STALL_S = 60.0
# How many messages may wait for the end of a task.
INBOX_MAX = 8

SWITCHED, REFUSED = 101, 403
# Close codes of RFC 6455.
GOING_AWAY, POLICY_VIOLATION, TOO_BIG = 1001, 1008, 1009


class NativeSocket:
    """The endpoint. `name` is its label in the metrics."""

    name = "native-socket"

    def __init__(self, studio: Studio, keyring: Keyring, message_bytes_max: int) -> None:
        self._studio = studio
        self._keyring = keyring
        self._message_bytes_max = message_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        scope["endpoint"] = self
        await receive()
        try:
            if scope["path"].rstrip("/") != PATH:
                raise StudioError(ErrorKind.NOT_FOUND, "Not found!")
            await authenticate(exchange, self._keyring)
        except StudioError:
            # Closing a connection that is not accepted yet refuses it.
            exchange.status = REFUSED
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        exchange.status = SWITCHED
        await send({"type": "websocket.accept"})
        await self._converse(_Socket(receive, send))

    async def _converse(self, socket: "_Socket") -> None:
        while (data := await socket.next_message(IDLE_S)) is not None:
            if len(data) > self._message_bytes_max:
                await socket.close(TOO_BIG)
                return
            try:
                message = read_message(data)
            except StudioError as error:
                await socket.say(task_failed("", error))
                continue
            if message.action == RUN:
                await socket.watched(self._task(socket, message))
        await socket.close(GOING_AWAY)

    async def _task(self, socket: "_Socket", message: Message) -> None:
        try:
            check_task(message.payload)
            dialect = DashScope(stream=message.streams)
            call = dialect.read(message.payload, self._studio.catalog.resolve)
            await socket.say(task_started(message.task_id))
            if message.streams:
                await self._stream(socket, message.task_id, call)
            else:
                await self._whole(socket, message.task_id, call)
        except StudioError as error:
            if error.detail:
                logger.warning("%s %s: %s", message.task_id, error.kind.word, error.detail)
            await socket.say(task_failed(message.task_id, error))
        except HungUp:
            raise
        except Exception:
            logger.exception("task %s failed", message.task_id)
            await socket.say(task_failed(message.task_id, internal_error()))

    async def _stream(self, socket: "_Socket", task_id: str, call: Call) -> None:
        encoder = TaskEncoder(task_id, call)
        async with aclosing(self._studio.generate(call.model, call.request)) as batches:
            async for events in batches:
                for said in encoder.feed(events):
                    await socket.say(said)

    async def _whole(self, socket: "_Socket", task_id: str, call: Call) -> None:
        gathered: list[list[Event]] = []
        async with aclosing(self._studio.generate(call.model, call.request)) as batches:
            async for events in batches:
                gathered.append(events)
        for said in whole_task(task_id, collect(chain.from_iterable(gathered)), call):
            await socket.say(said)


class _Socket:
    """An accepted connection."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._waiting: asyncio.Future[AsgiMessage] | None = None
        self._inbox: deque[bytes] = deque()

    async def say(self, text: bytes) -> None:
        """Send one message. Raises HungUp when the client takes nothing."""
        try:
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "websocket.send", "text": text.decode()})
        except TimeoutError:
            raise HungUp from None

    async def next_message(self, within_s: float) -> bytes | None:
        """The next message; None when none came in time. Raises HungUp."""
        if self._inbox:
            return self._inbox.popleft()
        await asyncio.wait([self._next()], timeout=within_s)
        if not self._next().done():
            self._next().cancel()
            return None
        return self._received()

    async def watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` for as long as the client is there; what it says meanwhile waits. Raises HungUp."""
        worker = asyncio.ensure_future(work)
        try:
            while not worker.done():
                either: list[asyncio.Future[Any]] = [worker, self._next()]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._next().done():
                    self._inbox.append(self._received())
                    if len(self._inbox) > INBOX_MAX:
                        raise HungUp
            await worker
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
        """The message that has come. Raises HungUp where it is the last one."""
        received = self._next().result()
        self._waiting = None
        if received["type"] == "websocket.disconnect":
            raise HungUp
        text: str | None = received.get("text")
        data: bytes = received.get("bytes") or b""
        return data if text is None else text.encode()
