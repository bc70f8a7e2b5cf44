"""A stand-in for llama.cpp's server that computes nothing: the same bytes on the wire, at a pace of our choice.

Run by the gateway in place of its worker (`python -m benchmarks.double OPTIONS`, with OPTIONS a JSON object of the
fields of `DoubleOptions`), and like that worker it prints READY when it answers and ends with its standard input.

It answers `POST /completion` with one event per token, framed as cpp-httplib does, and `POST /v1/chat/completions`, for
gateways that speak only OpenAI's dialect, with one JSON body. Neither looks at the request beyond its token limit.
`POST /recorded` answers the last completion's body, to learn what a gateway sends its engine.
All streams that are open write their next token at the same tick: that is how continuous batching
writes, so every stream wakes its reader once per token.
"""

import asyncio
import json
import os
import re
import sys
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

TOKENS_MAX = 4096
_LIMIT = re.compile(rb'"(?:n_predict|max_tokens)":\s*(\d+)')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_WORDS = (" the", " river", " runs", " through", " a", " quiet", " valley", ",")

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nX-Accel-Buffering: no\r\n"
    b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
)
_STREAM_END = b"0\r\n\r\n"


class DoubleOptions(Struct, frozen=True):
    """`gap_s` is the time from token to token; at 0 an answer is written at once. `core` is the CPU to run on.

    With `tcp_port` it listens on that port of the loopback interface too.
    """

    socket_path: str
    context: int
    slots: int
    gap_s: float = 0.0
    core: int | None = None
    tcp_port: int | None = None


def _chunk(event: dict[str, object]) -> bytes:
    data = b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _token(number: int) -> bytes:
    word = _WORDS[number % len(_WORDS)]
    return _chunk(
        {
            "index": 0,
            "content": word,
            "tokens": [1000 + number],
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": number + 1,
            "tokens_evaluated": 32,
        }
    )


def _last(tokens: int) -> bytes:
    return _chunk(
        {
            "index": 0,
            "content": "",
            "tokens": [],
            "stop": True,
            "stop_type": "limit",
            "tokens_predicted": tokens,
            "timings/cache_n": 0,
        }
    )


_PROGRESS = _chunk(
    {
        "index": 0,
        "content": "",
        "tokens": [0],
        "stop": False,
        "id_slot": -1,
        "tokens_predicted": 0,
        "tokens_evaluated": 32,
        "prompt_progress": {"total": 32, "cache": 0, "processed": 32, "time_ms": 1},
    }
)
_TOKENS = [_token(number) for number in range(TOKENS_MAX)]


def json_answer(body: bytes) -> bytes:
    """An HTTP answer around a JSON body."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def openai_answer(tokens: int) -> bytes:
    """A whole answer in OpenAI's dialect, with its HTTP head."""
    text = "".join(_WORDS[number % len(_WORDS)] for number in range(tokens))
    body = json.dumps(
        {
            "id": "chatcmpl-double",
            "object": "chat.completion",
            "created": 1,
            "model": "double",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "length",
                }
            ],
            "usage": {
                "prompt_tokens": 32,
                "completion_tokens": tokens,
                "total_tokens": 32 + tokens,
            },
        }
    ).encode()
    return json_answer(body)


class Pace:
    """Writes the first token at once, then the next of every open stream at each tick.

    `recorded` is the body of the last request that began a stream.
    """

    def __init__(self, gap_s: float) -> None:
        self.gap_s = gap_s
        self.recorded = b""
        self._open: dict[Connection, int] = {}

    def begin(self, connection: "Connection", body: bytes, tokens: int) -> None:
        self.recorded = body
        head = _STREAM_HEAD + _PROGRESS if b'"return_progress":true' in body else _STREAM_HEAD
        if self.gap_s == 0:
            connection.write(b"".join([head, *_TOKENS[:tokens], _last(tokens), _STREAM_END]))
            connection.close()
            return
        connection.write(head + _TOKENS[0])
        connection.tokens = tokens
        self._open[connection] = 1

    def forget(self, connection: "Connection") -> None:
        self._open.pop(connection, None)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self.gap_s, loop.time())
            await asyncio.sleep(due - loop.time())
            for connection, written in list(self._open.items()):
                if written < connection.tokens:
                    connection.write(_TOKENS[written])
                    self._open[connection] = written + 1
                else:
                    connection.write(_last(written) + _STREAM_END)
                    connection.close()
                    self.forget(connection)


class Connection(asyncio.Protocol):
    """One connection of a client that sends whole requests, one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._received = b""
        self._transport: asyncio.Transport
        self.tokens = 0

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        """llama.cpp closes after each stream."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pace.forget(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head)
        if length is None or len(rest) < int(length[1]):
            return
        self._received = b""
        limit = _LIMIT.search(rest)
        tokens = min(int(limit[1]) if limit else 16, TOKENS_MAX)
        if head.startswith(b"POST /completion "):
            self._pace.begin(self, rest, tokens)
        elif head.startswith(b"POST /recorded "):
            self.write(json_answer(self._pace.recorded))
        else:
            self.write(openai_answer(tokens))


async def _serve(options: DoubleOptions) -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(options.gap_s)
    await loop.create_unix_server(lambda: Connection(pace), options.socket_path, backlog=1024)
    if options.tcp_port is not None:
        await loop.create_server(
            lambda: Connection(pace), "127.0.0.1", options.tcp_port, backlog=1024
        )
    facts = {"context": options.context, "slots": options.slots}
    print(f"READY {json.dumps(facts)}", flush=True)
    ended = asyncio.Event()

    def read_standard_input() -> None:
        if not os.read(0, 4096):
            ended.set()

    loop.add_reader(0, read_standard_input)
    if options.gap_s:
        pacing = loop.create_task(pace.run())
        await ended.wait()
        pacing.cancel()
    else:
        await ended.wait()


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=DoubleOptions)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    uvloop.run(_serve(options))


if __name__ == "__main__":
    main()
