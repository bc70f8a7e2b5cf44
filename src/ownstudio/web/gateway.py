"""Around every route: the request id, the access line, the key before anything else, errors in the right shape."""

import logging
import math
from collections.abc import Callable, Sequence
from time import perf_counter
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ownstudio.accounts.access import check_address, check_workspace
from ownstudio.accounts.keys import Keyring
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Remark
from ownstudio.metrics import Metrics
from ownstudio.web.exchange import JSON, Exchange, Header, HungUp
from ownstudio.web.regions import CALLER, Caller, Regions

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("ownstudio.access")

EXCHANGE = "ownstudio.exchange"
WORKSPACE_HEADER = b"x-dashscope-workspace"

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


class Door:
    """Who may come in with a key, and what they find there."""

    def __init__(self, keyring: Keyring, regions: Regions) -> None:
        self._keyring = keyring
        self._regions = regions

    async def admit(self, exchange: Exchange) -> Caller:
        """Who calls; the scope has it from now on. Raises StudioError for a key that is none or not for this request.

        What the key is not for: the region at this address, the client's address, the workspace that the client names.
        The client's address is that of the connection, since whatever a header says of it anybody may write.
        """
        region = self._regions.of(exchange)
        secret = bearer(exchange)
        if secret is None:
            raise StudioError(ErrorKind.MISSING_API_KEY, "No API-key provided.")
        principal = self._keyring.cached(secret)
        if principal is None:
            principal = await self._keyring.authenticate(secret)
        if principal.region != region:
            # What a key of another region is here: none. Its holder learns nothing of where it would be one.
            raise StudioError(ErrorKind.INVALID_API_KEY, "Incorrect API key provided. ")
        client = exchange.scope.get("client")
        check_address(principal, client[0] if client else "")
        workspace = exchange.header(WORKSPACE_HEADER)
        if workspace is not None:
            check_workspace(principal, workspace.decode("latin-1").strip())
        caller = Caller(principal, self._regions.catalog(region))
        exchange.scope[CALLER] = caller
        return caller


class Area:
    """Everything below one prefix: its errors have one shape and, with a door, it wants a key first."""

    def __init__(self, app: ASGIApp, error_body: ErrorBody, door: Door | None) -> None:
        self._app = app
        self._error_body = error_body
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        # With an "app" in its scope the router raises what it cannot route instead of answering in plain text.
        scope["app"] = self
        try:
            if self._door is not None:
                await self._door.admit(exchange)
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
        headers: list[Header] = [JSON, *more, *remark_headers(error.remarks)]
        if error.retry_after is not None:
            # Whoever came back a moment too early would be refused once more.
            seconds = max(1, math.ceil(error.retry_after))
            headers.append((b"retry-after", str(seconds).encode()))
        if error.kind is ErrorKind.BODY_TOO_LARGE:
            # The rest of the body was not read, so the connection cannot carry another request.
            headers.append((b"connection", b"close"))
        await exchange.answer(error.status, self._error_body(error, exchange.request_id), *headers)


def remark_headers(remarks: Sequence[Remark]) -> tuple[Header, ...]:
    """What is said beside an answer, as headers. None of it is a client's text."""
    return tuple([(name.encode(), value.encode("ascii", "replace")) for name, value in remarks])


def bearer(exchange: Exchange) -> str | None:
    """The secret that a request shows, or None."""
    header = exchange.header(b"authorization")
    if header is None:
        return None
    scheme, _, secret = header.decode("latin-1").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


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
