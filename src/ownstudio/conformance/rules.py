"""What no shape can say: how events follow each other, and how numbers and ids belong together.

A rule yields a sentence for each difference. Rules look at what shapes have cleared, but must not fail on what they
have not: a value that is not there is the shape's to tell.
"""

import json
import re
from collections.abc import Iterator
from itertools import pairwise

from ownstudio.conformance.case import Answer, Frame
from ownstudio.conformance.shapes import Shape


def value_at(data: object, *path: str | int) -> object:
    """The value at a path, or None where there is none."""
    for step in path:
        if isinstance(data, dict) and isinstance(step, str):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and -len(data) <= step < len(data):
            data = data[step]
        else:
            return None
    return data


def whole(answer: Answer) -> object:
    try:
        held: object = json.loads(answer.body)
    except ValueError:
        return None
    return held


def one_request_id(answer: Answer, frames: list[Frame]) -> Iterator[str]:
    """The header and every body name the same request."""
    header = answer.headers.get("x-request-id")
    if not header:
        yield "header x-request-id: missing"
        return
    for data in [frame.data for frame in frames] or [whole(answer)]:
        for name in ("request_id", "id"):
            told = value_at(data, name)
            if isinstance(told, str) and not told.endswith(header):
                yield f"{name}: expected the header's {header}, got {told}"
                return


def json_type(answer: Answer, _: list[Frame]) -> Iterator[str]:
    if not answer.headers.get("content-type", "").startswith("application/json"):
        yield f"content-type: expected application/json, got {answer.headers.get('content-type')}"


def event_stream_type(answer: Answer, _: list[Frame]) -> Iterator[str]:
    kind = answer.headers.get("content-type", "")
    if "text/event-stream" not in kind:
        yield f"content-type: expected text/event-stream, got {kind}"


def usage_adds_up(answer: Answer, frames: list[Frame]) -> Iterator[str]:
    """Input and output make the total, in either dialect's words."""
    for data in [frame.data for frame in frames] or [whole(answer)]:
        usage = value_at(data, "usage")
        for given, made in (
            ("input_tokens", "output_tokens"),
            ("prompt_tokens", "completion_tokens"),
        ):
            counts = [value_at(usage, name) for name in (given, made, "total_tokens")]
            numbers = [count for count in counts if isinstance(count, int)]
            if len(numbers) == len(counts) and numbers[0] + numbers[1] != numbers[2]:
                yield f"usage: {given} {numbers[0]} and {made} {numbers[1]} do not make {numbers[2]}"
                return


# The native dialect's streams.


def native_frames(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """`id:N`, `event:result`, `:HTTP_STATUS/200` and one line of data, no spaces, numbered from 1."""
    if not frames:
        yield "the stream has no events"
    for number, frame in enumerate(frames, 1):
        expected = (f"id:{number}", "event:result", ":HTTP_STATUS/200")
        if frame.head != expected:
            yield f"event {number}: expected the lines {expected}, got {frame.head}"
            return
        if not frame.raw.startswith("data:{"):
            yield f"event {number}: expected data:{{…}} on one line, got {frame.raw[:40]!r}"
            return


def _native_texts(frames: list[Frame]) -> list[str]:
    texts = []
    for frame in frames:
        text = value_at(frame.data, "output", "text")
        if text is None:
            text = value_at(frame.data, "output", "choices", 0, "message", "content")
        if isinstance(text, list):
            text = "".join(str(value_at(part, "text")) for part in text)
        texts.append(text if isinstance(text, str) else "")
    return texts


def _native_reason(frame: Frame) -> object:
    reason = value_at(frame.data, "output", "finish_reason")
    return reason or value_at(frame.data, "output", "choices", 0, "finish_reason")


def native_reasons(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """The text "null" until the last event, which has the reason."""
    for number, frame in enumerate(frames[:-1], 1):
        if _native_reason(frame) != "null":
            yield f'event {number}: expected finish_reason "null", got {_native_reason(frame)!r}'
            return
    if frames and _native_reason(frames[-1]) in (None, "null"):
        yield f"the last event: expected a finish_reason, got {_native_reason(frames[-1])!r}"


def cumulative(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """Each event repeats what was said before it."""
    texts = _native_texts(frames)
    for number, (earlier, later) in enumerate(pairwise(texts), 2):
        if not later.startswith(earlier):
            yield f"event {number}: expected {earlier!r} and more, got {later!r}"
            return


def incremental(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """Each event has new text alone, the last one none."""
    texts = _native_texts(frames)
    if texts and texts[-1]:
        yield f"the last event: expected no text, got {texts[-1]!r}"
    spoken = [text for text in texts if text]
    if len(spoken) > 2 and all(
        later.startswith(earlier) and later != earlier for earlier, later in pairwise(spoken)
    ):
        yield "the events repeat what was said before"


def running_usage(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """Every event has a usage, and its output only grows."""
    written = 0
    for number, frame in enumerate(frames, 1):
        count = value_at(frame.data, "usage", "output_tokens")
        if not isinstance(count, int) or count < written:
            yield f"event {number}: expected usage.output_tokens of {written} or more, got {count!r}"
            return
        written = count


NATIVE_STREAM = (
    event_stream_type,
    native_frames,
    native_reasons,
    running_usage,
    usage_adds_up,
    one_request_id,
)


# The OpenAI dialect's streams.


def openai_frames(answer: Answer, frames: list[Frame]) -> Iterator[str]:
    """`data: ` with a space, nothing else, and `[DONE]` at the end."""
    lines = [line for line in answer.body.decode("utf-8", "replace").split("\n") if line]
    odd = [line for line in lines if not line.startswith(("data: ", ":"))]
    if odd:
        yield f"expected lines that begin with 'data: ', got {odd[0][:40]!r}"
    if not lines or lines[-1] != "data: [DONE]":
        yield "expected 'data: [DONE]' at the end"
    if not frames:
        yield "the stream has no events"


def openai_deltas(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """A role first, then pieces, and a reason with the last choice alone; one id throughout."""
    with_choices = [frame.data for frame in frames if value_at(frame.data, "choices")]
    if with_choices and value_at(with_choices[0], "choices", 0, "delta", "role") != "assistant":
        yield "the first chunk: expected a delta with the role assistant"
    reasons = [value_at(data, "choices", 0, "finish_reason") for data in with_choices]
    if any(reason is not None for reason in reasons[:-1]):
        yield "expected no finish_reason before the last chunk with choices"
    if reasons and reasons[-1] is None:
        yield "the last chunk with choices: expected a finish_reason, got null"
    for name in ("id", "created", "model"):
        if len({json.dumps(value_at(frame.data, name)) for frame in frames}) > 1:
            yield f"{name}: expected the same in every chunk"


def usage_at_the_end(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """One more chunk without choices has the usage, and no chunk before it has any."""
    if not frames or value_at(frames[-1].data, "choices") != []:
        yield "the last chunk: expected empty choices beside the usage"
    if frames and not isinstance(value_at(frames[-1].data, "usage"), dict):
        yield "the last chunk: expected a usage"
    if any(value_at(frame.data, "usage") is not None for frame in frames[:-1]):
        yield "expected no usage before the last chunk"


def no_usage(_: Answer, frames: list[Frame]) -> Iterator[str]:
    """Nobody asked: sample code takes `choices[0]` of every chunk."""
    if any(not value_at(frame.data, "choices") for frame in frames):
        yield "expected choices in every chunk"


OPENAI_STREAM = (event_stream_type, openai_frames, openai_deltas, usage_adds_up)


# Both dialects' errors.


class StreamRefusal:
    """A refused stream: plain JSON of a shape, or the same as the data of one event.

    The native service answers with an event, in the OpenAI dialect with a bare line of data; every client takes JSON.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def __call__(self, answer: Answer, _: list[Frame]) -> Iterator[str]:
        held = whole(answer)
        if held is None:
            found = re.search(
                r"^data: ?(.*)$", answer.body.decode("utf-8", "replace"), re.MULTILINE
            )
            try:
                held = json.loads(found[1]) if found else None
            except ValueError:
                held = None
        yield from self._shape.differences(held, "")
