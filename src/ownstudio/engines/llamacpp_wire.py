"""What is said to llama.cpp's `POST /completion` and what its events mean. Pure: bytes and values only.

Four habits of that server are undone here:

* Its end token counts among the predicted tokens and comes as an event without text, just before the last event of
  its choice. An event without text is therefore held until the next one tells whether it was the end.
* A token that ends inside a character is not sent, nor are its log probabilities; the text comes whole with the token
  that completes the character. Counts are taken from the server's own, never from the ids that were seen.
* It looks for a hang-up when it has something to send, or once a second. It is asked to report the progress of the
  prefill, so that it looks after every batch; the reports carry a made-up token, and how much was cached.
* Each value that a body leaves out takes a default that no client asked for. Every one is sent.
"""

import math
from secrets import randbelow

import msgspec
from msgspec import Struct

from ownstudio.core.events import TokenId, TokenLogprob, TopLogprob
from ownstudio.core.request import EngineRequest, Sampling
from ownstudio.engines.base import Chunk, EngineFacts, EngineFinish

CHOICES_MAX = 16
_INT32_MAX = 2**31 - 1
_TOP_LOGPROBS_MAX = 100
# Choice i is drawn with seed + i, and llama.cpp takes 2^32 - 1 for "no seed": this prime keeps all below it.
_SEEDS = 2**32 - 17
_MIN_P_FULL_VOCABULARY = 1e-10


class GrammarTrigger(Struct):
    """The text from which on a lazy grammar holds. The type is llama.cpp's number for a word."""

    value: str
    type: int = 1


class CompletionBody(Struct):
    """The fields of llama.cpp's request, under its names."""

    prompt: list[TokenId]
    n_predict: int
    n_cmpl: int
    seed: int
    samplers: list[str]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    n_probs: int
    stream: bool = True
    return_tokens: bool = True
    cache_prompt: bool = True
    return_progress: bool = (
        True  # see above; it also tells the cached prefix before the first token
    )
    grammar: str = ""
    grammar_lazy: bool = False
    grammar_triggers: tuple[GrammarTrigger, ...] = ()
    preserved_tokens: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    dynatemp_range: float = 0.0
    dry_multiplier: float = 0.0
    mirostat: int = 0
    ignore_eos: bool = False
    response_fields: tuple[str, ...] = (
        # The last event of a choice would otherwise repeat the prompt and all settings.
        "index", "content", "tokens", "stop", "stop_type", "tokens_predicted", "timings/cache_n",
    )  # fmt: skip


_encoder = msgspec.json.Encoder()


def encode_request(request: EngineRequest, facts: EngineFacts) -> bytes:
    """The body for one request. Raises ValueError for a number that must not reach native code."""
    check(request, facts)
    sampling = request.sampling
    greedy = sampling.temperature == 0
    body = CompletionBody(
        prompt=request.token_ids,
        n_predict=request.max_tokens,
        n_cmpl=request.n,
        seed=engine_seed(sampling.seed),
        samplers=samplers(sampling),
        temperature=sampling.temperature,
        top_k=1 if greedy else sampling.top_k,
        top_p=sampling.top_p,
        min_p=_MIN_P_FULL_VOCABULARY,
        repeat_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repeat_last_n=facts.context if _penalises(sampling) else 0,
        n_probs=0 if request.top_logprobs is None else max(request.top_logprobs, 1),
        grammar=request.grammar,
        grammar_lazy=bool(request.grammar_trigger),
        grammar_triggers=(
            (GrammarTrigger(request.grammar_trigger),) if request.grammar_trigger else ()
        ),
        # A trigger that is one token is refused unless it is among these.
        preserved_tokens=(request.grammar_trigger,) if request.grammar_trigger else (),
    )
    return _encoder.encode(body)


def samplers(sampling: Sampling) -> list[str]:
    """The samplers in their order: the distribution of penalties, temperature, top_k, top_p, sooner.

    Temperature does not change which tokens are the `top_k` strongest, so it comes after them and touches only
    these. Greedy choice is the strongest token after penalties. Where `top_k` is off, llama.cpp would sort
    and sum the whole vocabulary for each token; first, tokens with less than 10^-10 of the strongest one's
    probability go: together less than one draw in 60,000 even if all 151,936 of Qwen's were that strong.
    """
    first = ["penalties"] if _penalises(sampling) else []
    if sampling.temperature == 0:
        return [*first, "top_k"]
    if sampling.top_k == 0:
        return [*first, "temperature", "min_p", "top_p"]
    return [*first, "top_k", "temperature", "top_p"]


def engine_seed(seed: int | None) -> int:
    """A seed in the engine's 32 bits: itself below 2^32 - 17, else its remainder; a random one for None."""
    return randbelow(_SEEDS) if seed is None else seed % _SEEDS


def check(request: EngineRequest, facts: EngineFacts) -> None:
    """Raise ValueError, naming the number, unless native code can take the request."""
    sampling = request.sampling
    choices_max = min(facts.slots, CHOICES_MAX)
    valid = {
        "token_ids": bool(request.token_ids)
        and min(request.token_ids) >= 0
        and max(request.token_ids) <= _INT32_MAX,
        "max_tokens": 1 <= request.max_tokens <= _INT32_MAX,
        "n": 1 <= request.n <= choices_max,
        "top_logprobs": request.top_logprobs is None
        or 0 <= request.top_logprobs <= _TOP_LOGPROBS_MAX,
        "temperature": 0 <= sampling.temperature <= 100,
        "top_p": 0 < sampling.top_p <= 1,
        "top_k": 0 <= sampling.top_k <= _INT32_MAX,
        "repetition_penalty": 0 < sampling.repetition_penalty <= 100,
        "presence_penalty": math.isfinite(sampling.presence_penalty),
        "frequency_penalty": math.isfinite(sampling.frequency_penalty),
        "seed": sampling.seed is None or sampling.seed >= 0,
    }
    wrong = [name for name, is_valid in valid.items() if not is_valid]
    if wrong:
        raise ValueError(f"out of the engine's range: {', '.join(wrong)}")


def _penalises(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
    )


class _Token(Struct):
    token: str
    bytes: tuple[int, ...]
    logprob: float


class _TokenProbability(_Token):
    top_logprobs: tuple[_Token, ...] = ()


class ErrorBody(Struct):
    code: int = 500
    message: str = ""


class PromptProgress(Struct):
    """How much of the prompt was taken from the KV cache. Its events say nothing else that is true."""

    cache: int = 0


class CompletionEvent(Struct):
    """The fields that we read of one event; `stop` marks the last one of its choice."""

    index: int = 0
    content: str = ""
    tokens: tuple[TokenId, ...] = ()
    tokens_predicted: int = 0
    stop: bool = False
    stop_type: str = ""
    cached_tokens: int = msgspec.field(default=0, name="timings/cache_n")
    completion_probabilities: tuple[_TokenProbability, ...] = ()
    prompt_progress: PromptProgress | None = None
    error: ErrorBody | None = None


class ErrorAnswer(Struct):
    error: ErrorBody


_event_decoder = msgspec.json.Decoder(CompletionEvent)
_error_decoder = msgspec.json.Decoder(ErrorAnswer)


def decode_event(data: bytes) -> CompletionEvent:
    """Raises msgspec.MsgspecError for what is not an event."""
    return _event_decoder.decode(data)


def decode_error(data: bytes) -> ErrorBody:
    """What a refusal says; something generic where it says nothing readable."""
    try:
        return _error_decoder.decode(data).error
    except msgspec.MsgspecError:
        return ErrorBody(message="the engine gave no reason")


class ChoiceReader:
    """Turns the events of one request into chunks, choice by choice.

    `open_choices` is how many have not ended; a stream that ends before it is 0 has broken off. `started` tells whether
    anything has come at all.
    """

    def __init__(self, request: EngineRequest) -> None:
        self._with_top = bool(request.top_logprobs)
        self.started = False
        self._open = set(range(request.n))
        self._held: dict[int, Chunk] = {}
        self._cached: dict[int, int] = {}

    @property
    def open_choices(self) -> int:
        return len(self._open)

    def feed(self, event: CompletionEvent) -> list[Chunk]:
        """The chunks that `event` makes certain. Raises ValueError for a choice that is not open."""
        if event.index not in self._open:
            raise ValueError(f"an event for choice {event.index}, which is not open")
        if event.prompt_progress is not None:
            self._cached[event.index] = event.prompt_progress.cache
            return []
        self.started = True
        held = self._held.pop(event.index, None)
        if event.stop:
            return self._finish(event, held)
        chunk = Chunk(
            choice=event.index,
            text=event.content,
            token_ids=event.tokens,
            tokens=event.tokens_predicted,
            logprobs=self._logprobs(event),
            cached_tokens=self._cached.get(event.index, 0),
        )
        if not event.content:
            self._held[event.index] = chunk
            return [] if held is None else [held]
        return [chunk] if held is None else [held, chunk]

    def _finish(self, event: CompletionEvent, held: Chunk | None) -> list[Chunk]:
        self._open.discard(event.index)
        ended = event.stop_type == "eos"
        last = Chunk(
            choice=event.index,
            text=event.content,
            token_ids=event.tokens,
            tokens=event.tokens_predicted - ended,
            finish=EngineFinish.END_TOKEN if ended else EngineFinish.LIMIT,
            cached_tokens=event.cached_tokens,
        )
        # What is held before an end by the end token is that token.
        return [last] if held is None or ended else [held, last]

    def _logprobs(self, event: CompletionEvent) -> tuple[TokenLogprob, ...]:
        return tuple(
            TokenLogprob(
                token=entry.token,
                bytes=entry.bytes,
                logprob=entry.logprob,
                top=tuple(
                    TopLogprob(token=rival.token, bytes=rival.bytes, logprob=rival.logprob)
                    for rival in entry.top_logprobs
                )
                if self._with_top
                else (),
            )
            for entry in event.completion_probabilities
        )
