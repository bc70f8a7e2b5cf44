"""Answers of the OpenAI dialect, streamed: what chat and text completions have in common.

Each endpoint says what its chunks look like, as dicts. The encoder asks for one example of a chunk, with
a hole where the text goes, and afterwards writes only bytes around the text, be it an answer's or a
thought's; chunks that are rare or carry log probabilities are encoded whole. A stream that failed ends
with its error and without `[DONE]`: OpenAI's own clients raise at the error, and others must not take the
answer for complete.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ownstudio.core.errors import StudioError
from ownstudio.core.events import (
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from ownstudio.dialects.answer_json import Json, one_line, prompt_details
from ownstudio.dialects.openai_errors import error_body

DONE = b"data: [DONE]\n\n"

# A text that no chunk holds elsewhere, and its JSON.
_HOLE = "\0"
_HOLE_JSON = rb'"\u0000"'

# What stands before and after the text of a chunk.
_Around = tuple[bytes, bytes]

_encode = msgspec.json.Encoder().encode


class Chunks(Protocol):
    """What the chunks of one endpoint hold, for one answer."""

    def opening(self, choice: int) -> Json | None:
        """What a choice begins with, if anything."""
        ...

    def delta(self, choice: int, text: str, logprobs: Json | None) -> Json: ...

    def logprobs(self, choice: int, tokens: Sequence[TokenLogprob]) -> Json:
        """The tokens of one delta; they come in order, each once."""
        ...

    def reasoning(self, choice: int, text: str) -> Json: ...

    def tool_call(self, event: ToolCallStart | ToolCallDelta) -> Json: ...

    def finish(self, choice: int, reason: FinishReason) -> Json: ...

    def usage(self, usage: Usage) -> Json: ...


class StreamEncoder:
    """Writes one stream. `feed` may return no bytes: then there is nothing to send yet.

    `finish` raises ValueError when no `Done` was fed.
    """

    def __init__(
        self,
        chunks: Chunks,
        *,
        scored: bool,
        include_usage: bool,
        request_id: str,
        id_prefix: str,
    ) -> None:
        self._chunks = chunks
        self._scored = scored
        self._include_usage = include_usage
        self._request_id = request_id
        self._id_prefix = id_prefix
        self._around_text: dict[int, _Around] = {}
        self._around_reasoning: dict[int, _Around] = {}
        self._usage: Usage | None = None

    def feed(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta):
                around = self._around_text.get(event.choice) or self._open(event.choice, out)
                if self._scored and event.logprobs:
                    logprobs = self._chunks.logprobs(event.choice, event.logprobs)
                    out.append(frame(self._chunks.delta(event.choice, event.text, logprobs)))
                elif event.text:
                    out += (around[0], one_line(_encode(event.text)), around[1])
            elif isinstance(event, ReasoningDelta):
                around = self._around_reasoning.get(event.choice) or self._think(event.choice, out)
                if event.text:
                    out += (around[0], one_line(_encode(event.text)), around[1])
            elif isinstance(event, ToolCallDelta | ToolCallStart | Finish):
                if event.choice not in self._around_text:
                    self._open(event.choice, out)
                out.append(frame(self._whole(event)))
            elif isinstance(event, Done):
                self._usage = event.usage
        return b"".join(out)

    def _whole(self, event: ToolCallDelta | ToolCallStart | Finish) -> Json:
        if isinstance(event, Finish):
            return self._chunks.finish(event.choice, event.reason)
        return self._chunks.tool_call(event)

    def finish(self) -> bytes:
        if self._usage is None:
            raise ValueError("the stream ended before its generation did")
        if not self._include_usage:
            return DONE
        return frame(self._chunks.usage(self._usage)) + DONE

    def error(self, error: StudioError) -> bytes:
        return _framed(error_body(error, self._request_id, self._id_prefix))

    def _open(self, choice: int, out: list[bytes]) -> _Around:
        """Begin a choice; the bytes before and after the text of each of its deltas."""
        opening = self._chunks.opening(choice)
        if opening is not None:
            out.append(frame(opening))
        around = self._around_text[choice] = _around(self._chunks.delta(choice, _HOLE, None))
        return around

    def _think(self, choice: int, out: list[bytes]) -> _Around:
        """The same for what a choice thinks, before, between or after its answer."""
        if choice not in self._around_text:
            self._open(choice, out)
        around = self._around_reasoning[choice] = _around(self._chunks.reasoning(choice, _HOLE))
        return around


def _around(chunk: Json) -> _Around:
    head, tail = frame(chunk).split(_HOLE_JSON)
    return head, tail


def frame(chunk: Json) -> bytes:
    return _framed(_encode(chunk))


def _framed(json: bytes) -> bytes:
    return b"data: " + one_line(json) + b"\n\n"


def usage_json(usage: Usage) -> Json:
    json: Json = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt_details(usage),
    }
    if usage.reasoning_tokens:
        json["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return json
