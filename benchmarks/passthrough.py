"""The yardstick: a gateway that checks nothing, knows nothing and forwards bytes, on the product's own foundations.

The same Granian server and event loop, the same HTTP client on the same Unix socket, with the product's connection
settings. A body is read, posted to the engine as it is, and the engine's bytes are the answer: whole from
`/answer`, piece by piece from `/stream`. No key, no id, no log, no parsing.
"""

import asyncio
import sys

import aiohttp
import msgspec
import uvloop
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from benchmarks.gateway import EngineAddress
from ownstudio.app.serve import listening


class PassthroughOptions(Struct, frozen=True):
    port: int
    engine: EngineAddress


class Passthrough:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        async with self._session.post("http://worker/completion", data=body) as response:
            if scope["path"] == "/answer":
                await self._answer(await response.read(), send)
            else:
                await self._stream(response, send)

    async def _answer(self, body: bytes, send: Send) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, response: aiohttp.ClientResponse, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for data in response.content.iter_any():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _serve(options: PassthroughOptions) -> None:
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(options.engine.socket_path, limit=0, force_close=True),
            headers={
                "Authorization": f"Bearer {options.engine.key}",
                "Content-Type": "application/json",
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session,
        listening(Passthrough(session), "127.0.0.1", options.port),
    ):
        await asyncio.Event().wait()


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=PassthroughOptions)
    uvloop.run(_serve(options))


if __name__ == "__main__":
    main()
