"""The one endpoint that generates: body, request, events, answer. Which dialect it speaks is a row of the table."""

from contextlib import aclosing
from itertools import chain
from time import time

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from ownstudio.core.errors import StudioError
from ownstudio.core.events import Event, Started, collect
from ownstudio.dialects import Call, Dialect, Identity
from ownstudio.service.admission import Visit
from ownstudio.service.studio import Studio
from ownstudio.web.exchange import EVENT_STREAM, JSON, Exchange, Header, OpenStreams, read_aside
from ownstudio.web.gateway import EXCHANGE, internal_error, remark_headers
from ownstudio.web.regions import CALLER, Caller
from ownstudio.web.replay import Replays, idempotency_key

CACHE_DEBUG = b"x-ownstudio-cache-debug"
# A proxy that buffers would hold a stream back until it ends.
UNBUFFERED: tuple[Header, ...] = (
    EVENT_STREAM,
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Delivery(Struct, frozen=True):
    """What answers reach clients by: open streams, answers that are sent again, and how long a body may be."""

    streams: OpenStreams
    replays: Replays
    body_bytes_max: int


class Generate:
    """One request in, one answer or one stream out. `name` is its label in the metrics."""

    def __init__(self, name: str, dialect: Dialect, studio: Studio, delivery: Delivery) -> None:
        self.name = name
        self._dialect = dialect
        self._studio = studio
        self._delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        caller: Caller = scope[CALLER]
        key = idempotency_key(exchange)
        body = await exchange.body(self._delivery.body_bytes_max)
        call = await read_aside(len(body), lambda: self._dialect.parse(body, caller.resolve))
        visit = Visit(
            caller.principal,
            exchange.request_id,
            explains_cache=exchange.header(CACHE_DEBUG) == b"1",
        )
        respond = self._stream if call.stream else self._answer
        if key is None:
            await exchange.watched(lambda: respond(exchange, call, visit))
        else:
            # In another region the same account asks for something else.
            owner = f"{caller.principal.account.id}@{caller.principal.region}"
            await self._delivery.replays.run(
                exchange, owner, key, body, lambda recorded: respond(recorded, call, visit)
            )

    async def _answer(self, exchange: Exchange, call: Call, visit: Visit) -> bool:
        """Answer at once. Whether the answer is whole: always, or there is an error in its place."""
        identity = Identity(exchange.request_id, int(time()))
        batches: list[list[Event]] = []
        async with aclosing(self._studio.generate(visit, call.model, call.request)) as events:
            async for batch in events:
                batches.append(batch)
        completion = collect(chain.from_iterable(batches))
        body = self._dialect.render(completion, call, identity)
        await exchange.answer(200, body, JSON, *_ignored(call), *_beside(batches[0]))
        return True

    async def _stream(self, exchange: Exchange, call: Call, visit: Visit) -> bool:
        """Answer as a stream. Whether it came to its end: False after an error event."""
        encoder = self._dialect.encoder(call, Identity(exchange.request_id, int(time())))
        exchange.stream_headers = (*UNBUFFERED, *_ignored(call))
        whole = False
        with self._delivery.streams.watching(exchange):
            try:
                generated = self._studio.generate(visit, call.model, call.request)
                async with aclosing(generated) as events:
                    async for batch in events:
                        if exchange.status is None:
                            exchange.stream_headers += _beside(batch)
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
                whole = True
                await exchange.write(encoder.finish())
            await exchange.end()
        return whole


def _ignored(call: Call) -> tuple[Header, ...]:
    if not call.ignored:
        return ()
    return ((b"x-ownstudio-ignored", _header_text(",".join(call.ignored))),)


def _beside(events: list[Event]) -> tuple[Header, ...]:
    """What the first event says beside the answer: how the request fared, and what of it is not enforced."""
    first = events[0]
    if not isinstance(first, Started):
        return ()
    headers = remark_headers(first.remarks)
    if first.warnings:
        headers += ((b"x-ownstudio-warning", _header_text("; ".join(first.warnings))),)
    return headers


_CONTROLS = bytes([*range(32), 127])


def _header_text(text: str) -> bytes:
    """`text` on one line of ASCII, at most 1,000 bytes long: parts of it are a client's."""
    return text.encode("ascii", "backslashreplace").translate(None, _CONTROLS)[:1000]
