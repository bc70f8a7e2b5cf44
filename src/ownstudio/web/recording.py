"""An answer while it is made, kept so that any number of clients can follow it from its beginning.

A recording is an ASGI `send`: whatever writes to an `Exchange` writes to a recording without knowing it.

Rules:
- Writing waits for nobody: an answer is made whether or not somebody takes it.
- Except beyond `bytes_max`. Then the recording is too large to be kept: what everybody has taken is dropped, nobody
  can join any more, and writing waits for the slowest follower, so that memory stays bounded.
"""

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.web.exchange import Header


class Recording:
    """Status, headers and pieces of one answer, so far."""

    def __init__(self, bytes_max: int) -> None:
        self.status: int | None = None
        self.headers: tuple[Header, ...] = ()
        self.too_large = False
        self._bytes_max = bytes_max
        # By number, so that those at the beginning can be dropped.
        self._pieces: dict[int, bytes] = {}
        self._count = 0
        self._dropped = 0
        self._held_bytes = 0
        self.ended = False
        self._error: StudioError | None = None
        # For each follower, the number of the piece that it takes next.
        self._positions: dict[object, int] = {}
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def streamed(self) -> bool:
        """Whether it came as a stream: only a whole answer says how long it is."""
        return all(name != b"content-length" for name, _ in self.headers)

    @property
    def body(self) -> bytes:
        """Everything written; not for a recording that is too large."""
        return b"".join(self._pieces.values())

    async def send(self, message: Message) -> None:
        """Record an ASGI message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = tuple(message["headers"])
            return
        piece = message.get("body", b"")
        if piece:
            self._pieces[self._count] = piece
            self._count += 1
            self._held_bytes += len(piece)
            self.too_large |= self._held_bytes > self._bytes_max
        self.ended |= not message.get("more_body", False)
        self._wake()
        self._drop()
        while self._held_bytes > self._bytes_max and not self.ended:
            await self._room.wait()

    def fail(self, error: StudioError) -> None:
        """It breaks off: whoever follows it and has not met its end gets `error`."""
        self._error = self._error or error
        self._wake()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """What was written, from the first piece on and as it comes. Raises StudioError where it breaks off."""
        if self._dropped:
            raise cannot_replay()
        follower = object()
        number = self._positions[follower] = 0
        try:
            while True:
                while number == self._count and not self.ended and self._error is None:
                    await self._news.wait()
                if number < self._count:
                    yield self._pieces[number]
                    number = self._positions[follower] = number + 1
                    self._drop()
                elif self.ended:
                    return
                elif self._error is not None:
                    raise self._error
        finally:
            del self._positions[follower]
            self._drop()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _drop(self) -> None:
        """Of a recording that is too large, forget what every follower has taken."""
        if not self.too_large:
            return
        taken = min(self._positions.values(), default=self._count)
        while self._dropped < taken:
            self._held_bytes -= len(self._pieces.pop(self._dropped))
            self._dropped += 1
        self._room.set()
        self._room = asyncio.Event()


def cannot_replay() -> StudioError:
    return StudioError(
        ErrorKind.IDEMPOTENCY_CONFLICT,
        "The request with this Idempotency-Key was answered, and its answer is too large to be sent again.",
    )
