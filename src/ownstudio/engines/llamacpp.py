"""The embedded engine: llama.cpp in a supervised worker, spoken to over HTTP on a Unix socket.

* Any request starts the worker if it does not run: through the supervisor, and only there.
* A request has a connection of its own. The worker closes it after each stream, and closing it from here is how a
  request is aborted.
* A stream in which some choice has no last event is a crash, however politely it ended.

What it cannot do: penalties look at the prompt's tokens too; log probabilities are those of the model, before
penalties and temperature, with no entry for a token that ended inside a character; a hang-up during the prefill is
noticed between two batches (`WorkerOptions.batch`), so that a large model in the middle of one finishes it first.
"""

import asyncio
import json
import os
import re
import secrets
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import aiohttp
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
from ownstudio.engines.llamacpp_wire import (
    ChoiceReader,
    ErrorBody,
    decode_error,
    decode_event,
    encode_request,
)
from ownstudio.engines.supervisor import ChildSpec, Incarnation, Supervisor, SupervisorBounds
from ownstudio.engines.worker import WorkerOptions

_SOCKET_PATH_BYTES_MAX = 100
_ERROR_BYTES_MAX = 64 * 1024
_CONNECT_S_MAX = 10.0
_EXIT_NOTICE_S_MAX = 1.0
_FAULT_CHARS_MAX = 300
_LOGGED_ERROR = re.compile(r"^\S+ E [^:]*: *(?:error loading model: *)?(.+)$", re.MULTILINE)
_ASSERTION = re.compile(r"(GGML_ASSERT\(.*\) failed)")


class EngineBounds(Struct, frozen=True):
    """How long a request may go without a chunk, in seconds.

    `first_chunk_s` holds until its first: the wait for a slot and the whole prefill. `gap_s` holds from chunk
    to chunk, where the prefill of others falls in; a worker that is silent for longer is ended and started anew.
    """

    first_chunk_s: float = 600.0
    gap_s: float = 300.0


class _BrokenOff(Exception):
    """The connection ended, or made no sense, before every choice had its last event."""


class LlamaCppEngine:
    """One model on llama.cpp. Implements `ownstudio.engines.base.Engine`.

    `runtime_dir` must belong to this process alone: it is made private (0700), and a socket that an earlier one
    left in it under this `name` is removed.
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
        runtime_dir.mkdir(parents=True, exist_ok=True)
        runtime_dir.chmod(0o700)
        self.key = secrets.token_urlsafe(24)
        self._session: aiohttp.ClientSession | None = None
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
        if self._session:
            await self._session.close()
            self._session = None

    async def stream(self, request: EngineRequest) -> AsyncGenerator[list[Chunk], None]:
        """See `Engine.stream`. Starts the worker if it does not run.

        Raises EngineUnavailable too, and ValueError for a number that native code must not see.
        """
        incarnation = await self.supervisor.ensure_ready()
        body = encode_request(request, _facts(incarnation))
        reader = ChoiceReader(request)
        try:
            async with self._answer(body) as response:
                decoder = SSEDecoder()
                while reader.open_choices:
                    chunks = await self._next_chunks(response, decoder, reader)
                    yield chunks
        except TimeoutError as silence:
            raise await self._silent(incarnation, reader) from silence
        except (_BrokenOff, aiohttp.ClientError, OSError) as fault:
            # The socket closes before the exit is known, and whoever tries again must not meet the dead worker.
            await self.supervisor.wait_left(incarnation, _EXIT_NOTICE_S_MAX)
            raise EngineDied(f"the stream broke off: {fault}") from fault

    @asynccontextmanager
    async def _answer(self, body: bytes) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """An accepted request. Leaving closes its connection, which aborts what still runs of it."""
        async with asyncio.timeout(self._bounds.first_chunk_s):
            response = await self._client().post("http://worker/completion", data=body)
        try:
            if response.status != HTTPStatus.OK:
                async with asyncio.timeout(self._bounds.gap_s):
                    refusal = decode_error(await response.content.read(_ERROR_BYTES_MAX))
                raise _refusal(refusal, response.status)
            yield response
        finally:
            response.close()

    async def _next_chunks(
        self, response: aiohttp.ClientResponse, decoder: SSEDecoder, reader: ChoiceReader
    ) -> list[Chunk]:
        """Read until there is at least one chunk: pings and events without text are no progress."""
        chunks: list[Chunk] = []
        async with asyncio.timeout(
            self._bounds.gap_s if reader.started else self._bounds.first_chunk_s
        ):
            while not chunks:
                data = await response.content.readany()
                if not data:
                    raise _BrokenOff("it ended before its last event")
                try:
                    for payload in decoder.feed(data):
                        event = decode_event(payload)
                        if event.error:
                            raise _refusal(event.error, event.error.code)
                        chunks += reader.feed(event)
                except (msgspec.MsgspecError, ValueError) as fault:
                    raise _BrokenOff(f"it is not what llama.cpp sends: {fault}") from fault
        return chunks

    async def _silent(self, incarnation: Incarnation, reader: ChoiceReader) -> Exception:
        """Before its first chunk a request may merely wait for others; after it, the worker must be hanging."""
        if not reader.started:
            return EngineUnavailable(f"no token came within {self._bounds.first_chunk_s:g} s")
        self.supervisor.kill(incarnation)
        await self.supervisor.wait_left(incarnation, _EXIT_NOTICE_S_MAX)
        return EngineDied(f"no token came for {self._bounds.gap_s:g} s")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.socket_path), limit=0, force_close=True),
                headers={
                    "Authorization": f"Bearer {self.key}",
                    "Content-Type": "application/json",
                },
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def worker_spec(name: str, options: WorkerOptions, socket_path: Path, key: str) -> ChildSpec:
    """How to run the worker. Its file is run, not its module: it needs no package around it."""
    arguments = json.dumps({**options._asdict(), "socket_path": str(socket_path)})
    return ChildSpec(
        name=name,
        command=[sys.executable, "-P", worker.__file__, arguments],
        environment={**os.environ, worker.KEY_VARIABLE: key},
        socket_path=socket_path,
        explain=lambda log: fault_in(log, Path(options.model_path)),
    )


def fault_in(log: str, model_path: Path) -> str:
    """The words of a worker's log that say why it ended, naming the model's file without its directories."""
    # The first error is the cause; those after it say only that something failed.
    found = _LOGGED_ERROR.search(log) or _ASSERTION.search(log)
    words = found[1] if found else (log.splitlines() or [""])[-1]
    words = words.strip()[:_FAULT_CHARS_MAX].replace(str(model_path), model_path.name)
    return f"{model_path.name}: {words}" if model_path.name not in words else words


def _facts(incarnation: Incarnation) -> EngineFacts:
    return msgspec.json.decode(incarnation.announced, type=EngineFacts)


def _refusal(error: ErrorBody, status: int) -> Exception:
    """What an error of the server means to our callers."""
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return EngineRefused(error.message)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return EngineUnavailable("the engine does not take requests now")
    return EngineDied(f"the engine failed with {status}: {error.message}")
