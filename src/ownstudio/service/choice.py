"""One choice of an answer: engine chunks in, events out; stop conditions, thinking and calls in between."""

from collections.abc import Callable, Iterable, Sequence

from ownstudio.core.events import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenId,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
)
from ownstudio.core.request import GenerationRequest
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.qwen.parser import OutputParser
from ownstudio.qwen.pieces import CallArguments, CallStart, Piece, Reasoning, Text
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.service.plan import Plan


class Choice:
    """Follows one choice to its end. After that it ignores what the engine still writes.

    `new_call_id` names calls.
    """

    def __init__(
        self,
        index: int,
        request: GenerationRequest,
        tokenizer: Tokenizer,
        plan: Plan,
        new_call_id: Callable[[], str],
    ) -> None:
        self._index = index
        self._stop = plan.stop.again()
        self._tokenizer = tokenizer
        self._parser = plan.parser()
        self._stop_spares_calls = bool(
            plan.tools and (request.stop.texts or request.stop.token_ids)
        )
        self._new_call_id = new_call_id
        self._thinking_budget = request.thinking_budget
        self._answer_max = request.max_tokens
        self._wants_ids = bool(request.stop.token_ids) or self._thinking_budget is not None
        self._held_logprobs: list[tuple[int, TokenLogprob]] = []
        self._text_written = 0
        self._text_released = 0
        # Tokens of an earlier part of this choice: thinking that was cut at its budget.
        self._tokens_before = 0
        self._in_thoughts = False
        self.token_ids: list[TokenId] = []
        self.tokens = 0
        self.reasoning_tokens = 0
        self.cached_tokens = 0
        self.reason: FinishReason | None = None

    @property
    def over_budget(self) -> bool:
        """It still thinks, and has written all the tokens that it may think."""
        return (
            self._thinking_budget is not None
            and self._thinks
            and self.reason is None
            and self.reasoning_tokens >= self._thinking_budget
        )

    @property
    def _thinks(self) -> bool:
        return self._parser is not None and self._parser.thinking

    def feed(self, chunk: Chunk, events: list[Event]) -> None:
        """Append to `events` what `chunk` means."""
        if self.reason is not None or self.over_budget:
            return
        written = self._tokens_before + chunk.tokens
        ids = self._ids(chunk, written - self.tokens) if self._wants_ids else ()
        self.tokens = written
        if chunk.cached_tokens > self.cached_tokens and not self._tokens_before:
            self.cached_tokens = chunk.cached_tokens
        if self._thinking_budget is not None:
            self.token_ids += ids
        self._text_written += len(chunk.text)
        if chunk.logprobs:
            self._held_logprobs.extend((self._text_written, entry) for entry in chunk.logprobs)
        self._read(chunk.text, ids, events)
        if self._stop.stopped:
            self._end(FinishReason.STOP, events)
        elif chunk.finish is not None:
            at_end = chunk.finish is EngineFinish.END_TOKEN
            self._end(FinishReason.STOP if at_end else FinishReason.LENGTH, events)
        else:
            self._check_limits(events)

    def force(self, text: str, ids: Iterable[TokenId], events: list[Event]) -> None:
        """Go on as if the model had written `text`, in the tokens `ids`. No stop reaches across it."""
        self._release(events)
        self._stop.begin()
        ids = list(ids)
        self.token_ids += ids
        self.tokens += len(ids)
        self.reasoning_tokens = self.tokens
        self._tokens_before = self.tokens
        self._thinking_budget = None
        self._in_thoughts = True
        if self._parser is not None:
            self._emit(self._parser.feed(text), (), events)

    def cut(self, events: list[Event]) -> None:
        """End it here, unless it has ended, as an answer that is too long."""
        if self.reason is None:
            self._end(FinishReason.LENGTH, events)

    def _check_limits(self, events: list[Event]) -> None:
        """What only we can see: enough calls, or an answer as long as it may be behind thinking of any length."""
        if self._parser is None:
            return
        if self._parser.ended:
            self._end(FinishReason.STOP, events)
        elif (
            self._answer_max is not None
            and self.reasoning_tokens
            and not self._parser.thinking
            and self.tokens - self.reasoning_tokens >= self._answer_max
        ):
            self._end(FinishReason.LENGTH, events)

    def _read(self, text: str, ids: Sequence[TokenId], events: list[Event]) -> None:
        """Say what `text` means, as far as no stop ends it or may."""
        parser, stop = self._parser, self._stop
        if parser is None:
            text = stop.feed(text, ids)
            self._text_released += len(text)
            self._say_text(text, events)
            return
        begins = parser.thinking
        if self._stop_spares_calls:
            pieces = self._read_around_calls(parser, text, ids)
        else:
            text = stop.feed(text, ids)
            self._text_released += len(text)
            pieces = parser.feed(text) if text else []
        self._in_thoughts = (begins or self._in_thoughts) and not any(
            isinstance(piece, Text | CallStart) for piece in pieces
        )
        if self._in_thoughts:
            # The tag that ends the thinking and the empty lines behind it are no part of the answer.
            self.reasoning_tokens = self.tokens
        self._emit(pieces, self._logprobs() if self._held_logprobs else (), events)

    def _read_around_calls(
        self, parser: OutputParser, text: str, ids: Sequence[TokenId]
    ) -> list[Piece]:
        """Look for stops in what is no call: in a call they would cut a file that it is to write, for one.

        The matcher comes before the parser, but only the parser knows calls: so a stop counts if the parser, having
        read all that comes before that stop, is not in a call; otherwise the matcher begins anew behind the call.
        """
        stop = self._stop
        pieces: list[Piece] = []
        while True:
            if parser.in_call:
                behind = parser.feed_call(text, pieces)
                self._text_released += len(text) - len(behind)
                if not behind:
                    return pieces
                text = behind
            seen = stop.held + text
            free = self._released(stop.feed(text, ids))
            pieces += parser.feed(free)
            if not parser.in_call:
                return pieces
            text = seen[len(free) :]
            stop.begin()

    def _released(self, text: str) -> str:
        self._text_released += len(text)
        return text

    def _release(self, events: list[Event]) -> None:
        """Say what was held back because it might have begun a stop."""
        held = self._released(self._stop.finish())
        if self._parser is None:
            self._say_text(held, events)
        elif held:
            self._emit(self._parser.feed(held), self._logprobs(), events)

    def _say_text(self, text: str, events: list[Event]) -> None:
        logprobs = self._logprobs() if self._held_logprobs else ()
        if text or logprobs:
            events.append(TextDelta(self._index, text, self.tokens, logprobs))

    def _end(self, reason: FinishReason, events: list[Event]) -> None:
        self._release(events)
        if self._parser is not None:
            self._emit(self._parser.finish(), (), events)
            if self._parser.calls and reason is FinishReason.STOP:
                reason = FinishReason.TOOL_CALLS
        self.reason = reason
        events.append(Finish(self._index, reason, self.tokens))

    def _emit(
        self, pieces: list[Piece], logprobs: tuple[TokenLogprob, ...], events: list[Event]
    ) -> None:
        """Log probabilities are those of the answer alone: with no answer among `pieces` they are dropped."""
        for piece in pieces:
            match piece:
                case Text(text):
                    events.append(TextDelta(self._index, text, self.tokens, logprobs))
                    logprobs = ()
                case Reasoning(text):
                    events.append(ReasoningDelta(self._index, text, self.tokens))
                case CallStart(call, name):
                    call_id = self._new_call_id()
                    events.append(ToolCallStart(self._index, call, call_id, name, self.tokens))
                case CallArguments(call, arguments):
                    events.append(ToolCallDelta(self._index, call, arguments, self.tokens))

    def _ids(self, chunk: Chunk, count: int) -> tuple[TokenId, ...]:
        """The token ids of a chunk. An engine leaves out those that end inside a character; they are spelled again."""
        if len(chunk.token_ids) == count:
            return chunk.token_ids
        return tuple(self._tokenizer.encode(chunk.text, specials=True))

    def _logprobs(self) -> tuple[TokenLogprob, ...]:
        """Those whose token's text has been released in full: what a stop text cuts off has none."""
        count = 0
        for end, _ in self._held_logprobs:
            if end > self._text_released:
                break
            count += 1
        ready = tuple(entry for _, entry in self._held_logprobs[:count])
        del self._held_logprobs[:count]
        return ready
