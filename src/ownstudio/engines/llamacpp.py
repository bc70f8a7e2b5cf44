"""The embedded engine: llama.cpp in a supervised worker, spoken to over HTTP on a Unix socket.

* Any request starts the worker if it does not run: through the supervisor, and only there.
* A request has a connection of its own. The worker closes it after each stream, and closing it from here is how a
  request is aborted.
* A stream in which some choice has no last event is a crash, however politely it ended.
* A worker that hangs, or whose socket is gone, is ended: the next request meets a fresh one.

What it cannot do: penalties look at the prompt's tokens too; log probabilities are those of the model, before
penalties and temperature, with no entry for a token that ended inside a character; a hang-up during the prefill is
noticed between two batches (`WorkerOptions.batch`), so that a large model in the middle of one finishes it first.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from ownstudio.core.request import EngineRequest
from ownstudio.core.sse import SSEDecoder
from ownstudio.engines import worker
from ownstudio.engines.base import (
    Chunk,
    EngineDied,
    EngineFacts,
    EngineRefused,
    EngineState,
    EngineUnavailable,
)
from ownstudio.engines.hangwatch import HangWatch
from ownstudio.engines.llamacpp_wire import (
    ChoiceReader,
    ErrorBody,
    decode_error,
    decode_event,
    encode_request,
)
from ownstudio.engines.supervisor import ChildSpec, Incarnation, Supervisor, SupervisorBounds
from ownstudio.engines.worker import WorkerOptions
from ownstudio.engines.worker_http import Answer, WorkerHttp

_SOCKET_PATH_BYTES_MAX = 100
_ERROR_BYTES_MAX = 64 * 1024
_EXIT_NOTICE_S_MAX = 1.0
# No later try to connect will do better. A full backlog, or too many open files here, will pass.
_SOCKET_LOST = (FileNotFoundError, NotADirectoryError, ConnectionRefusedError, PermissionError)
_FAULT_CHARS_MAX = 300
# Of a request that is refused, too, an error is logged; no worker ends of these.
_LOGGED_ERROR = re.compile(
    r"^\S+ E (?!srv +(?:send_error|process_sing):)[^:]*: *(?:error loading model: *)?(.+)$",
    re.MULTILINE,
)
_ASSERTION = re.compile(r"(GGML_ASSERT\(.*\) failed)")


class EngineBounds(Struct, frozen=True):
    """How long a request may go without a chunk, in seconds.

    `first_chunk_s` holds until its first: the wait for a slot and the whole prefill. `gap_s` holds from chunk
    to chunk, where the prefill of others falls in; a worker that sends nothing to anybody for as long, not even that
    a prefill goes on, is ended and started anew. After `probe_after_s` of such silence it must answer a question
    within `probe_s`.
    """

    first_chunk_s: float = 600.0
    gap_s: float = 300.0
    probe_after_s: float = 10.0
    probe_s: float = 5.0


class _Patience:
    """Ends the wait for a stream's next chunk when it has lasted too long.

    One timer for the whole stream, looked at when it runs out and not touched at each of thousands of chunks.
    """

    def __init__(self, answer: Answer, bounds: EngineBounds) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._bound_s = bounds.first_chunk_s
        self._gap_s = bounds.gap_s
        self._since: float | None = None
        self._timer: asyncio.TimerHandle

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._bound_s, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def waits(self) -> None:
        self._since = self._loop.time()

    def rests(self) -> None:
        """A chunk has come, and whoever reads is busy with it."""
        self._since = None
        if self._bound_s != self._gap_s:
            self._bound_s = self._gap_s
            self._timer.cancel()
            self._timer = self._loop.call_later(self._bound_s, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        since = now if self._since is None else self._since
        if now - since >= self._bound_s:
            self._answer.expire()
        else:
            self._timer = self._loop.call_at(since + self._bound_s, self._look)


class _BrokenOff(Exception):
    """The connection ended, or made no sense, before every choice had its last event."""


class LlamaCppEngine:
    """One model on llama.cpp. Implements `ownstudio.engines.base.Engine`.

    `runtime_dir` must belong to this process alone: at each start it is made if need be, and made private (0700), and
    a socket that an earlier one left in it under this `name` is removed.
    """

    def __init__(
        self,
        options: WorkerOptions,
        runtime_dir: Path,
        *,
        name: str = "engine",
        bounds: EngineBounds | None = None,
        supervision: SupervisorBounds | None = None,
    ) -> None:
        """Starts nothing yet. Raises ValueError where the socket's path is longer than systems take."""
        self._bounds = bounds or EngineBounds()
        self.socket_path = runtime_dir.absolute() / f"{name}.sock"
        if len(os.fsencode(self.socket_path)) > _SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"{self.socket_path}: longer than {_SOCKET_PATH_BYTES_MAX} bytes")
        self.key = secrets.token_urlsafe(24)
        self._http = WorkerHttp(self.socket_path, self.key)
        self._watched: tuple[Incarnation, HangWatch] | None = None
        spec = worker_spec(name, options, self.socket_path, self.key)
        self.supervisor = Supervisor(spec, supervision)

    async def ready(self) -> EngineFacts:
        """Start the worker if it does not run; wait until it answers. Raises EngineUnavailable."""
        return _facts(await self.supervisor.ensure_ready())

    def state(self) -> EngineState:
        return self.supervisor.state()

    async def close(self) -> None:
        """End the worker and, with it, whatever still streams."""
        await self.supervisor.stop()
        if self._watched:
            self._watched[1].close()
            self._watched = None

    async def stream(self, request: EngineRequest) -> AsyncGenerator[list[Chunk], None]:
        """See `Engine.stream`. Starts the worker if it does not run.

        Raises EngineUnavailable too, and ValueError for a number that native code must not see.
        """
        incarnation = await self.supervisor.ensure_ready()
        watch = self._watch(incarnation)
        body = encode_request(request, _facts(incarnation))
        reader = ChoiceReader(request)
        signs = watch.signs
        try:
            async with self._answer(body, watch) as answer:
                decoder = SSEDecoder()
                with _Patience(answer, self._bounds) as patience:
                    while reader.open_choices:
                        patience.waits()
                        chunks = await self._next_chunks(answer, decoder, reader, watch)
                        patience.rests()
                        yield chunks
                        signs = watch.signs
        except TimeoutError as silence:
            raise await self._silent(incarnation, reader, watch.signs > signs) from silence
        except (_BrokenOff, OSError) as fault:
            raise await self._broken_off(incarnation, fault) from fault

    @asynccontextmanager
    async def _answer(self, body: bytes, watch: HangWatch) -> AsyncGenerator[Answer, None]:
        """An accepted request. Leaving closes its connection, which aborts what still runs of it."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self._bounds.first_chunk_s):
                with watch.waiting():
                    answer = await stack.enter_async_context(self._http.post("/completion", body))
                if answer.status != HTTPStatus.OK:
                    refusal = decode_error(await answer.read_all(_ERROR_BYTES_MAX))
                    raise _refusal(refusal, answer.status)
            yield answer

    async def _next_chunks(
        self,
        answer: Answer,
        decoder: SSEDecoder,
        reader: ChoiceReader,
        watch: HangWatch,
    ) -> list[Chunk]:
        """Read until there is at least one chunk. Events without text are signs of life, but no progress."""
        chunks: list[Chunk] = []
        while not chunks:
            with watch.waiting():
                data = await answer.read()
            if not data:
                raise _BrokenOff("it ended before its last event")
            try:
                for payload in decoder.feed(data):
                    event = decode_event(payload)
                    if event.error:
                        raise _refusal(event.error, event.error.code)
                    watch.heard()
                    chunks += reader.feed(event)
            except (msgspec.MsgspecError, ValueError) as fault:
                raise _BrokenOff(f"it is not what llama.cpp sends: {fault}") from fault
        return chunks

    async def _silent(
        self, incarnation: Incarnation, reader: ChoiceReader, others_heard: bool
    ) -> Exception:
        """The end of a stream whose time is over. Where nobody heard the worker either, it hangs."""
        if not others_heard:
            await self._end(incarnation, "hangs")
        elif not reader.started:
            return EngineUnavailable(f"no token came within {self._bounds.first_chunk_s:g} s")
        waited_s = self._bounds.gap_s if reader.started else self._bounds.first_chunk_s
        return EngineDied(f"no token came for {waited_s:g} s")

    async def _broken_off(self, incarnation: Incarnation, fault: Exception) -> EngineDied:
        """The end of a stream without its connection. Whoever tries again must not meet the same worker."""
        # The socket closes before the exit is known.
        left = await self.supervisor.wait_left(incarnation, _EXIT_NOTICE_S_MAX)
        if not left and isinstance(fault, _SOCKET_LOST):
            await self._end(incarnation, "has lost its socket")
        return EngineDied(f"the stream broke off: {fault}")

    async def _end(self, incarnation: Incarnation, fault: str) -> None:
        self.supervisor.kill(incarnation, fault)
        await self.supervisor.wait_left(incarnation, _EXIT_NOTICE_S_MAX)

    def _watch(self, incarnation: Incarnation) -> HangWatch:
        """The one watch over this life of the worker."""
        if self._watched and self._watched[0] == incarnation:
            return self._watched[1]
        if self._watched:
            self._watched[1].close()
        watch = HangWatch(
            self._answers,
            lambda: self.supervisor.kill(incarnation, "hangs"),
            probe_after_s=self._bounds.probe_after_s,
            silence_s=self._bounds.gap_s,
        )
        self._watched = incarnation, watch
        return watch

    async def _answers(self) -> bool:
        """Whether the worker answers HTTP, which it does also while it computes; yes where that cannot be told."""
        try:
            async with asyncio.timeout(self._bounds.probe_s), self._http.get("/health"):
                return True
        except (TimeoutError, ConnectionError, FileNotFoundError):
            return False
        except OSError:
            # Too many open files here, or a full backlog there, tell nothing of the worker.
            return True


def worker_spec(name: str, options: WorkerOptions, socket_path: Path, key: str) -> ChildSpec:
    """How to run the worker. Its file is run, not its module: it needs no package around it."""
    arguments = json.dumps({**options._asdict(), "socket_path": str(socket_path)})
    return ChildSpec(
        name=name,
        command=[sys.executable, "-P", worker.__file__, arguments],
        environment={**os.environ, worker.KEY_VARIABLE: key},
        socket_path=socket_path,
        explain=lambda log, status: fault_in(log, status, Path(options.model_path)),
    )


def fault_in(log: str, status: int | None, model_path: Path) -> str:
    """The words of a worker's log that say why it ended, naming the model's file without its directories.

    None for a worker that was killed from outside, of which its log knows nothing; nor does the last line
    say more than the exit status, unless the worker itself chose to end.
    """
    if status == -signal.SIGKILL:
        return ""
    # The first error is the cause; those after it say only that something failed.
    found = _LOGGED_ERROR.search(log) or _ASSERTION.search(log)
    last = (log.splitlines() or [""])[-1] if status is not None and status >= 0 else ""
    words = (found[1] if found else last).strip()[:_FAULT_CHARS_MAX]
    words = words.replace(str(model_path), model_path.name)
    return f"{model_path.name}: {words}" if words and model_path.name not in words else words


def _facts(incarnation: Incarnation) -> EngineFacts:
    return msgspec.json.decode(incarnation.announced, type=EngineFacts)


def _refusal(error: ErrorBody, status: int) -> Exception:
    """What an error of the server means to our callers."""
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return EngineRefused(error.message)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return EngineUnavailable("the engine does not take requests now")
    return EngineDied(f"the engine failed with {status}: {error.message}")
