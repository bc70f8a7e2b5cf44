"""The table of routes. Areas say which dialect an error speaks and who must show a key."""

from collections.abc import Callable
from urllib.parse import unquote

import msgspec
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ownstudio.accounts.keys import Keyring
from ownstudio.catalog.regions import RegionTable
from ownstudio.dialects import Dialect
from ownstudio.dialects.dashscope_errors import error_body as native_error_body
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.openai_errors import error_body
from ownstudio.dialects.openai_models import model_entry, models_page
from ownstudio.dialects.openai_text import OpenAIText
from ownstudio.engines.base import EngineState
from ownstudio.metrics import CONTENT_TYPE, Metrics
from ownstudio.service.studio import Studio
from ownstudio.web.admin_call import admin_error_body
from ownstudio.web.exchange import JSON, Exchange, Header
from ownstudio.web.gateway import EXCHANGE, Area, Door, Gateway
from ownstudio.web.generate import Delivery, Generate
from ownstudio.web.native import native_area
from ownstudio.web.native_socket import NativeSocket
from ownstudio.web.regions import CALLER, Caller, Regions

ADMIN = "/admin/v1"
METRICS_TYPE: Header = (b"content-type", CONTENT_TYPE.encode())


LOCAL = RegionTable.parse(["local"])


def gateway(
    studio: Studio,
    keyring: Keyring,
    metrics: Metrics,
    delivery: Delivery,
    regions: RegionTable = LOCAL,
    admin: ASGIApp | None = None,
) -> ASGIApp:
    """The whole application. `admin` answers below `/admin/v1`, and lets nobody in by itself but whom it knows."""
    door = Door(keyring, Regions(regions, studio.catalog))

    def generate(name: str, dialect: Dialect) -> Generate:
        return Generate(name, dialect, studio, delivery)

    def scrape(_: Scope) -> bytes:
        studio.observe()
        return metrics.page()

    def models(scope: Scope) -> bytes:
        caller: Caller = scope[CALLER]
        return models_page(caller.models())

    def model(scope: Scope) -> bytes:
        caller: Caller = scope[CALLER]
        return model_entry(caller.resolve(unquote(scope["path_params"]["name"])))

    openai = Router(
        [
            Route("/chat/completions", generate("chat", OpenAIChat()), methods=["POST"]),
            Route("/completions", generate("completions", OpenAIText()), methods=["POST"]),
            Route("/models", Page("models", models, JSON), methods=["GET"]),
            Route("/models/{name:path}", Page("model", model, JSON), methods=["GET"]),
        ],
        redirect_slashes=False,
    )
    native = native_area(studio, generate, delivery.body_bytes_max)
    operator = Router(
        [
            Route("/health", Health(studio), methods=["GET"]),
            Route("/metrics", Page("metrics", scrape, METRICS_TYPE), methods=["GET"]),
        ],
        redirect_slashes=False,
    )
    mounts = [
        Mount("/compatible-mode/v1", Area(openai, error_body, door)),
        Mount("/v1", Area(openai, error_body, door)),
        Mount("/api/v1", Area(native, native_error_body, door)),
    ]
    if admin is not None:
        mounts.append(Mount(ADMIN, Area(admin, admin_error_body, None)))
    areas = Router(mounts, redirect_slashes=False, default=Area(operator, error_body, None))
    return Gateway(areas, NativeSocket(studio, door, delivery.body_bytes_max), metrics)


class Page:
    """A short answer made at once. `name` is its label in the metrics."""

    def __init__(self, name: str, make: Callable[[Scope], bytes], content_type: Header) -> None:
        self.name = name
        self._make = make
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        await exchange.answer(200, self._make(scope), self._content_type)


class Health:
    """200 when every engine answers, 503 before and while one is down; the body names each one's state."""

    name = "health"

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        states = self._studio.states()
        ready = not self._studio.draining and all(
            state in (EngineState.READY, EngineState.STOPPED) for state in states.values()
        )
        body = {
            "status": "ready" if ready else "not ready",
            "deployments": {name: state.value for name, state in states.items()},
        }
        await exchange.answer(200 if ready else 503, msgspec.json.encode(body), JSON)
