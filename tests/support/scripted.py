"""An engine that does what a test tells it: stall, die, refuse, count. The real one cannot be made to on demand."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from ownstudio.core.request import EngineRequest
from ownstudio.engines.base import (
    Chunk,
    EngineDied,
    EngineFacts,
    EngineFinish,
    EngineState,
    EngineUnavailable,
)


def text_chunks(*texts: str, finish: EngineFinish = EngineFinish.END_TOKEN) -> list[Chunk]:
    """One choice that writes each text as one token, then ends."""
    chunks = [Chunk(0, text, (index,), index + 1) for index, text in enumerate(texts)]
    return [*chunks, Chunk(0, "", (), len(texts), finish=finish, cached_tokens=3)]


class Stall:
    """A step at which the engine waits until `go` is set."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()


class Die:
    """A step at which the engine is gone."""


Step = list[Chunk] | Stall | Die


class ScriptedEngine:
    """Plays one script per call of `stream`, the last one again and again."""

    def __init__(self, *scripts: Sequence[Step], fault: str = "") -> None:
        self._scripts = list(scripts)
        self._fault = fault
        self.requests: list[EngineRequest] = []
        self.started = 0
        self.aborted = 0
        self.open = 0
        self.on_abort: Callable[[], None] = lambda: None

    async def ready(self) -> EngineFacts:
        self.started += 1
        if self._fault:
            raise EngineUnavailable(self._fault)
        return EngineFacts(context=4096, slots=4)

    async def stream(self, request: EngineRequest) -> AsyncGenerator[list[Chunk], None]:
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(request)
        self.open += 1
        whole = False
        try:
            for step in script:
                match step:
                    case Stall():
                        step.reached.set()
                        await step.go.wait()
                    case Die():
                        raise EngineDied("killed by the test")
                    case chunks:
                        yield chunks
            whole = True
        finally:
            self.open -= 1
            if not whole:
                self.aborted += 1
                self.on_abort()

    def state(self) -> EngineState:
        return EngineState.FAILED if self._fault else EngineState.READY

    async def close(self) -> None: ...
