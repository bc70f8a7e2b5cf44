"""Goal: a request that is sent again with its Idempotency-Key is generated once, and every sender gets all of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text
from starlette.types import Message

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.directory import StoreError
from ownstudio.web.exchange import JSON, Exchange, HungUp, OpenStreams, Patience
from ownstudio.web.replay import KEPT_S, Replays, idempotency_key

T = TypeVar("T")

CLAIM_S = 70
NOTE = (b"x-note", b"first")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """One HTTP client in this process: what it is sent, and the day it hangs up."""

    def __init__(self, request_id: str, *headers: tuple[bytes, bytes], path: str = "/v1/x") -> None:
        scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
        self.exchange = Exchange(scope, self._receive, self._send, request_id)
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.whole = False
        self.hang_up = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self._got: list[tuple[bytes, asyncio.Event]] = []

    async def got(self, piece: bytes) -> None:
        """Wait until `piece` has come."""
        event = asyncio.Event()
        self._got.append((piece, event))
        self._tell()
        await asyncio.wait_for(event.wait(), 5)

    async def _receive(self) -> Message:
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.takes.wait()
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        assert not self.whole
        self.body += message.get("body", b"")
        self.whole = not message.get("more_body", False)
        self._tell()

    def _tell(self) -> None:
        for piece, event in self._got:
            if piece in self.body:
                event.set()


class Script:
    """What is to be answered: pieces, waits, errors. Counts how often it was asked."""

    def __init__(self, *steps: bytes | asyncio.Event | Exception, whole: bool = True) -> None:
        self.steps = steps
        self.whole = whole
        self.runs = 0
        self.cancelled = 0

    async def stream(self, exchange: Exchange) -> bool:
        self.runs += 1
        exchange.stream_headers = (*exchange.stream_headers, NOTE)
        try:
            for step in self.steps:
                match step:
                    case bytes():
                        await exchange.write(step)
                    case asyncio.Event():
                        await step.wait()
                    case _:
                        raise step
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await exchange.end()
        return self.whole

    async def answer(self, exchange: Exchange) -> bool:
        self.runs += 1
        for step in self.steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
        body = b"".join(step for step in self.steps if isinstance(step, bytes))
        await exchange.answer(200, body, JSON, NOTE)
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(sqlite_url(tmp_path / "o.db"))
    yield opened
    await opened.close()


@pytest.fixture
async def process(database: Database, clock: Clock) -> AsyncIterator[Callable[..., Replays]]:
    """Makes what each process has of its own, over one database."""
    made: list[Replays] = []

    def make(**asked: int | float) -> Replays:
        settings = {"deadline_s": CLAIM_S - 10, "margin_s": 10, "stall_s": 5} | asked
        made.append(Replays(database, now=clock, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for replays in made:
        await replays.close()


@pytest.fixture
def replays(process: Callable[..., Replays]) -> Replays:
    return process()


async def send(
    replays: Replays,
    client: Client,
    produce: Callable[[Exchange], Awaitable[bool]],
    *,
    owner: str = "default",
    key: str = "key",
    body: bytes = b"{}",
) -> Client:
    await asyncio.wait_for(replays.run(client.exchange, owner, key, body, produce), 10)
    return client


async def refusal(sending: Awaitable[Client]) -> StudioError:
    with pytest.raises(StudioError) as caught:
        await sending
    return caught.value


@asynccontextmanager
async def sent(sending: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    task = asyncio.ensure_future(sending)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def unreachable() -> AsyncIterator[None]:
    raise StoreError("the database cannot be used: a test took it away")
    yield


async def count(database: Database) -> int:
    async with database.snapshot() as connection:
        return await connection.scalar(text("SELECT count(*) FROM idempotency")) or 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


# Retries after the end.


@pytest.mark.parametrize("form", ["stream", "answer"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_retry_gets_the_first_answer_byte_for_byte(
    process: Callable[..., Replays], form: str, restarted: bool
) -> None:
    script = Script(b"data: 1\n\n", "data: 你\n\n".encode(), b"x" * 200_000)
    here = process()
    first = await send(here, Client("one"), getattr(script, form))
    await here.close()
    retry = await send(process() if restarted else here, Client("two"), getattr(script, form))
    assert script.runs == 1
    assert first.body == b"".join(step for step in script.steps if isinstance(step, bytes))
    assert (retry.status, retry.body, retry.whole) == (200, first.body, True)
    assert retry.headers == first.headers | {b"x-ownstudio-replayed": b"true"}
    assert retry.headers[b"x-request-id"] == b"one"
    assert retry.headers[b"x-note"] == b"first"


async def test_without_a_retry_nothing_says_that_it_was_recorded(replays: Replays) -> None:
    script = Script(b"a", b"b")
    first = await send(replays, Client("one"), script.stream)
    plain = Client("one")
    await script.stream(plain.exchange)
    assert (first.status, first.headers, first.body) == (plain.status, plain.headers, plain.body)


async def test_after_a_day_the_key_runs_again(
    process: Callable[..., Replays], clock: Clock
) -> None:
    script = Script(b"a")
    for later, runs in ((0, 1), (KEPT_S - 1, 1), (1, 2)):
        clock.now += later
        replays = process()
        await send(replays, Client("one"), script.answer)
        await replays.close()
        assert script.runs == runs


async def test_expired_answers_are_purged_and_others_stay(
    replays: Replays, database: Database, clock: Clock
) -> None:
    script = Script(b"a")
    for number in range(3):
        await send(replays, Client("one"), script.answer, key=f"old-{number}")
    await replays.close()
    clock.now += KEPT_S
    await send(replays, Client("one"), script.answer, key="new")
    await replays.close()
    await replays.purge_once()
    assert await count(database) == 1
    await send(replays, Client("two"), script.answer, key="new")
    assert script.runs == 4


# Retries while it runs.


async def test_a_client_that_hangs_up_stops_nothing_and_its_retry_gets_everything(
    replays: Replays,
) -> None:
    go = asyncio.Event()
    script = Script(b"a", go, b"b")
    first = Client("one")
    async with sent(send(replays, first, script.stream)) as sending:
        await first.got(b"a")
        first.hang_up.set()
        with pytest.raises(HungUp):
            await sending
    retry = Client("two")
    async with sent(send(replays, retry, script.stream)) as sending:
        await retry.got(b"a")
        assert not retry.whole
        go.set()
        await sending
    assert (retry.body, script.runs, script.cancelled) == (b"ab", 1, 0)
    assert retry.headers[b"x-request-id"] == b"one"
    assert retry.headers[b"x-ownstudio-replayed"] == b"true"


async def test_an_answer_whose_client_hung_up_is_there_after_a_restart(
    process: Callable[..., Replays],
) -> None:
    go = asyncio.Event()
    script = Script(go, b"a")
    first, here = Client("one"), process()
    async with sent(send(here, first, script.answer)) as sending:
        await until(lambda: script.runs == 1)
        first.hang_up.set()
        with pytest.raises(HungUp):
            await sending
    go.set()
    await here.close()
    retry = await send(process(), Client("two"), script.answer)
    assert (retry.body, script.runs) == (b"a", 1)


async def test_many_at_once_are_one_request(replays: Replays) -> None:
    go = asyncio.Event()
    script = Script(b"a", go, b"b")
    clients = [Client(f"client-{number}") for number in range(8)]
    async with sent(
        asyncio.gather(*(send(replays, client, script.stream) for client in clients))
    ) as sending:
        for client in clients:
            await client.got(b"a")
        go.set()
        await sending
    assert script.runs == 1
    assert {client.body for client in clients} == {b"ab"}
    assert len({client.headers[b"x-request-id"] for client in clients}) == 1
    replayed = [client.headers.get(b"x-ownstudio-replayed") for client in clients]
    assert replayed.count(None) == 1


async def test_a_comment_on_silence_reaches_those_who_follow(replays: Replays) -> None:
    go = asyncio.Event()
    streams = OpenStreams(Patience(first_byte_s=0, keep_alive_s=0, stall_s=30))

    async def produce(exchange: Exchange) -> bool:
        with streams.watching(exchange):
            await go.wait()
            await exchange.write(b"a")
        await exchange.end()
        return True

    first = Client("one")
    async with sent(streams.run()), sent(send(replays, first, produce)) as sending:
        await first.got(b": keep-alive\n\n")
        go.set()
        await sending
    assert first.body.endswith(b"a")
    assert first.headers[b"x-request-id"] == b"one"


# Conflicts.


async def test_the_same_key_with_another_body_is_a_conflict_while_it_runs_and_after(
    process: Callable[..., Replays],
) -> None:
    go = asyncio.Event()
    script, here = Script(b"a", go), process()
    first = Client("one")
    async with sent(send(here, first, script.stream)) as sending:
        await first.got(b"a")
        errors = [await refusal(send(here, Client("two"), script.stream, body=b"{ }"))]
        go.set()
        await sending
    await here.close()
    for replays in (here, process()):
        errors.append(await refusal(send(replays, Client("two"), script.stream, body=b"{ }")))
    for error in errors:
        assert error.kind is ErrorKind.IDEMPOTENCY_CONFLICT
        assert error.message == "The Idempotency-Key was used for another request."
    assert script.runs == 1


async def test_a_stream_is_another_request_than_an_answer_to_the_same_body(
    replays: Replays,
) -> None:
    script = Script(b"a")
    await send(replays, Client("one"), script.answer)
    streamed = Client("two", (b"x-dashscope-sse", b"enable"))
    error = await refusal(send(replays, streamed, script.stream))
    assert error.kind is ErrorKind.IDEMPOTENCY_CONFLICT


async def test_a_key_is_one_of_its_owner_and_endpoint(replays: Replays) -> None:
    script = Script(b"a")
    await send(replays, Client("one"), script.answer)
    await send(replays, Client("two"), script.answer, owner="other")
    await send(replays, Client("three", path="/v1/y"), script.answer)
    await send(replays, Client("four"), script.answer, key="key2")
    assert script.runs == 4


async def test_where_another_process_runs_it_a_retry_is_told_to_come_back(
    process: Callable[..., Replays],
) -> None:
    go = asyncio.Event()
    script, here, there = Script(b"a", go), process(), process()
    first = Client("one")
    async with sent(send(here, first, script.stream)) as sending:
        await first.got(b"a")
        error = await refusal(send(there, Client("two"), script.stream))
        go.set()
        await sending
    assert (error.kind, script.runs) == (ErrorKind.IDEMPOTENCY_CONFLICT, 1)
    assert error.retry_after
    await here.close()
    assert (await send(there, Client("two"), script.stream)).body == b"a"
    assert script.runs == 1


async def test_what_a_dead_process_left_expires_after_the_deadline(
    process: Callable[..., Replays], clock: Clock
) -> None:
    go = asyncio.Event()
    script, retried = Script(go, b"late"), Script(b"a")
    # It does not die, but nothing is heard of it.
    dead, survivor = process(), process()
    async with sent(send(dead, Client("one"), script.stream)):
        await until(lambda: script.runs == 1)
        clock.now += CLAIM_S - 1
        error = await refusal(send(survivor, Client("two"), retried.stream))
        assert error.kind is ErrorKind.IDEMPOTENCY_CONFLICT
        clock.now += 3
        assert (await send(survivor, Client("two"), retried.stream)).body == b"a"
        go.set()
    await dead.close()
    assert (await send(survivor, Client("three"), retried.stream)).body == b"a"
    assert retried.runs == 1


# Failures free the key.


REFUSED = StudioError(ErrorKind.TOKENS_LIMITED, "later", retry_after=7)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script(REFUSED), None),
        (Script(StudioError(ErrorKind.ENGINE_FAILED, "died")), None),
        (Script(ValueError("a defect")), None),
        (Script(b"a", b"data: error\n\n", whole=False), 200),
        (Script(b"a", ValueError("a defect")), 200),
    ],
)
async def test_after_a_failure_a_retry_runs(
    process: Callable[..., Replays], script: Script, status: int | None, restarted: bool
) -> None:
    here, first, runs_before = process(), Client("one"), script.runs
    if isinstance(script.steps[-1], Exception):
        error = await refusal(send(here, first, script.stream))
        expected = script.steps[-1]
        if isinstance(expected, StudioError):
            assert error is expected
        else:
            assert error.kind is ErrorKind.INTERNAL
    else:
        await send(here, first, script.stream)
        assert first.whole
    assert first.status == status
    if restarted:
        await here.close()
        here = process()
    retry = await send(here, Client("two"), Script(b"good").stream)
    assert (retry.body, script.runs - runs_before) == (b"good", 1)
    assert b"x-ownstudio-replayed" not in retry.headers


async def test_an_answer_with_another_status_is_not_kept(replays: Replays) -> None:
    async def refuse(exchange: Exchange) -> bool:
        await exchange.answer(400, b"no")
        return True

    first = await send(replays, Client("one"), refuse)
    assert (first.status, first.body) == (400, b"no")
    retry = await send(replays, Client("two"), Script(b"yes").answer)
    assert (retry.status, retry.body) == (200, b"yes")


async def test_who_follows_a_request_that_is_refused_is_refused_too(replays: Replays) -> None:
    go = asyncio.Event()
    script = Script(go, REFUSED)
    async with sent(refusal(send(replays, Client("one"), script.answer))) as first:
        await until(lambda: script.runs == 1)
        async with sent(refusal(send(replays, Client("two"), script.answer))) as second:
            for _ in range(50):
                await asyncio.sleep(0)
            go.set()
            assert await first is await second is REFUSED
    assert script.runs == 1


async def test_a_database_that_is_gone_refuses_keyed_requests_and_runs_nothing(
    replays: Replays, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", unreachable)
        error = await refusal(send(replays, Client("one"), script.answer))
    assert (error.kind, script.runs) == (ErrorKind.STORE_UNAVAILABLE, 0)
    await send(replays, Client("two"), script.answer)
    assert script.runs == 1


async def test_an_answer_that_the_database_does_not_take_at_once_is_stored_later(
    process: Callable[..., Replays], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    script, first, here = Script(b"a", go), Client("one"), process()
    monkeypatch.setattr("ownstudio.web.replay.STORE_PAUSES_S", (0.05,))
    async with sent(send(here, first, script.stream)) as sending:
        await first.got(b"a")
        with monkeypatch.context() as patch:
            patch.setattr(database, "transaction", unreachable)
            go.set()
            await sending
            assert (await send(here, Client("two"), script.stream)).body == b"a"
    await here.close()
    assert (await send(process(), Client("two"), script.stream)).body == b"a"
    assert script.runs == 1


# Bounds.


async def test_an_answer_too_large_to_keep_reaches_its_client_and_a_retry_is_told(
    process: Callable[..., Replays],
) -> None:
    here = process(bytes_max=1000)
    script = Script(*(bytes([65 + number]) * 100 for number in range(20)))
    first = await send(here, Client("one"), script.stream)
    assert first.body == b"".join(bytes([65 + number]) * 100 for number in range(20))
    await here.close()
    for replays in (here, process()):
        error = await refusal(send(replays, Client("two"), script.stream))
        assert error.kind is ErrorKind.IDEMPOTENCY_CONFLICT
        assert "too large" in error.message
        assert error.retry_after is None
    assert script.runs == 1


async def test_a_large_answer_in_one_piece_reaches_its_client(
    process: Callable[..., Replays],
) -> None:
    first = await send(process(bytes_max=10), Client("one"), Script(b"x" * 100).answer)
    assert first.body == b"x" * 100


async def test_beyond_the_bound_writing_waits_for_the_slowest_client(
    process: Callable[..., Replays],
) -> None:
    within, beyond, first = asyncio.Event(), asyncio.Event(), Client("one")
    first.takes.clear()

    async def produce(exchange: Exchange) -> bool:
        for number in range(20):
            await exchange.write(b"x" * 100)
            (within if number < 10 else beyond).set()
        await exchange.end()
        return True

    async with sent(send(process(bytes_max=1000), first, produce)) as sending:
        await within.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not beyond.is_set()
        first.takes.set()
        await sending
    assert first.body == b"x" * 2000


async def test_beyond_the_bound_nobody_can_join_and_a_hang_up_lets_writing_go_on(
    process: Callable[..., Replays],
) -> None:
    replays, go = process(bytes_max=1000), asyncio.Event()
    script, first = Script(*[b"x" * 100] * 20, b"y", go, b"z" * 2000, b"z" * 2000), Client("one")
    async with sent(send(replays, first, script.stream)) as sending:
        await first.got(b"y")
        error = await refusal(send(replays, Client("two"), script.stream))
        assert (error.kind, script.runs) == (ErrorKind.IDEMPOTENCY_CONFLICT, 1)
        first.takes.clear()
        go.set()
        await asyncio.sleep(0)
        first.hang_up.set()
        with pytest.raises(HungUp):
            await sending
    await replays.close()
    assert script.cancelled == 0


async def test_a_client_that_takes_nothing_is_hung_up_on_and_the_answer_goes_on(
    process: Callable[..., Replays],
) -> None:
    replays, first, script = process(stall_s=0.05), Client("one"), Script(b"a", b"b")
    first.takes.clear()
    with pytest.raises(HungUp):
        await send(replays, first, script.stream)
    await replays.close()
    assert (await send(replays, Client("two"), script.stream)).body == b"ab"
    assert script.runs == 1


async def test_one_more_than_may_run_is_refused_until_one_ends(
    process: Callable[..., Replays],
) -> None:
    go = asyncio.Event()
    replays, script, first = process(running_max=1), Script(b"a", go), Client("one")
    async with sent(send(replays, first, script.stream)) as sending:
        await first.got(b"a")
        error = await refusal(send(replays, Client("two"), script.stream, key="other"))
        assert (error.kind, script.runs) == (ErrorKind.OVERLOADED, 1)
        go.set()
        await sending
    await replays.close()
    for key in ("other", "key"):
        await send(replays, Client("two"), script.stream, key=key)
        await replays.close()
    assert script.runs == 2


async def test_a_shutdown_ends_what_runs_and_frees_its_key(process: Callable[..., Replays]) -> None:
    script, here = Script(asyncio.Event()), process()
    async with sent(refusal(send(here, Client("one"), script.stream))) as sending:
        await until(lambda: script.runs == 1)
        await here.close(grace_s=0.01)
        assert (await sending).kind is ErrorKind.SHUTTING_DOWN
    assert script.cancelled == 1
    assert (await send(process(), Client("two"), Script(b"a").stream)).body == b"a"


# The header.


@pytest.mark.parametrize("value", [b"a", b"!~" * 100, b"k" * 255, b'"quoted"'])
def test_a_key_is_visible_ascii(value: bytes) -> None:
    assert idempotency_key(Client("one", (b"idempotency-key", value)).exchange) == value.decode()


@pytest.mark.parametrize("value", [b"", b"k" * 256, b"two words", b"\x7f", "é".encode(), b"\t"])
def test_what_is_no_key_is_refused_by_the_name_of_its_header(value: bytes) -> None:
    with pytest.raises(StudioError, match="'Idempotency-Key'") as caught:
        idempotency_key(Client("one", (b"idempotency-key", value)).exchange)
    assert caught.value.status == 400


def test_without_the_header_there_is_no_key() -> None:
    assert idempotency_key(Client("one").exchange) is None
