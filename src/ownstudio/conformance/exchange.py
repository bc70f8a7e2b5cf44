"""Sends a case and receives its answer: bounded in time and in bytes."""

import asyncio
import json

import aiohttp

from ownstudio.conformance.case import Answer, Case, Frame

ANSWER_S_MAX = 120.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
WRONG_KEY = "sk-this-key-does-not-exist"


class Unreachable(Exception):
    """Nothing answers at the address, or what does speaks no HTTP."""


class TooMuch(Exception):
    """An answer that does not end within its bounds."""


async def exchange(http: aiohttp.ClientSession, case: Case, body: bytes | None, key: str) -> Answer:
    """Raises Unreachable, TooMuch."""
    headers = {"content-type": "application/json", **case.headers}
    if case.key != "none":
        headers["authorization"] = f"Bearer {key if case.key == 'right' else WRONG_KEY}"
    try:
        async with (
            asyncio.timeout(ANSWER_S_MAX),
            http.request(
                case.method, case.path, data=body, headers=headers, allow_redirects=False
            ) as answer,
        ):
            pieces: list[bytes] = []
            size = 0
            async for piece in answer.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > ANSWER_BYTES_MAX:
                    raise TooMuch(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, names, b"".join(pieces))
    except TimeoutError:
        raise TooMuch(f"no whole answer within {ANSWER_S_MAX:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable(str(error) or type(error).__name__) from None


def frames(body: bytes) -> list[Frame]:
    """The events of a stream that have data. Comments, and the end mark of the OpenAI dialect, are none."""
    found: list[Frame] = []
    text = body.decode("utf-8", "replace").replace("\r\n", "\n")
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line]
        data = [line for line in lines if line.startswith("data:")]
        raw = "\n".join(data)
        if not data or raw.removeprefix("data:").strip() == "[DONE]":
            continue
        try:
            held = json.loads("\n".join(line.removeprefix("data:") for line in data))
        except ValueError:
            held = None
        found.append(Frame(tuple(line for line in lines if line not in data), held, raw))
    return found
