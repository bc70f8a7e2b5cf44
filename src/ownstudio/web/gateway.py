"""Around every route: the request id, the access line, the key before anything else, errors in the right shape."""

import logging
from collections.abc import Callable
from time import perf_counter
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ownstudio.accounts.keys import Keyring
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.metrics import Metrics
from ownstudio.web.exchange import JSON, Exchange, Header, HungUp

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("ownstudio.access")

EXCHANGE = "ownstudio.exchange"

# What asks every few seconds would drown the rest of the log.
UNLOGGED_ROUTES = frozenset({"health", "metrics"})
PATH_LOGGED_MAX = 200
# What the log and the metric call an answer that its client did not wait for.
STATUS_OF_HANG_UP = 499

ErrorBody = Callable[[StudioError, str], bytes]


class Gateway:
    """The outermost ASGI application: gives each request its id and its line in the log."""

    def __init__(self, app: ASGIApp, sockets: ASGIApp, metrics: Metrics) -> None:
        """`sockets` answers WebSockets, `app` everything else."""
        self._apps = {"http": app, "websocket": sockets}
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._apps.get(scope["type"])
        if app is None:
            return
        exchange = Exchange(scope, receive, send, str(uuid4()))
        scope[EXCHANGE] = exchange
        started = perf_counter()
        try:
            await app(scope, receive, send)
        except HungUp:
            exchange.status = STATUS_OF_HANG_UP
        finally:
            route = getattr(scope.get("endpoint"), "name", "none")
            self._metrics.requests.labels(route, str(exchange.status)).inc()
            access_logger.log(
                logging.DEBUG if route in UNLOGGED_ROUTES else logging.INFO,
                "%s %s %a %s %.1f ms",
                exchange.request_id,
                scope.get("method", "SOCKET"),
                scope["path"][:PATH_LOGGED_MAX],
                exchange.status,
                (perf_counter() - started) * 1000,
            )


class Area:
    """Everything below one prefix: its errors have one shape and, with a keyring, it wants a key first."""

    def __init__(self, app: ASGIApp, error_body: ErrorBody, keyring: Keyring | None) -> None:
        self._app = app
        self._error_body = error_body
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        # With an "app" in its scope the router raises what it cannot route instead of answering in plain text.
        scope["app"] = self
        try:
            if self._keyring is not None:
                await authenticate(exchange, self._keyring)
            await self._app(scope, receive, send)
        except StudioError as error:
            if error.detail:
                logger.warning("%s %s: %s", exchange.request_id, error.kind.word, error.detail)
            await self._refuse(exchange, error)
        except HTTPException as error:
            allowed = (error.headers or {}).get("Allow", "")
            headers = ((b"allow", allowed.encode()),) if allowed else ()
            await self._refuse(exchange, _unroutable(error.status_code, scope["method"]), *headers)
        except HungUp:
            raise
        except Exception:
            logger.exception("%s failed", exchange.request_id)
            await self._refuse(exchange, internal_error())

    async def _refuse(self, exchange: Exchange, error: StudioError, *more: Header) -> None:
        if exchange.status is not None:
            return
        headers: list[Header] = [JSON, *more]
        if error.retry_after is not None:
            headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
        if error.kind is ErrorKind.BODY_TOO_LARGE:
            # The rest of the body was not read, so the connection cannot carry another request.
            headers.append((b"connection", b"close"))
        await exchange.answer(error.status, self._error_body(error, exchange.request_id), *headers)


async def authenticate(exchange: Exchange, keyring: Keyring) -> None:
    """Raises StudioError MISSING_API_KEY, INVALID_API_KEY."""
    header = exchange.header(b"authorization")
    scheme, _, secret = (header or b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise StudioError(ErrorKind.MISSING_API_KEY, "No API-key provided.")
    secret = secret.strip()
    if keyring.cached(secret) is None:
        await keyring.authenticate(secret)


def _unroutable(status: int, method: str) -> StudioError:
    if status == ErrorKind.METHOD_NOT_ALLOWED.status:
        message = f"Request method '{method}' is not supported."
        return StudioError(ErrorKind.METHOD_NOT_ALLOWED, message)
    return StudioError(ErrorKind.NOT_FOUND, "Not found!")


def internal_error() -> StudioError:
    return StudioError(
        ErrorKind.INTERNAL,
        "An internal error has occured, please try again later or contact service support.",
    )
