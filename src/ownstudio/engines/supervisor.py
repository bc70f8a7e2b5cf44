"""Keeps one child process running: one child, one state machine, one owner.

The owner is the keeper, a task that lives from the first `ensure_ready` until `stop`. Nobody else starts or
replaces the child, and nobody decides by looking at the state first: callers ask `ensure_ready`, and
every settled transition tells all who wait.

    STOPPED ── ensure_ready ──▶ STARTING ──▶ READY ── exit ──▶ STARTING (at once, the first time)
                                   ▲  │                  └────▶ FAILED ── back-off ──▶ STARTING
                                   │  └── no READY ──────────────▲
    any state ── stop ──▶ STOPPED

While FAILED, `ensure_ready` raises at once, with the reason. The back-off doubles from crash to crash and
starts anew after a child that stayed ready for `healthy_s`.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from ownstudio.engines.base import EngineState, EngineUnavailable
from ownstudio.engines.child import Child
from ownstudio.engines.logtail import LogTail

logger = logging.getLogger(__name__)


class SupervisorBounds(Struct, frozen=True):
    """How long a child may take, and how soon it is tried again; all in seconds."""

    start_s: float = 120.0
    stop_grace_s: float = 3.0
    backoff_s: float = 0.5
    backoff_s_max: float = 30.0
    healthy_s: float = 60.0


class ChildSpec(Struct, frozen=True):
    """What to run. `name` is for people.

    `socket_path` is unlinked before each start and after each end; its directory is made where it is missing, and
    made private (0700). `explain` finds, in the log of a child that died, the words that name the fault; they may be
    shown to clients. It is told the exit status too: negative for a signal, None where there is none.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    socket_path: Path | None = None
    explain: Callable[[str, int | None], str] = lambda log, status: ""


class Incarnation(Struct, frozen=True):
    """One life of the child: a number that grows with each, and what it announced behind READY."""

    number: int
    announced: bytes


class _Fault(Struct, frozen=True):
    """Why no child answers and, on the clock of `time.monotonic`, when the next is tried."""

    reason: str
    retry_at: float | None = None


class Supervisor:
    def __init__(self, spec: ChildSpec, bounds: SupervisorBounds | None = None) -> None:
        self._spec = spec
        self._bounds = bounds or SupervisorBounds()
        self._log = LogTail(logger.getChild(spec.name))
        self._state = EngineState.STOPPED
        self._number = 0
        self._condemned = ""
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        # How the present start ends. Replaced at each new start; its value is what all its waiters get.
        self._outcome: asyncio.Future[Incarnation | _Fault]
        self._left = asyncio.Event()

    async def ensure_ready(self) -> Incarnation:
        """The child that answers, started if none runs; concurrent callers share one start.

        Raises EngineUnavailable where it cannot be started or is waiting out a back-off, with what is left of that.
        """
        if self._stopping:
            raise EngineUnavailable(f"{self._spec.name} is stopping")
        if self._keeper is None:
            self._begin()
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
            self._keeper.add_done_callback(self._keeper_ended)
        outcome = await asyncio.shield(self._outcome)
        if isinstance(outcome, _Fault):
            retry_at = outcome.retry_at
            left_s = None if retry_at is None else max(0.0, retry_at - time.monotonic())
            raise EngineUnavailable(outcome.reason, left_s)
        return outcome

    def state(self) -> EngineState:
        return self._state

    def pid(self) -> int | None:
        """The process id of the present child, for the operator."""
        return self._child.pid if self._child else None

    def log_tail(self) -> str:
        """The last lines that the child wrote, at most 8 KiB."""
        return self._log.text()

    async def wait_left(self, incarnation: Incarnation, within_s: float) -> bool:
        """Wait until `incarnation` is known to be gone: its socket tells earlier than its exit does.

        False where it is still there after `within_s` seconds.
        """
        try:
            async with asyncio.timeout(within_s):
                while self._is_current(incarnation):
                    await self._left.wait()
        except TimeoutError:
            return False
        return True

    def kill(self, incarnation: Incarnation, fault: str) -> None:
        """End a child of which `fault` is true, say `hangs`; it is started anew as after a crash.

        Another incarnation is left alone.
        """
        if self._child and self._is_current(incarnation) and not self._condemned:
            logger.warning("%s %s and is killed", self._spec.name, fault)
            self._condemned = fault
            self._child.kill()

    async def stop(self) -> None:
        """End the child and wait until it is gone. `ensure_ready` may start another afterwards."""
        keeper = self._keeper
        if keeper is None:
            return
        if not self._stopping:
            self._stopping = True
            keeper.cancel()
        await asyncio.wait({keeper})

    def _is_current(self, incarnation: Incarnation) -> bool:
        return self._state is EngineState.READY and self._number == incarnation.number

    # The keeper and its transitions:

    async def _keep(self) -> None:
        failures = 0
        try:
            while True:
                fault, ready_s = await self._live()
                failures = 1 if ready_s >= self._bounds.healthy_s else failures + 1
                if ready_s and failures == 1:
                    await self._reap()
                    continue
                retry_at = time.monotonic() + self._backoff_s(failures)
                self._settle(EngineState.FAILED, _Fault(fault, retry_at))
                await self._reap()
                await asyncio.sleep(retry_at - time.monotonic())
                self._begin()
        finally:
            await self._reap()

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        """The last transition. Not in the task itself: one that is cancelled before its first step runs nothing."""
        reason = f"{self._spec.name} was stopped"
        if not keeper.cancelled() and (error := keeper.exception()):
            logger.error("the supervisor of %s failed", self._spec.name, exc_info=error)
            reason = f"{self._spec.name} is no longer supervised"
        self._keeper = None
        self._stopping = False
        self._settle(EngineState.STOPPED, _Fault(reason))

    async def _live(self) -> tuple[str, float]:
        """One life of a child: why it ended, and for how many seconds it was ready (0 if never)."""
        begun = time.monotonic()
        self._log.clear()
        self._condemned = ""
        try:
            self._make_way_for_socket()
            child = await self._spawn()
            async with asyncio.timeout(self._bounds.start_s):
                announced = await child.ready()
        except TimeoutError:
            return self._fault(f"was not ready within {self._bounds.start_s:g} s"), 0.0
        except OSError as error:
            return self._fault(f"could not be run: {error.strerror}"), 0.0
        if announced is None:
            status = await child.exited()
            await child.drained()
            return self._fault(f"could not be started: it {_words(status)}", status), 0.0
        self._number += 1
        ready_at = time.monotonic()
        logger.info("%s is ready after %.2f s", self._spec.name, ready_at - begun)
        self._settle(EngineState.READY, Incarnation(self._number, announced))
        status = await child.exited()
        ready_s = time.monotonic() - ready_at
        self._begin()  # before anything is awaited: nobody may be given the dead child any more
        await child.drained()
        if self._condemned:
            return self._fault(f"was killed because it {self._condemned}", status), ready_s
        return self._fault(f"{_words(status)} while running", status), ready_s

    def _begin(self) -> None:
        self._state = EngineState.STARTING
        self._outcome = asyncio.get_running_loop().create_future()
        self._announce_left()

    def _settle(self, state: EngineState, outcome: Incarnation | _Fault) -> None:
        """Enter a state that lasts, and tell whoever waits for it."""
        if self._outcome.done():
            self._outcome = asyncio.get_running_loop().create_future()
        self._state = state
        self._outcome.set_result(outcome)
        if state is not EngineState.READY:
            self._announce_left()

    def _announce_left(self) -> None:
        left, self._left = self._left, asyncio.Event()
        left.set()

    def _backoff_s(self, failures: int) -> float:
        doubled = self._bounds.backoff_s * 2.0 ** min(failures - 1, 30)
        return min(doubled, self._bounds.backoff_s_max)

    def _fault(self, what: str, status: int | None = None) -> str:
        """Log what happened with the child's last words; return the sentence that names the fault."""
        tail = self._log.text()
        logger.warning("%s %s; its log ends:\n%s", self._spec.name, what, tail)
        words = self._spec.explain(tail, status)
        return f"{self._spec.name} {what}" + (f": {words}" if words else "")

    async def _spawn(self) -> Child:
        """A stop that comes meanwhile waits for the child, since half-born it could be neither kept nor ended."""
        spawning = asyncio.get_running_loop().create_task(
            Child.spawn(self._spec.command, self._spec.environment, self._log)
        )
        try:
            self._child = await asyncio.shield(spawning)
            return self._child
        except asyncio.CancelledError:
            with suppress(OSError):
                self._child = await spawning
            raise

    async def _reap(self) -> None:
        """Leave nothing of the present child. Idempotent, so that a cancelled call can be made again."""
        if self._child:
            await self._child.stop(self._bounds.stop_grace_s)
            self._child = None
        if self._spec.socket_path:
            with suppress(OSError):  # whatever is left there is the next start's to complain of
                self._spec.socket_path.unlink()

    def _make_way_for_socket(self) -> None:
        """Not once but at each start: who cleans up temporary directories may take ours while we run."""
        if self._spec.socket_path:
            directory = self._spec.socket_path.parent
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            self._spec.socket_path.unlink(missing_ok=True)


def _words(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
