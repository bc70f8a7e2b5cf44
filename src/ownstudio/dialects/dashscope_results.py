"""What a native answer holds: results, each with its `output` and its `usage`.

One result is a whole answer; a stream is a sequence of results. An incremental stream sends what is new,
a cumulative one everything so far, and in both each result carries the usage up to its own last token.
With several choices a result holds one of them, and its usage is that choice's own, which is what the
vendor's SDK adds up at the end. No key is ever null: the Java SDK fails on a null name. Where a request
thinks, each message has its `reasoning_content`, if only an empty one; else only what was thought unasked has.

A snapshot of a cumulative stream holds everything so far, log probabilities too. They outweigh the text by
far, so snapshots that hold some come less often; whoever wants each score at once asks for an incremental
stream. The last result is never held back.

Results are bytes: the JSON of both members without the braces around them, ready for whatever envelope. Most of a
stream is text, so an encoder asks once for an example with a hole where the text goes, and fills it.
"""

from collections.abc import Sequence

import msgspec

from ownstudio.core.events import (
    Choice,
    Completion,
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from ownstudio.core.request import ChatPrompt
from ownstudio.dialects import Call
from ownstudio.dialects.answer_json import Json, logprobs_json, prompt_details

# A choice that goes on has this for its reason, as text.
UNFINISHED = "null"

_USAGE = b'"total_tokens":%d,"output_tokens":%d,"input_tokens":%d,"prompt_tokens_details":%b'
_CACHED = b'{"cached_tokens":%d}'
_REASONING = b',"output_tokens_details":{"reasoning_tokens":%d}'

# A text that no result holds elsewhere, and its JSON.
_HOLE = msgspec.Raw(rb'"\u0000"')

# A cumulative stream repeats itself: a snapshot waits until the text has grown by one part in so many,
# so that the bytes sent stay within about as many times those of the answer.
SNAPSHOT_GROWTH = 256
# The same where tokens are scored, and the bytes that a token takes, and each of its rivals.
SCORED_SNAPSHOT_GROWTH = 8
SCORE_BYTES = 80

_encode = msgspec.json.Encoder().encode


class Form:
    """How the results of one call are written down."""

    def __init__(self, call: Call, *, list_content: bool) -> None:
        prompt = call.request.prompt
        self.as_text = call.result_format == "text"
        self.indexed = call.request.n > 1
        self.thinks = isinstance(prompt, ChatPrompt) and prompt.enable_thinking
        self._list_content = list_content

    def result(self, output: bytes, usage: Usage) -> bytes:
        counts = _USAGE % (
            usage.total_tokens,
            usage.completion_tokens,
            usage.prompt_tokens,
            _encode(prompt_details(usage))
            if usage.explicit_cache
            else _CACHED % usage.cached_tokens,
        )
        if self.thinks or usage.reasoning_tokens:
            counts += _REASONING % usage.reasoning_tokens
        return b'"output":%b,"usage":{%b}' % (output, counts)

    def choice(
        self,
        index: int,
        finish_reason: str,
        content: msgspec.Raw,
        reasoning: msgspec.Raw,
        tool_calls: list[Json],
        logprobs: Sequence[TokenLogprob],
    ) -> Json:
        message: Json = {"content": self._content(content)}
        if self.thinks or reasoning != _EMPTY:
            message["reasoning_content"] = reasoning
        if tool_calls:
            message["tool_calls"] = tool_calls
        message["role"] = "assistant"
        choice: Json = {"message": message, "finish_reason": finish_reason}
        if self.indexed:
            choice["index"] = index
        if logprobs:
            choice["logprobs"] = logprobs_json(logprobs)
        return choice

    def _content(self, text: msgspec.Raw) -> object:
        if not self._list_content:
            return text
        return [{"text": text}] if text != _EMPTY else []


def whole_result(completion: Completion, form: Form) -> bytes:
    """The result that a request without a stream gets."""
    if form.as_text:
        (only,) = completion.choices
        output: Json = {"finish_reason": only.finish_reason.value, "text": only.text}
    else:
        output = {"choices": [_whole_choice(choice, form) for choice in completion.choices]}
    return form.result(_encode(output), completion.usage)


def _whole_choice(choice: Choice, form: Form) -> Json:
    return form.choice(
        choice.index,
        choice.finish_reason.value,
        msgspec.Raw(_encode(choice.text)),
        msgspec.Raw(_encode(choice.reasoning)),
        [_call(place, call) for place, call in enumerate(choice.tool_calls)],
        choice.logprobs,
    )


def _call(index: int, call: ToolCall) -> Json:
    return {
        "function": {"name": call.name, "arguments": call.arguments},
        "index": index,
        "id": call.id,
        "type": "function",
    }


class ResultStream:
    """The results of one stream, from its events in any batches."""

    def __init__(self, call: Call, form: Form) -> None:
        self._form = form
        self._incremental = call.incremental
        self._drafts = [_Draft() for _ in range(call.request.n)]
        # What each result says of the prompt.
        self._prompt = Usage(0, 0)
        self._closing: list[int] = []
        self._usage: Usage | None = None
        self._around_text: dict[int, tuple[bytes, bytes]] = {}

    @property
    def done(self) -> bool:
        """Whether the generation has ended; if not, what ends here has failed."""
        return self._usage is not None

    def feed(self, events: Sequence[Event]) -> list[bytes]:
        results: list[bytes] = []
        grown: dict[int, None] = {}
        for event in events:
            match event:
                case Started():
                    self._prompt = Usage(
                        event.prompt_tokens,
                        0,
                        cached_tokens=event.cached_tokens,
                        cache_creation_tokens=event.cache_creation_tokens,
                        explicit_cache=event.explicit_cache,
                    )
                case Done():
                    self._usage = self._prompt = event.usage
                case Finish():
                    draft = self._drafts[event.choice]
                    draft.reason, draft.tokens = event.reason, event.tokens
                    self._closing.append(event.choice)
                case _:
                    draft = self._drafts[event.choice]
                    draft.add(event)
                    if self._incremental:
                        results += self._new(event)
                    else:
                        grown[event.choice] = None
        results += [
            self._snapshot(index)
            for index in grown
            if self._drafts[index].reason is None and self._drafts[index].is_worth_a_snapshot()
        ]
        # The last choice to end waits for the final count, which comes along.
        if self.done or any(draft.reason is None for draft in self._drafts):
            results += [self._last(index) for index in self._closing]
            self._closing.clear()
        return results

    def _new(
        self, event: TextDelta | ReasoningDelta | ToolCallStart | ToolCallDelta
    ) -> list[bytes]:
        """What an event adds, if it adds anything that can be said."""
        content, reasoning = _EMPTY, _EMPTY
        calls: list[Json] = []
        logprobs: Sequence[TokenLogprob] = ()
        match event:
            case TextDelta():
                content, logprobs = msgspec.Raw(_encode(event.text)), event.logprobs
                if not event.text and not logprobs:
                    return []
            case ReasoningDelta():
                reasoning = msgspec.Raw(_encode(event.text))
                if not event.text:
                    return []
            case ToolCallStart():
                calls = [_call(event.call, ToolCall(event.name, "", event.id))]
            case ToolCallDelta():
                calls = [_more_arguments(event.call, event.arguments)]
        return [self._result(event.choice, UNFINISHED, content, reasoning, calls, logprobs)]

    def _snapshot(self, index: int, reason: str = UNFINISHED) -> bytes:
        draft = self._drafts[index]
        draft.note_snapshot()
        calls = [_call(place, call) for place, call in draft.calls()]
        return self._result(
            index, reason, draft.text.raw(), draft.reasoning.raw(), calls, draft.logprobs
        )

    def _last(self, index: int) -> bytes:
        """The result that ends a choice: the whole of it once more, or nothing new but the reason."""
        draft = self._drafts[index]
        reason = (draft.reason or FinishReason.STOP).value
        if not self._incremental:
            return self._snapshot(index, reason)
        last_call = draft.last_call
        # The reason of a call stands beside a fragment of it.
        calls = [] if last_call is None else [_more_arguments(last_call, "")]
        return self._result(index, reason, _EMPTY, _EMPTY, calls, ())

    def _result(
        self,
        index: int,
        reason: str,
        content: msgspec.Raw,
        reasoning: msgspec.Raw,
        calls: list[Json],
        logprobs: Sequence[TokenLogprob],
    ) -> bytes:
        usage = self._usage_of(index, reason)
        if reason is UNFINISHED and not calls and not logprobs and reasoning is _EMPTY:
            around = self._around_text.get(index) or self._around(index)
            return self._form.result(b"".join((around[0], content, around[1])), usage)
        output = self._output(index, reason, content, reasoning, calls, logprobs)
        return self._form.result(_encode(output), usage)

    def _around(self, index: int) -> tuple[bytes, bytes]:
        """The bytes of an output before and after a text that is all it says."""
        output = self._output(index, UNFINISHED, _HOLE, _EMPTY, [], ())
        head, tail = _encode(output).split(bytes(_HOLE))
        self._around_text[index] = head, tail
        return head, tail

    def _output(
        self,
        index: int,
        reason: str,
        content: msgspec.Raw,
        reasoning: msgspec.Raw,
        calls: list[Json],
        logprobs: Sequence[TokenLogprob],
    ) -> Json:
        if self._form.as_text:
            return {"finish_reason": reason, "text": content}
        choice = self._form.choice(index, reason, content, reasoning, calls, logprobs)
        return {"choices": [choice]}

    def _usage_of(self, index: int, reason: str) -> Usage:
        if self._usage is not None and len(self._drafts) == 1 and reason != UNFINISHED:
            return self._usage
        draft = self._drafts[index]
        prompt = self._prompt
        return Usage(
            prompt.prompt_tokens,
            draft.tokens,
            prompt.cached_tokens,
            draft.reasoning_tokens,
            prompt.cache_creation_tokens,
            prompt.explicit_cache,
        )


class _Text:
    """A text that grows, kept as the inside of its JSON string: escapes never reach across a piece's end."""

    def __init__(self) -> None:
        self._inside = bytearray()

    def __len__(self) -> int:
        return len(self._inside)

    def add(self, text: str) -> None:
        self._inside += _encode(text)[1:-1]

    def raw(self) -> msgspec.Raw:
        if not self._inside:
            return _EMPTY
        return msgspec.Raw(b"".join((b'"', self._inside, b'"')))


class _Draft:
    """One choice while its events come in."""

    def __init__(self) -> None:
        self.text = _Text()
        self.reasoning = _Text()
        self.logprobs: list[TokenLogprob] = []
        self.tokens = 0
        self.reasoning_tokens = 0
        self.reason: FinishReason | None = None
        self.last_call: int | None = None
        self._starts: dict[int, ToolCallStart] = {}
        self._arguments: dict[int, list[str]] = {}
        self._size = 0
        self._size_sent = 0

    def add(self, event: TextDelta | ReasoningDelta | ToolCallStart | ToolCallDelta) -> None:
        self.tokens = event.tokens
        match event:
            case TextDelta():
                self.text.add(event.text)
                self.logprobs += event.logprobs
                scores = sum([1 + len(token.top) for token in event.logprobs])
                self._size += len(event.text) + SCORE_BYTES * scores
            case ReasoningDelta():
                self.reasoning.add(event.text)
                self.reasoning_tokens = event.tokens
                self._size += len(event.text)
            case ToolCallStart():
                self._starts[event.call] = event
                self._arguments[event.call] = []
                self.last_call = event.call
                self._size += len(event.name)
            case ToolCallDelta():
                self._arguments[event.call].append(event.arguments)
                self._size += len(event.arguments)

    def calls(self) -> list[tuple[int, ToolCall]]:
        return [
            (place, ToolCall(start.name, "".join(self._arguments[place]), start.id))
            for place, start in sorted(self._starts.items())
        ]

    def is_worth_a_snapshot(self) -> bool:
        grown = self._size - self._size_sent
        growth = SCORED_SNAPSHOT_GROWTH if self.logprobs else SNAPSHOT_GROWTH
        return grown > 0 and grown * growth >= self._size

    def note_snapshot(self) -> None:
        self._size_sent = self._size


_EMPTY = msgspec.Raw(b'""')


def _more_arguments(index: int, arguments: str) -> Json:
    """A later fragment of a call: no name, which clients would append, and no id, which they would replace."""
    return {"function": {"arguments": arguments}, "index": index, "id": "", "type": "function"}
