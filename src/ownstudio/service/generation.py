"""One run of one request: render, be admitted, wait for a slot, stream, stop, end.

Every way a generation can end is written in `Generation.events`, the one place that decides what is
recorded and charged. The web layer only opens, iterates and closes; a non-streaming answer is the same
events, collected. The last event of an answer is said only once it is settled: whoever has received an answer whole
finds it on the ledger.
"""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.events import Done, Event, FinishReason, Started, Usage
from ownstudio.core.request import EngineRequest, GenerationRequest
from ownstudio.engines.base import Chunk, EngineDied, EngineRefused, EngineUnavailable
from ownstudio.service.admission import Demand, Desk, Ticket, Visit
from ownstudio.service.choice import Choice
from ownstudio.service.deployment import Deployment
from ownstudio.service.ending import CHARGED, Ending, Outcome, ending_of
from ownstudio.service.plan import Plan, plan, too_long

T = TypeVar("T")

# A client that met a dead engine may come back once a fresh worker has had time to load.
RETRY_AFTER_S = 5.0
LARGE_PROMPT_CHARACTERS = 16_384
THINKING_END = "\n</think>\n\n"
THINKING_END_TOKENS_MAX = 8


class Generation:
    """Runs `request` on `deployment`; `settle` hears of its outcome exactly once."""

    def __init__(
        self,
        deployment: Deployment,
        model: Model,
        request: GenerationRequest,
        visit: Visit,
        desk: Desk,
        deadline_s: float,
        settle: Callable[[Outcome], None],
    ) -> None:
        self._visit = visit
        self._desk = desk
        self._deployment = deployment
        self._model = model
        self._request = request
        self._deadline_s = deadline_s
        self._settle = settle
        self._prompt_tokens = 0
        self._choices: list[Choice] = []
        self._warnings: tuple[str, ...] = ()
        self._demand = Demand()
        self._ticket: Ticket | None = None
        self._aborted: StudioError | None = None
        # Whoever waits for the next step, and whether that wait was cancelled by an abort.
        self._waiting: asyncio.Task[object] | None = None
        self._woken = False

    def abort(self, error: StudioError) -> None:
        """End the generation from outside: whoever iterates its events gets `error`."""
        self._aborted = self._aborted or error
        if self._waiting is not None and not self._woken:
            self._woken = True
            self._waiting.cancel()

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """The events, as many at a time as came together, from `Started` to `Done`.

        Raises StudioError when the generation fails. Closing the generator aborts it in the engine.
        """
        started = time.perf_counter()
        first_token_seconds: float | None = None
        ending = Ending.FAILED
        closed = False
        # One timer for all the steps: a timeout around each costs more than the step itself.
        deadline = asyncio.get_running_loop().call_later(self._deadline_s, self._expire)
        try:
            async with aclosing(self._run()) as batches:
                async for events in batches:
                    if first_token_seconds is None:
                        first_token_seconds = time.perf_counter() - started
                    if isinstance(events[-1], Done):
                        cut = any(choice.reason is FinishReason.LENGTH for choice in self._choices)
                        ending = Ending.LENGTH if cut else Ending.STOP
                        closed = True
                        await self._close(ending)
                    yield events
        except (asyncio.CancelledError, GeneratorExit):
            if not closed:
                ending = Ending.HANG_UP
            raise
        except StudioError as error:
            ending = ending_of(error.kind)
            raise
        finally:
            deadline.cancel()
            if not closed:
                # What cannot be written now is not charged: its hold expires.
                with suppress(StudioError):
                    await self._close(ending)
            seconds = time.perf_counter() - started
            self._settle(Outcome(ending, self._usage(), seconds, first_token_seconds))

    async def _close(self, ending: Ending) -> None:
        """Hand the ticket back. Raises StudioError where an answer cannot be put on the ledger."""
        if self._ticket is None:
            return
        usage = self._usage()
        # Whoever leaves before the first token has had nothing.
        if ending not in CHARGED or (ending is Ending.HANG_UP and not usage.completion_tokens):
            await self._desk.release(self._ticket, ending)
        else:
            cached = self._engine_cached()
            await self._desk.settle(self._ticket, usage, ending, cached)

    async def _run(self) -> AsyncGenerator[list[Event], None]:
        request = await self._engine_request()
        admission = self._desk.admit(self._visit, self._model, self._demand)
        self._ticket = await self._bounded(admission)
        slots = self._deployment.slots
        await self._bounded(slots.acquire(request.n))
        started = False
        try:
            while True:
                async with aclosing(self._part(request)) as batches:
                    async for events in batches:
                        if not started:
                            started = True
                            events.insert(0, self._started())
                        yield events
                if all(choice.reason for choice in self._choices):
                    return
                events = []
                rest = self._past_thinking(request, events)
                if rest is None:
                    self._cut(events)
                if events:
                    if not started:
                        started = True
                        events.insert(0, self._started())
                    yield events
                if rest is None:
                    return
                request = rest
        finally:
            slots.release(request.n)

    async def _part(self, request: EngineRequest) -> AsyncGenerator[list[Event], None]:
        """The events of one engine request: the whole answer, unless its thinking meets its budget."""
        async with aclosing(self._chunks(request)) as chunks:
            while (batch := await self._bounded(anext(chunks, None))) is not None:
                events: list[Event] = []
                for chunk in batch:
                    self._choices[chunk.choice].feed(chunk, events)
                finished = all(choice.reason for choice in self._choices)
                if finished:
                    events.append(Done(self._usage()))
                if events:
                    yield events
                if finished or self._choices[0].over_budget:
                    return
        raise _broken("the engine's stream ended before every choice had")

    def _past_thinking(self, request: EngineRequest, events: list[Event]) -> EngineRequest | None:
        """Close the thinking of the only choice, which is over its budget, and have the model go on from there.

        None where neither the context nor what the client allows leaves room for an answer.
        """
        (choice,) = self._choices
        asked = self._request
        end_ids = self._deployment.tokenizer.encode(THINKING_END, specials=True)
        choice.force(THINKING_END, end_ids, events)
        token_ids = [*request.token_ids, *choice.token_ids]
        room = min(
            asked.max_tokens or self._model.thinking_output_max or self._model.output_max,
            self._deployment.context - len(token_ids),
            (asked.max_completion_tokens or self._deployment.context) - choice.tokens,
        )
        if room < 1:
            return None
        return msgspec.structs.replace(request, token_ids=token_ids, max_tokens=room)

    def _cut(self, events: list[Event]) -> None:
        """End every choice that has not ended as one that is too long."""
        for choice in self._choices:
            choice.cut(events)
        events.append(Done(self._usage()))

    async def _engine_request(self) -> EngineRequest:
        """Render, and hold the request to what the model takes and the deployment can. Raises StudioError."""
        request, deployment = self._request, self._deployment
        if request.n > deployment.slots.slots:
            raise invalid_parameter("n", f"Range of n should be [1, {deployment.slots.slots}]")
        if request.n > 1 and request.thinking_budget is not None:
            raise invalid_parameter("n", "With thinking_budget, n must be 1.")
        if request.prompt.characters + request.stop.characters > LARGE_PROMPT_CHARACTERS:
            # Tens of milliseconds of templating and tokenizing would hold up everybody else's streams.
            plan = await self._bounded(asyncio.to_thread(self._plan))
        else:
            plan = self._plan()
        input_max = min(plan.input_max, deployment.context - 1)
        if not 1 <= len(plan.token_ids) <= input_max:
            raise too_long(request.prompt, input_max)
        self._prompt_tokens = len(plan.token_ids)
        self._warnings = plan.warnings
        self._choices = [
            Choice(index, request, deployment.tokenizer, plan, _new_call_id)
            for index in range(request.n)
        ]
        room = deployment.context - len(plan.token_ids)
        tokens_max = min(self._tokens_max(plan), room)
        # Closing the thinking costs a few tokens beyond what the engine is first allowed.
        written_max = min(tokens_max + THINKING_END_TOKENS_MAX * plan.thinks, room)
        self._demand = Demand(plan.prefix, written_max * request.n, thinking=plan.thinks)
        return EngineRequest(
            token_ids=plan.token_ids,
            sampling=request.sampling,
            max_tokens=tokens_max,
            n=request.n,
            top_logprobs=request.top_logprobs,
            grammar=plan.grammar,
            grammar_trigger=plan.grammar_trigger,
        )

    def _plan(self) -> Plan:
        return plan(self._request, self._deployment, self._model)

    def _tokens_max(self, plan: Plan) -> int:
        """How many tokens an answer may have in all; `max_tokens` bounds only what follows the thinking."""
        request, model = self._request, self._model
        if not plan.thinks:
            return request.max_tokens or model.output_max
        thoughts = request.thinking_budget or model.thinking_budget_max or self._deployment.context
        answer = request.max_tokens or model.thinking_output_max or model.output_max
        return min(thoughts + answer, request.max_completion_tokens or thoughts + answer)

    async def _chunks(self, request: EngineRequest) -> AsyncGenerator[list[Chunk], None]:
        """The engine's chunks; an engine that dies before its first is tried once more on a fresh worker."""
        engine = self._deployment.engine
        written = False
        for last_try in (False, True):
            try:
                await engine.ready()
                async with aclosing(engine.stream(request)) as stream:
                    async for batch in stream:
                        written = True
                        yield batch
                return
            except EngineDied as death:
                if written:
                    raise _broken(str(death)) from death
                if last_try:
                    raise unavailable(str(death)) from death
            except EngineUnavailable as fault:
                raise unavailable(str(fault), fault.retry_after_s) from fault
            except EngineRefused as refusal:
                raise StudioError(
                    ErrorKind.INTERNAL,
                    "An error occurred in model serving, error message is: "
                    "[Request rejected by inference engine!]",
                    detail=str(refusal),
                ) from refusal

    async def _bounded(self, step: Awaitable[T]) -> T:
        """Await `step`, unless an abort comes first: then its error is raised, and `step` is cancelled."""
        if self._aborted is not None:
            if asyncio.iscoroutine(step):
                step.close()
            raise self._aborted
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        self._waiting, self._woken = task, False
        try:
            return await step
        except asyncio.CancelledError:
            # An abort and a hang-up may come together: then the hang-up counts.
            error = self._interruption()
            if error is not None and task.uncancel() <= cancelled_before:
                raise error from None
            raise
        finally:
            self._waiting = None

    def _interruption(self) -> StudioError | None:
        """The error of an abort that has cancelled the present wait."""
        return self._aborted if self._woken else None

    def _expire(self) -> None:
        self.abort(
            StudioError(
                ErrorKind.TIMEOUT,
                "Request timed out, please try again later.",
                detail=f"not done after {self._deadline_s:g} s",
            )
        )

    def _started(self) -> Started:
        usage, ticket = self._usage(), self._ticket
        return Started(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            cache_creation_tokens=usage.cache_creation_tokens,
            explicit_cache=usage.explicit_cache,
            warnings=self._warnings,
            remarks=() if ticket is None else ticket.remarks(self._engine_cached()),
        )

    def _engine_cached(self) -> int:
        """How many tokens of the prompt the engine had already computed."""
        return max((choice.cached_tokens for choice in self._choices), default=0)

    def _usage(self) -> Usage:
        cached, created, explicit = 0, 0, False
        if self._ticket is not None:
            cached, created, explicit = self._ticket.found.usage(self._engine_cached())
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=sum(choice.tokens for choice in self._choices),
            cached_tokens=cached,
            reasoning_tokens=sum(choice.reasoning_tokens for choice in self._choices),
            cache_creation_tokens=created,
            explicit_cache=explicit,
        )


def _new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _broken(detail: str) -> StudioError:
    return StudioError(ErrorKind.ENGINE_FAILED, "Inference internal error.", detail=detail)


def unavailable(detail: str, retry_after_s: float | None = None) -> StudioError:
    """The refusal of a request whose engine cannot answer; `detail` is for the log.

    `retry_after_s` is when the engine is next tried, where that is known.
    """
    return StudioError(
        ErrorKind.ENGINE_UNAVAILABLE,
        "Model is unavailable, please try again later.",
        detail=detail,
        # In whole seconds on the wire; a client that comes a moment too early is refused once more.
        retry_after=RETRY_AFTER_S if retry_after_s is None else math.ceil(retry_after_s),
    )
