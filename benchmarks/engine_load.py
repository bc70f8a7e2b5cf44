"""The same request in both forms: as a client sends it to Ownstudio, and as Ownstudio sends it to its engine.

The second form is not made here: a gateway around the double is asked, and the double is asked what reached it. So the
engine is called directly with the very bytes that the product would send: same token ids, same sampling.
"""

import json

import msgspec
from msgspec import Struct

from benchmarks.client import Connection, Target, ask_once
from benchmarks.processes import Gateway, gateway

_SENTENCE = "The river rises in the hills, turns past the mill and reaches the old town by noon. "


class Ask(Struct, frozen=True):
    """One chat request: the body for the gateway, the body for the engine."""

    studio: bytes
    engine: bytes


async def both_forms(
    bodies: list[bytes], *, slots: int, context: int, endless: bool = False
) -> list[Ask]:
    """What a gateway with so many slots of so many tokens makes of each body; `endless` as in GatewayOptions."""
    with gateway(gap_s=0.0, slots=slots, context=context, endless=endless) as studio:
        return await recorded(studio, bodies)


async def recorded(studio: Gateway, bodies: list[bytes]) -> list[Ask]:
    """Each body with what `studio`, a gateway around the double, makes of it."""
    engine = studio.engine_target
    record = Target(path="/recorded", socket_path=engine.socket_path, key=engine.key)
    connection = await Connection.open(studio.target)
    asks = []
    for body in bodies:
        await connection.ask(studio.target.request(body))
        asks.append(Ask(body, (await ask_once(record, record.request(b""))).raw))
    connection.close()
    return asks


def chat_body(text: str, *, tokens: int, stream: bool) -> bytes:
    """A greedy chat request; a stream ends with its usage."""
    return json.dumps(
        {
            "model": "qwen-plus",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": text},
            ],
            "temperature": 0,
            "max_tokens": tokens,
            "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        }
    ).encode()


def fresh_text(number: int, sentences: int) -> str:
    """A text that no cache knows beyond its chat prefix: it begins with `number`, the rest is always the same."""
    return f"{number:08d} " + _SENTENCE * sentences


class _Usage(Struct):
    completion_tokens: int


class _UsageChunk(Struct):
    usage: _Usage | None = None


class _EngineEvent(Struct):
    stop: bool
    tokens_predicted: int


def studio_tokens(stream: bytes) -> int:
    """How many tokens an answer of the gateway says that it has."""
    for event in reversed(_events(stream)):
        if event != b"[DONE]":
            usage = msgspec.json.decode(event, type=_UsageChunk).usage
            if usage is not None:
                return usage.completion_tokens
    raise ValueError("a stream without usage")


def engine_tokens(stream: bytes) -> int:
    """How many tokens an answer of the engine says that it has, its end token included."""
    last = msgspec.json.decode(_events(stream)[-1], type=_EngineEvent)
    if not last.stop:
        raise ValueError("a stream without its last event")
    return last.tokens_predicted


def _events(stream: bytes) -> list[bytes]:
    return [block[6:] for block in stream.split(b"\n\n") if block.startswith(b"data: ")]
