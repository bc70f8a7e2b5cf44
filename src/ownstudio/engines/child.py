"""One child process: its birth, its READY line, its log, its death. Nothing of why it runs.

A child leads a session of its own, so that a Ctrl-C in the terminal does not reach it and so that all that it
started can be killed as one process group. It must be spawned from the thread that runs the event loop: Linux
ties the parent-death signal to the spawning thread.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from subprocess import PIPE
from typing import Any, Self, cast

from ownstudio.engines.logtail import LogTail

_READY = b"READY "
_STDOUT = 1
_READY_LINE_BYTES_MAX = 64 * 1024
_DRAIN_S_MAX = 1.0


class Child(asyncio.SubprocessProtocol):
    """A running process. Its standard input stays open for as long as it should live."""

    def __init__(self, log: LogTail) -> None:
        loop = asyncio.get_running_loop()
        self._log = log
        self._stdout = b""
        self._ready: asyncio.Future[bytes] = loop.create_future()
        self._drained: asyncio.Future[None] = loop.create_future()
        self._exited: asyncio.Future[int] = loop.create_future()
        self._transport: asyncio.SubprocessTransport

    @classmethod
    async def spawn(
        cls, command: Sequence[str], environment: Mapping[str, str], log: LogTail
    ) -> Self:
        """Raises OSError where the command cannot be run."""
        _, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(log),
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            start_new_session=True,
        )
        return child

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    async def ready(self) -> bytes | None:
        """What the child announced behind its READY; None where it exited before."""
        either: set[asyncio.Future[Any]] = {self._ready, self._exited}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        return None

    async def exited(self) -> int:
        """The exit status once it has exited, negative for a signal."""
        return await asyncio.shield(self._exited)

    async def drained(self) -> None:
        """Wait, for a second at most, until all that an exited child wrote is in the log.

        A process that inherited its pipes may hold them open for much longer.
        """
        await asyncio.wait({self._drained}, timeout=_DRAIN_S_MAX)

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        self._signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """End it: a SIGTERM, `grace_s` seconds to obey, then SIGKILL to its whole group. May be called again."""
        try:
            if not self._exited.done():
                self._signal(signal.SIGTERM)
                await asyncio.wait({self._exited}, timeout=grace_s)
        finally:
            self.kill()  # also sweeps what an obedient leader left behind
        await asyncio.shield(self._exited)
        await self.drained()
        self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        # The leader's pid names the group, which lives on while any member does.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == _STDOUT and not self._ready.done():
            data = self._seek_ready(data)
        self._log.feed(data)

    def process_exited(self) -> None:
        status = self._transport.get_returncode()
        self._exited.set_result(-1 if status is None else status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._drained.set_result(None)

    def _seek_ready(self, data: bytes) -> bytes:
        """Read standard output up to the READY line; what is not that line is log."""
        *lines, self._stdout = (self._stdout + data).split(b"\n")
        log = []
        for line in lines:
            if line.startswith(_READY) and not self._ready.done():
                self._ready.set_result(line.removeprefix(_READY))
            else:
                log.append(line + b"\n")
        if self._ready.done() or len(self._stdout) > _READY_LINE_BYTES_MAX:
            log.append(self._stdout)
            self._stdout = b""
        return b"".join(log)
