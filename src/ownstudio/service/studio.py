"""The running service: deployments, the catalogue in front of them, and every generation under way."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec

from ownstudio.catalog import Catalog, Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Event, texts
from ownstudio.core.request import GenerationRequest
from ownstudio.engines.base import EngineState
from ownstudio.metrics import Metrics
from ownstudio.service.admission import Desk, Visit
from ownstudio.service.deployment import Deployment
from ownstudio.service.ending import Ending, Outcome
from ownstudio.service.generation import Generation, unavailable

SHUTDOWN_RETRY_AFTER_S = 10.0

prompt_logger = logging.getLogger("ownstudio.prompts")


class _Counters:
    """The metrics of one deployment, looked up once."""

    def __init__(self, metrics: Metrics, deployment: str) -> None:
        self.endings = {
            ending: metrics.generations.labels(deployment, ending.value) for ending in Ending
        }
        self.prompt_tokens = metrics.prompt_tokens.labels(deployment)
        self.cached_tokens = metrics.cached_tokens.labels(deployment)
        self.completion_tokens = metrics.completion_tokens.labels(deployment)
        self.generation_time = metrics.generation_time.labels(deployment)
        self.time_to_first_token = metrics.time_to_first_token.labels(deployment)


class Studio:
    """Opens generations and, at shutdown, ends them."""

    def __init__(
        self,
        catalog: Catalog,
        deployments: Mapping[str, Deployment],
        faults: Mapping[str, str],
        desk: Desk,
        metrics: Metrics,
        request_deadline_s: float,
        *,
        logs_prompts: bool = False,
    ) -> None:
        """`faults` says, for deployments that could not be built, why.

        With `logs_prompts` what is asked and answered is written to the log, which is private text.
        """
        self.catalog = catalog
        self.deployments = deployments
        self.faults = faults
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._desk = desk
        self._metrics = metrics
        self._request_deadline_s = request_deadline_s
        self._counters = {name: _Counters(metrics, name) for name in deployments}
        self._logs_prompts = logs_prompts
        self._running: set[Generation] = set()

    async def generate(
        self, visit: Visit, model: Model, request: GenerationRequest
    ) -> AsyncGenerator[list[Event], None]:
        """Run one request; see Generation.events for what comes and what is raised."""
        if self.draining:
            raise _shutting_down()
        deployment = self.deployments.get(model.deployment)
        if deployment is None:
            raise unavailable(self.faults[model.deployment])
        generation = Generation(
            deployment,
            model,
            request,
            visit,
            self._desk,
            self._request_deadline_s,
            lambda outcome: self._settle(deployment, outcome),
        )
        self._running.add(generation)
        self.idle.clear()
        said: list[Event] = []
        if self._logs_prompts:
            prompt_logger.info("asked: %s", msgspec.json.encode(request).decode())
        try:
            async with aclosing(generation.events()) as batches:
                async for events in batches:
                    if self._logs_prompts:
                        said += events
                    yield events
        finally:
            if self._logs_prompts:
                prompt_logger.info("answered: %s", msgspec.json.encode(texts(said)).decode())
            self._running.discard(generation)
            if not self._running:
                self.idle.set()

    def states(self) -> dict[str, EngineState]:
        """The state of each deployment's engine, by deployment name."""
        states = {name: deployment.engine.state() for name, deployment in self.deployments.items()}
        return states | dict.fromkeys(self.faults, EngineState.FAILED)

    def names_of(self, deployment: str) -> list[str]:
        """The model names that a deployment answers."""
        return [model.name for model in self.catalog.models() if model.deployment == deployment]

    @property
    def running(self) -> int:
        return len(self._running)

    def drain(self) -> None:
        """Refuse new generations; those under way go on."""
        self.draining = True

    def abort_all(self) -> None:
        """End every generation under way with an error event."""
        for generation in list(self._running):
            generation.abort(_shutting_down())

    async def close(self) -> None:
        """Stop every engine."""
        await asyncio.gather(*(one.engine.close() for one in self.deployments.values()))

    def observe(self) -> None:
        """Bring the gauges up to date, for a scrape."""
        for name, deployment in self.deployments.items():
            self._metrics.slots_busy.labels(name).set(deployment.slots.busy)
            self._metrics.queue_length.labels(name).set(deployment.slots.waiting)
            ready = deployment.engine.state() is EngineState.READY
            self._metrics.engine_ready.labels(name).set(ready)
        for name in self.faults:
            # An alert on an engine that is away has to see it.
            self._metrics.engine_ready.labels(name).set(0)
        self._desk.observe()

    def _settle(self, deployment: Deployment, outcome: Outcome) -> None:
        counters, usage = self._counters[deployment.name], outcome.usage
        counters.endings[outcome.ending].inc()
        counters.prompt_tokens.inc(usage.prompt_tokens)
        counters.cached_tokens.inc(usage.cached_tokens)
        counters.completion_tokens.inc(usage.completion_tokens)
        counters.generation_time.observe(outcome.seconds)
        if outcome.first_token_seconds is not None:
            counters.time_to_first_token.observe(outcome.first_token_seconds)


def _shutting_down() -> StudioError:
    return StudioError(
        ErrorKind.SHUTTING_DOWN,
        "The service is shutting down, please try again later.",
        retry_after=SHUTDOWN_RETRY_AFTER_S,
    )
