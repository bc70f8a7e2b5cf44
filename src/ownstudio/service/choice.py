"""One choice of an answer: engine chunks in, events out, the client's stop conditions in between."""

from ownstudio.core.events import Event, Finish, FinishReason, TextDelta, TokenId, TokenLogprob
from ownstudio.core.request import Stop
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.qwen.stop import StopMatcher
from ownstudio.qwen.tokenizer import Tokenizer


class Choice:
    """Follows one choice to its end. After that it ignores what the engine still writes."""

    def __init__(self, index: int, stop: Stop, tokenizer: Tokenizer) -> None:
        self._index = index
        self._stop = StopMatcher(stop)
        self._wants_ids = bool(stop.token_ids)
        self._tokenizer = tokenizer
        self._held_logprobs: list[tuple[int, TokenLogprob]] = []
        self._text_written = 0
        self._text_released = 0
        self.tokens = 0
        self.cached_tokens = 0
        self.reason: FinishReason | None = None

    def feed(self, chunk: Chunk, events: list[Event]) -> None:
        """Append to `events` what `chunk` means."""
        if self.reason is not None:
            return
        text = self._stop.feed(chunk.text, self._ids(chunk) if self._wants_ids else ())
        self.tokens = chunk.tokens
        self.cached_tokens = max(self.cached_tokens, chunk.cached_tokens)
        if self._stop.stopped:
            self.reason = FinishReason.STOP
        elif chunk.finish is not None:
            text += self._stop.finish()
            at_end = chunk.finish is EngineFinish.END_TOKEN
            self.reason = FinishReason.STOP if at_end else FinishReason.LENGTH
        logprobs = self._logprobs(chunk, text) if chunk.logprobs or self._held_logprobs else ()
        if text or logprobs:
            events.append(TextDelta(self._index, text, self.tokens, logprobs))
        if self.reason is not None:
            events.append(Finish(self._index, self.reason, self.tokens))

    def _ids(self, chunk: Chunk) -> tuple[TokenId, ...]:
        """The token ids of a chunk. An engine leaves out those that end inside a character; they are spelled again."""
        if len(chunk.token_ids) == chunk.tokens - self.tokens:
            return chunk.token_ids
        return tuple(self._tokenizer.encode(chunk.text, specials=False))

    def _logprobs(self, chunk: Chunk, released: str) -> tuple[TokenLogprob, ...]:
        """Those whose token's text has been released in full: what a stop text cuts off has none."""
        self._text_written += len(chunk.text)
        self._text_released += len(released)
        self._held_logprobs.extend((self._text_written, entry) for entry in chunk.logprobs)
        count = 0
        for end, _ in self._held_logprobs:
            if end > self._text_released:
                break
            count += 1
        ready = tuple(entry for _, entry in self._held_logprobs[:count])
        del self._held_logprobs[:count]
        return ready
