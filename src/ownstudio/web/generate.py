"""The one endpoint that generates: body, request, events, answer. Which dialect it speaks is a row of the table."""

import asyncio
from contextlib import aclosing
from itertools import chain
from time import time

from starlette.types import Receive, Scope, Send

from ownstudio.core.errors import StudioError
from ownstudio.core.events import Event, Started, collect
from ownstudio.dialects import Call, Dialect, Identity
from ownstudio.service.studio import Studio
from ownstudio.web.exchange import EVENT_STREAM, JSON, Exchange, Header, OpenStreams
from ownstudio.web.gateway import EXCHANGE, internal_error

LARGE_BODY_BYTES = 256 * 1024
# A proxy that buffers would hold a stream back until it ends.
UNBUFFERED: tuple[Header, ...] = (
    EVENT_STREAM,
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Generate:
    """One request in, one answer or one stream out. `name` is its label in the metrics."""

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        studio: Studio,
        streams: OpenStreams,
        body_bytes_max: int,
    ) -> None:
        self.name = name
        self._dialect = dialect
        self._studio = studio
        self._streams = streams
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        body = await exchange.body(self._body_bytes_max)
        resolve = self._studio.catalog.resolve
        if len(body) > LARGE_BODY_BYTES:
            # A body made to be slow to read holds up a thread, not everybody else's streams.
            call = await asyncio.to_thread(self._dialect.parse, body, resolve)
        else:
            call = self._dialect.parse(body, resolve)
        identity = Identity(exchange.request_id, int(time()))
        respond = self._stream if call.stream else self._answer
        await exchange.watched(lambda: respond(exchange, call, identity))

    async def _answer(self, exchange: Exchange, call: Call, identity: Identity) -> None:
        batches: list[list[Event]] = []
        async with aclosing(self._studio.generate(call.model, call.request)) as events:
            async for batch in events:
                batches.append(batch)
        completion = collect(chain.from_iterable(batches))
        body = self._dialect.render(completion, call, identity)
        await exchange.answer(200, body, JSON, *_ignored(call), *_warnings(batches[0]))

    async def _stream(self, exchange: Exchange, call: Call, identity: Identity) -> None:
        encoder = self._dialect.encoder(call, identity)
        exchange.stream_headers = (*UNBUFFERED, *_ignored(call))
        with self._streams.watching(exchange):
            try:
                async with aclosing(self._studio.generate(call.model, call.request)) as events:
                    async for batch in events:
                        if exchange.status is None:
                            exchange.stream_headers += _warnings(batch)
                        await exchange.write(encoder.feed(batch))
            except StudioError as error:
                if exchange.status is None:
                    raise
                await exchange.write(encoder.error(error))
            except Exception:
                # The status has been sent: the client still has to learn that this was not the end.
                if exchange.status is not None:
                    await exchange.write(encoder.error(internal_error()))
                    await exchange.end()
                raise
            else:
                await exchange.write(encoder.finish())
            await exchange.end()


def _ignored(call: Call) -> tuple[Header, ...]:
    if not call.ignored:
        return ()
    return ((b"x-ownstudio-ignored", _header_text(",".join(call.ignored))),)


def _warnings(events: list[Event]) -> tuple[Header, ...]:
    """What of the request is not enforced, as the first event tells."""
    first = events[0]
    if not isinstance(first, Started) or not first.warnings:
        return ()
    return ((b"x-ownstudio-warning", _header_text("; ".join(first.warnings))),)


_CONTROLS = bytes([*range(32), 127])


def _header_text(text: str) -> bytes:
    """`text` on one line of ASCII, at most 1,000 bytes long: parts of it are a client's."""
    return text.encode("ascii", "backslashreplace").translate(None, _CONTROLS)[:1000]
