"""Requests with an `Idempotency-Key`: each is generated, and billed, once within a day.

The first request with a key runs in a task of its own, which no client's hang-up ends. Its answer is recorded. Whoever
sent it, and whoever sends it again, in this process, follows the recording; once it has ended it is stored, and a
retry gets it from the database, also after a restart.

Only what was billed is kept: status 200, and a stream that came to its end. Everything else frees the key, so that a
retry runs again. A process that dies leaves a claim behind, which expires when no request could still be running.

Between processes the database decides, by one insert, who has a key. Within one, the claim is made in the task of the
recording, and those who come meanwhile wait for it: a client that hangs up leaves no key in doubt.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec
from msgspec import Struct
from starlette.types import Message

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store import idempotency as table
from ownstudio.store.database import ConflictError, Database
from ownstudio.store.directory import StoreError
from ownstudio.web.exchange import Exchange, Header, HungUp, read_aside
from ownstudio.web.gateway import internal_error
from ownstudio.web.recording import Recording, cannot_replay

logger = logging.getLogger(__name__)

HEADER = b"idempotency-key"
KEY_MAX = 255
# Headers that change the answer to one and the same body.
DECISIVE_HEADERS = (b"x-dashscope-sse",)
REPLAYED: Header = (b"x-ownstudio-replayed", b"true")

KEPT_S = 86_400
BYTES_MAX = 8 * 1024**2
RUNNING_MAX = 256
RETRY_AFTER_S = 2.0
PIECE_BYTES = 64 * 1024

CLAIM_TRIES = 3
# An answer that was billed is worth some tries: without its row a retry would be billed again.
STORE_PAUSES_S = (0.5, 2.0, 10.0)
CLOSE_S = 5.0
PURGE_EVERY_S = 600.0
PURGE_ROWS = 200

Produce = Callable[[Exchange], Awaitable[bool]]


def idempotency_key(exchange: Exchange) -> str | None:
    """What the request's `Idempotency-Key` says, or None without one. Raises StudioError INVALID_PARAMETER."""
    value = exchange.header(HEADER)
    if value is None:
        return None
    if not 1 <= len(value) <= KEY_MAX or not all(0x21 <= byte <= 0x7E for byte in value):
        raise StudioError(
            ErrorKind.INVALID_PARAMETER,
            f"The header 'Idempotency-Key' must be 1 to {KEY_MAX} visible ASCII characters.",
        )
    return value.decode("ascii")


class _Asked(Struct, frozen=True):
    """A request as its retries are known by: `id` is the owner's key at one endpoint, `fingerprint` what it asks."""

    id: str
    fingerprint: str


class _Run(Struct, eq=False):
    """A request under way. `row` is what the database had under its key: then it does not run."""

    asked: _Asked
    recording: Recording
    claimed: asyncio.Event
    ended: asyncio.Event
    row: table.AnswerRow | None = None
    void: bool = False


class Replays:
    """Every recording under way, in front of those that are stored.

    `deadline_s` is the longest that a request may run, `margin_s` how much later a claim without an answer expires;
    `stall_s` is how long a client may take nothing. `running_max` bounds what is in memory: recordings under way and
    stored answers being sent.
    """

    def __init__(
        self,
        database: Database,
        *,
        deadline_s: float,
        margin_s: float,
        stall_s: float,
        running_max: int = RUNNING_MAX,
        bytes_max: int = BYTES_MAX,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._claim_s = deadline_s + margin_s
        self._stall_s = stall_s
        self._running_max = running_max
        self._bytes_max = bytes_max
        self._now = now
        self._runs: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = 0

    async def run(
        self, exchange: Exchange, owner: str, key: str, body: bytes, produce: Produce
    ) -> None:
        """Answer a request with an idempotency key: by `produce`, unless that was done before.

        `owner` is whose key it is: the same word of two owners is two keys.
        `produce` writes to the exchange that it is given, and says whether its answer is whole: False after an error
        that was sent as an event. It goes on when the client has gone. Raises StudioError, HungUp.
        """
        asked = await read_aside(len(body), lambda: _asked(exchange, owner, key, body))
        await exchange.watched(lambda: self._respond(exchange, asked, produce))

    async def purge(self) -> None:
        """Delete expired rows now and then, until cancelled."""
        while True:
            try:
                await self.purge_once()
            except StoreError as error:
                logger.warning("expired idempotency keys stay for now: %s", error)
            await asyncio.sleep(PURGE_EVERY_S)

    async def purge_once(self) -> None:
        """Delete every expired row, some at a time: others write to the database too. Raises StoreError."""
        deleted = PURGE_ROWS
        while deleted == PURGE_ROWS:
            async with self._database.transaction() as connection:
                deleted = await table.purge_keys(connection, int(self._now()), PURGE_ROWS)

    async def close(self, grace_s: float = CLOSE_S) -> None:
        """Let what has ended be stored, and end the rest. The database must stay open until then."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CLOSE_S)

    async def _respond(self, exchange: Exchange, asked: _Asked, produce: Produce) -> None:
        while True:
            run = self._runs.get(asked.id)
            started = run is None
            if run is None:
                run = self._start(exchange, asked, produce)
            await run.claimed.wait()
            if run.row is not None:
                if started:
                    await self._replay(exchange, asked, run.row)
                    return
            elif run.asked.fingerprint != asked.fingerprint:
                raise _conflict()
            elif run.void and not started:
                # It failed before this request came, which is therefore a new one.
                await run.ended.wait()
            else:
                await self._follow(exchange, run.recording, replayed=not started)
                return

    def _start(self, exchange: Exchange, asked: _Asked, produce: Produce) -> _Run:
        self._check_room()
        recording = Recording(self._bytes_max)
        recorder = Exchange(exchange.scope, _forever, recording.send, exchange.request_id)
        run = _Run(asked, recording, asyncio.Event(), asyncio.Event())
        self._runs[asked.id] = run
        task = asyncio.get_running_loop().create_task(self._work(run, recorder, produce))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    def _check_room(self) -> None:
        if len(self._runs) + self._sending >= self._running_max:
            raise StudioError(
                ErrorKind.OVERLOADED,
                "Too many requests with an Idempotency-Key, please try again later.",
                retry_after=RETRY_AFTER_S,
            )

    async def _work(self, run: _Run, recorder: Exchange, produce: Produce) -> None:
        """The task of one run, from its claim until its answer is stored or its key is free."""
        claimed_at = int(self._now())
        try:
            if await self._claim(run, claimed_at):
                run.claimed.set()
                # Those who wait for the claim go first: they follow before anything is written.
                await asyncio.sleep(0)
                await self._produce(run, recorder, produce)
                await self._settle(run, claimed_at)
        finally:
            del self._runs[run.asked.id]
            run.claimed.set()
            run.ended.set()

    async def _claim(self, run: _Run, claimed_at: int) -> bool:
        """Whether the key is ours. Else the run has the row of whoever has it, or its recording the error."""
        try:
            for _ in range(CLAIM_TRIES):
                if await self._insert(run.asked, claimed_at):
                    return True
                async with self._database.snapshot() as connection:
                    run.row = await table.find_key(connection, run.asked.id, claimed_at)
                if run.row is not None:
                    return False
                # It was freed, or expired, between the two.
        except StoreError as error:
            run.recording.fail(
                StudioError(
                    ErrorKind.STORE_UNAVAILABLE,
                    "The Idempotency-Key could not be checked, please try again later.",
                    detail=str(error),
                    retry_after=RETRY_AFTER_S,
                )
            )
        except BaseException:
            run.recording.fail(_shutting_down())
            raise
        else:
            run.recording.fail(_under_way())
        return False

    async def _insert(self, asked: _Asked, claimed_at: int) -> bool:
        expires_at = claimed_at + int(self._claim_s) + 1
        try:
            async with self._database.transaction() as connection:
                await table.claim_key(
                    connection, table.AnswerRow(asked.id, asked.fingerprint, claimed_at, expires_at)
                )
        except ConflictError:
            return False
        return True

    async def _produce(self, run: _Run, recorder: Exchange, produce: Produce) -> None:
        """Have the answer made. Whatever goes wrong reaches those who follow, and the task goes on."""
        whole = False
        try:
            whole = await produce(recorder)
        except StudioError as error:
            run.recording.fail(error)
        except asyncio.CancelledError:
            run.recording.fail(_shutting_down())
        except Exception:
            logger.exception("%s failed", recorder.request_id)
        run.void = not (whole and run.recording.ended and run.recording.status == 200)
        # Whatever happened, nobody waits for more than what has come.
        run.recording.fail(internal_error())

    async def _settle(self, run: _Run, claimed_at: int) -> None:
        """Store the answer, or free the key."""
        pauses = () if run.void else STORE_PAUSES_S
        for pause in (*pauses, None):
            try:
                async with self._database.transaction() as connection:
                    if run.void:
                        await table.free_key(connection, run.asked.id, claimed_at)
                    elif not await table.complete_key(connection, self._row(run, claimed_at)):
                        logger.warning("the claim of an idempotency key expired before its answer")
                return
            except StoreError as error:
                if pause is None:
                    logger.error("an idempotency key stays taken until it expires: %s", error)
                    return
                await asyncio.sleep(pause)

    def _row(self, run: _Run, claimed_at: int) -> table.AnswerRow:
        recording = run.recording
        headers = [(name.decode(), value.decode("latin-1")) for name, value in recording.headers]
        return table.AnswerRow(
            id=run.asked.id,
            fingerprint=run.asked.fingerprint,
            created_at=claimed_at,
            expires_at=int(self._now()) + KEPT_S,
            status=recording.status,
            headers=msgspec.json.encode(headers).decode(),
            body=None if recording.too_large else recording.body,
        )

    async def _replay(self, exchange: Exchange, asked: _Asked, row: table.AnswerRow) -> None:
        """Send what is stored. Raises StudioError IDEMPOTENCY_CONFLICT where that cannot be."""
        if row.fingerprint != asked.fingerprint:
            raise _conflict()
        if row.status is None:
            raise _under_way()
        if row.body is None:
            raise cannot_replay()
        self._check_room()
        self._sending += 1
        try:
            await self._follow(exchange, await _recorded(row, row.body), replayed=True)
        finally:
            self._sending -= 1

    async def _follow(self, exchange: Exchange, recording: Recording, *, replayed: bool) -> None:
        """Send a recording as it comes. Raises StudioError, HungUp."""
        body: list[bytes] = []
        async with aclosing(recording.pieces()) as pieces:
            async for piece in pieces:
                if not recording.streamed:
                    body.append(piece)
                    continue
                if exchange.status is None:
                    exchange.stream_headers = _headers(exchange, recording, replayed)
                try:
                    async with asyncio.timeout(self._stall_s):
                        await exchange.write(piece)
                except TimeoutError:
                    raise HungUp from None
        if exchange.status is not None:
            await exchange.end()
            return
        headers = _headers(exchange, recording, replayed)
        assert recording.status is not None
        await exchange.answer(recording.status, b"".join(body), *headers)


def _asked(exchange: Exchange, owner: str, key: str, body: bytes) -> _Asked:
    path = exchange.scope["path"].encode()
    decisive = (exchange.header(name) or b"" for name in DECISIVE_HEADERS)
    return _Asked(
        id=_hash(owner.encode(), path, key.encode()),
        fingerprint=_hash(exchange.scope["method"].encode(), path, *decisive, body),
    )


def _hash(*parts: bytes) -> str:
    """Of the parts, each with its length, so that none can pass for the end of another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()


async def _recorded(row: table.AnswerRow, body: bytes) -> Recording:
    """The recording that a stored answer was."""
    recording = Recording(len(body))
    pairs = msgspec.json.decode(row.headers, type=list[tuple[str, str]])
    headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    await recording.send({"type": "http.response.start", "status": row.status, "headers": headers})
    for start in range(0, len(body), PIECE_BYTES):
        piece = body[start : start + PIECE_BYTES]
        await recording.send({"type": "http.response.body", "body": piece, "more_body": True})
    await recording.send({"type": "http.response.body", "body": b""})
    return recording


def _headers(exchange: Exchange, recording: Recording, replayed: bool) -> tuple[Header, ...]:
    """The recorded headers, as `exchange` is to send them: it gives its request id and the length itself."""
    headers = []
    for name, value in recording.headers:
        if name == b"x-request-id":
            if replayed:
                logger.info("%s gets the answer to %s", exchange.request_id, value.decode())
            exchange.request_id = value.decode()
        elif name != b"content-length":
            headers.append((name, value))
    return (*headers, REPLAYED) if replayed else tuple(headers)


async def _forever() -> Message:
    """What a recording's exchange receives: it has no client that could hang up."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


def _conflict() -> StudioError:
    return StudioError(
        ErrorKind.IDEMPOTENCY_CONFLICT, "The Idempotency-Key was used for another request."
    )


def _under_way() -> StudioError:
    return StudioError(
        ErrorKind.IDEMPOTENCY_CONFLICT,
        "A request with this Idempotency-Key is under way, please try again later.",
        retry_after=RETRY_AFTER_S,
    )


def _shutting_down() -> StudioError:
    return StudioError(
        ErrorKind.SHUTTING_DOWN,
        "The service is shutting down, please try again later.",
        retry_after=RETRY_AFTER_S,
    )
