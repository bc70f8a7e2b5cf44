"""Drives one release of the vendor's Python SDK for the tests: a JSON object a line in, its outcome a line out.

Runs in that release's own environment, so it imports nothing but the SDK and the standard library. A line
in: {"do": NAME, "arguments": {…}}. A line out: {"told": [what the SDK returned, one by one]} or
{"raised": "TYPE: MESSAGE"}.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import dashscope
from dashscope import Generation, Models, MultiModalConversation, Tokenization
from dashscope.aigc.generation import AioGeneration

Json = dict[str, Any]

# The SDK logs what it refuses, which would mix with the test's own output.
logging.disable(logging.CRITICAL)


def listed(response: Any, stream: bool) -> list[Any]:
    return [plain(one) for one in response] if stream else [plain(response)]


def plain(response: Any) -> Any:
    """The response as JSON knows it: the older objects are dicts that print as JSON, the newer are models."""
    return json.loads(str(response)) if isinstance(response, dict) else response.model_dump()


def version() -> list[Any]:
    return [dashscope.version.__version__]


def setup(http: str, socket: str, key: str) -> list[Any]:
    dashscope.base_http_api_url = http
    dashscope.base_websocket_api_url = socket
    dashscope.api_key = key
    return []


def generation(**arguments: Any) -> list[Any]:
    return listed(Generation.call(**arguments), bool(arguments.get("stream")))


def aio_generation(**arguments: Any) -> list[Any]:
    async def call() -> list[Any]:
        response = await AioGeneration.call(**arguments)
        if arguments.get("stream"):
            return [plain(one) async for one in response]
        return [plain(response)]

    return asyncio.run(call())


def multimodal(**arguments: Any) -> list[Any]:
    return listed(MultiModalConversation.call(**arguments), bool(arguments.get("stream")))


def tokenization(**arguments: Any) -> list[Any]:
    return [plain(Tokenization.call(**arguments))]


def models_list(**arguments: Any) -> list[Any]:
    return [plain(Models.list(**arguments))]


def models_get(**arguments: Any) -> list[Any]:
    return [plain(Models.get(**arguments))]


def client(protocol: str = "native", **arguments: Any) -> list[Any]:
    """The 2.x surface."""
    base = dashscope.base_http_api_url
    if protocol == "openai":
        base = base.replace("/api/v1", "/compatible-mode/v1")
    made = dashscope.Client(
        api_key=dashscope.api_key, base_url=base, protocol=protocol, max_retries=0
    )
    response = made.chat.completions.create(**arguments)
    return listed(response, bool(arguments.get("stream")))


def client_models(**arguments: Any) -> list[Any]:
    made = dashscope.Client(api_key=dashscope.api_key, base_url=dashscope.base_http_api_url)
    return [plain(made.models.list(**arguments))]


ACTIONS: dict[str, Callable[..., list[Any]]] = {
    action.__name__: action
    for action in (
        version,
        setup,
        generation,
        aio_generation,
        multimodal,
        tokenization,
        models_list,
        models_get,
        client,
        client_models,
    )
}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        outcome: Json
        try:
            outcome = {"told": ACTIONS[asked["do"]](**asked["arguments"])}
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is its answer
            outcome = {"raised": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
