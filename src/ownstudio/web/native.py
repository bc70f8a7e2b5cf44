"""The native area, `/api/v1`: its routes, what its headers ask, and its own words for what cannot be routed."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import ChatPrompt, TextPrompt
from ownstudio.dialects.dashscope import DashScope
from ownstudio.dialects.dashscope_side import (
    CountRequest,
    count_answer,
    model_page,
    models_page,
    read_count_request,
)
from ownstudio.service.deployment import Deployment
from ownstudio.service.generation import LARGE_PROMPT_CHARACTERS, unavailable
from ownstudio.service.plan import check_length
from ownstudio.service.studio import Studio
from ownstudio.web.exchange import JSON, Exchange, read_aside
from ownstudio.web.gateway import EXCHANGE
from ownstudio.web.generate import Generate
from ownstudio.web.regions import CALLER, Caller

SERVICES = "/services/"
TEXT_GENERATION = "/services/aigc/text-generation/generation"
MULTIMODAL_GENERATION = "/services/aigc/multimodal-generation/generation"

QUERY_FIELDS_MAX = 16

MakeGenerate = Callable[[str, DashScope], Generate]


def native_area(studio: Studio, generate: MakeGenerate, body_bytes_max: int) -> ASGIApp:
    """Everything below `/api/v1`. `generate` makes the endpoint that speaks a dialect, by its name."""

    def by_header(name: str, *, list_content: bool) -> "BySseHeader":
        return BySseHeader(
            generate(name, DashScope(list_content=list_content)),
            generate(name, DashScope(list_content=list_content, stream=True)),
        )

    text = by_header("native", list_content=False)
    multimodal = by_header("native-multimodal", list_content=True)
    return OwnWords(
        Router(
            [
                Route(TEXT_GENERATION, text, methods=["POST"]),
                Route(MULTIMODAL_GENERATION, multimodal, methods=["POST"]),
                Route("/tokenizer", Count(studio, body_bytes_max), methods=["POST"]),
                Route("/models", Models(), methods=["GET"]),
                Route("/models/{name:path}", OneModel(), methods=["GET"]),
            ],
            redirect_slashes=False,
        )
    )


class OwnWords:
    """Says in the native dialect's words that a path or a method does not exist.

    A path of another service is told apart from one that is nothing: on the real service it is the mistake of a
    client that asks for a model at the wrong place.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except HTTPException as error:
            if error.status_code == ErrorKind.METHOD_NOT_ALLOWED.status:
                message = f"Request method '{scope['method']}' is not supported."
                raise StudioError(ErrorKind.INVALID_PARAMETER, message) from None
            if SERVICES in scope["path"]:
                message = "url error, please check url！"
                raise StudioError(ErrorKind.INVALID_PARAMETER, message) from None
            raise StudioError(ErrorKind.NOT_FOUND, "Not found!") from None


class BySseHeader:
    """Streams when `X-DashScope-SSE: enable` says so; refuses what other headers of the service ask for.

    `X-DashScope-WorkSpace` was heeded with the key; `-DataInspection`, `-Plugin` and `-OssResourceResolve` change no
    answer here.
    """

    def __init__(self, plain: Generate, streamed: Generate) -> None:
        self.name = plain.name
        self._plain = plain
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        if _enabled(exchange, b"x-dashscope-async"):
            raise StudioError(
                ErrorKind.ACCESS_DENIED,
                "Current user api does not support asynchronous calls.",
            )
        if exchange.header(b"x-dashscope-encryptionkey") is not None:
            raise StudioError(
                ErrorKind.INVALID_PARAMETER,
                "The header 'X-DashScope-EncryptionKey' is not supported: send the body as it is.",
            )
        streams = _enabled(exchange, b"x-dashscope-sse")
        await (self._streamed if streams else self._plain)(scope, receive, send)


def _enabled(exchange: Exchange, header: bytes) -> bool:
    return (exchange.header(header) or b"").strip().lower() == b"enable"


class Models:
    """The pages of the catalogue, as far as the caller may use it."""

    name = "native-models"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        try:
            query = dict(
                parse_qsl(
                    scope["query_string"].decode("latin-1"),
                    max_num_fields=QUERY_FIELDS_MAX,
                )
            )
        except ValueError:
            raise StudioError(
                ErrorKind.INVALID_PARAMETER, "The query has too many fields."
            ) from None
        caller: Caller = scope[CALLER]
        page = models_page(caller.models(), query, exchange.request_id)
        await exchange.answer(200, page, JSON)


class OneModel:
    name = "native-model"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        caller: Caller = scope[CALLER]
        model = caller.resolve(unquote(scope["path_params"]["name"]))
        await exchange.answer(200, model_page(model, exchange.request_id), JSON)


class Count:
    """`/tokenizer`: the token ids of a text or of a conversation as the model is shown it, nothing generated."""

    name = "native-tokenizer"

    def __init__(self, studio: Studio, body_bytes_max: int) -> None:
        self._studio = studio
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        body = await exchange.body(self._body_bytes_max)
        caller: Caller = scope[CALLER]
        asked = await read_aside(len(body), lambda: read_count_request(body, caller.resolve))
        deployment = self._deployment(asked.model.deployment)
        prompt = TextPrompt(asked.prompt) if isinstance(asked.prompt, str) else asked.prompt
        check_length(prompt, asked.model.input_max, deployment)
        if prompt.characters > LARGE_PROMPT_CHARACTERS:
            answer = await asyncio.to_thread(_counted, asked, deployment, exchange.request_id)
        else:
            answer = _counted(asked, deployment, exchange.request_id)
        await exchange.answer(200, answer, JSON)

    def _deployment(self, name: str) -> Deployment:
        deployment = self._studio.deployments.get(name)
        if deployment is None:
            raise unavailable(self._studio.faults[name])
        return deployment


def _counted(asked: CountRequest, deployment: Deployment, request_id: str) -> bytes:
    tokenizer = deployment.tokenizer
    if isinstance(asked.prompt, ChatPrompt):
        token_ids = deployment.renderer.render_chat(asked.prompt).token_ids
        prompt = tokenizer.decode(token_ids)
    else:
        # As it stands: what a prompt to be continued lacks is added only where it is continued.
        token_ids = tokenizer.encode(asked.prompt, specials=True)
        prompt = None
    tokens = [tokenizer.token_bytes(token_id).decode("utf-8", "replace") for token_id in token_ids]
    return count_answer(token_ids, tokens, prompt, request_id)
