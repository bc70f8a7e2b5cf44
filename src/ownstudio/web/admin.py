"""The admin API, `/admin/v1`: who may, how often, and the table of what there is.

It has tokens of its own, which open nothing else, and no client's key opens it. Without a token nobody learns which
paths exist. All tokens together have one limit a minute, and each address its own for tokens that are wrong: there is
nothing to guess in 256 bits, but guessing should not be free either.
"""

import time
from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ownstudio import __version__
from ownstudio.accounts.admin import AdminTokens, AuditLog
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.service.studio import Studio
from ownstudio.store.directory import StoreError
from ownstudio.web.admin_accounts import AccountPages
from ownstudio.web.admin_call import AdminCall, Answer, Limit, Place
from ownstudio.web.admin_money import MoneyPages
from ownstudio.web.exchange import JSON, Exchange, Header
from ownstudio.web.gateway import EXCHANGE, bearer

WINDOW_S = 60.0
WRONG_TOKENS_MAX = 30
# Beyond so many addresses in one window the others share a count: memory is bounded, whoever floods.
NAMES_MAX = 10_000

# Answers hold secrets and balances.
UNSTORED: Header = (b"cache-control", b"no-store")

_TOKEN = "ownstudio.admin-token"


class FixedWindow:
    """Counts by name, from zero again every minute."""

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._monotonic = monotonic
        self._began_at = float("-inf")
        self._counts: dict[str, int] = {}

    def take(self, name: str = "") -> None:
        """Raises StudioError REQUESTS_LIMITED beyond the limit."""
        now = self._monotonic()
        if now - self._began_at >= WINDOW_S:
            self._began_at = now
            self._counts = {}
        if name not in self._counts and len(self._counts) >= NAMES_MAX:
            name = ""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        if count > self._most:
            raise StudioError(
                ErrorKind.REQUESTS_LIMITED,
                f"At most {self._most} of these requests a minute are answered.",
                retry_after=self._began_at + WINDOW_S - now,
            )


class Guard:
    """Lets in whoever has a token, as often as the limit allows."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: AdminTokens,
        requests_per_minute: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._requests = FixedWindow(requests_per_minute, monotonic)
        self._wrong = FixedWindow(WRONG_TOKENS_MAX, monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        try:
            scope[_TOKEN] = await self._token(exchange)
            self._requests.take()
            await self._app(scope, receive, send)
        except StoreError as error:
            raise StudioError(
                ErrorKind.STORE_UNAVAILABLE, "The database cannot be used.", detail=str(error)
            ) from error

    async def _token(self, exchange: Exchange) -> str:
        try:
            secret = bearer(exchange)
            if secret is None:
                raise StudioError(
                    ErrorKind.MISSING_API_KEY,
                    "An admin token is wanted: Authorization: Bearer adm-…",
                )
            return await self._tokens.authenticate(secret)
        except StudioError as error:
            if error.status == ErrorKind.INVALID_API_KEY.status:
                client = exchange.scope.get("client")
                self._wrong.take(str(client[0]) if client else "")
            raise


class _Endpoint:
    def __init__(self, place: Place, audit: AuditLog) -> None:
        self.name = place.name
        self._methods = place.methods
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        # The router lets HEAD pass where there is a GET.
        handler = self._methods.get(scope["method"]) or self._methods["GET"]
        call = AdminCall(exchange, scope["path_params"], scope[_TOKEN], self._audit)
        status, answer = await handler(call)
        await exchange.answer(status, msgspec.json.encode(answer), JSON, UNSTORED)


class ServerPages:
    """What the server itself says: how it does, and who changed what."""

    def __init__(self, studio: Studio, accounts: AccountPages, audit: AuditLog) -> None:
        self._studio = studio
        self._accounts = accounts
        self._audit = audit

    async def overview(self, call: AdminCall) -> Answer:
        call.query(_NoQuery)
        studio = self._studio
        return 200, {
            "version": __version__,
            "draining": studio.draining,
            "running": studio.running,
            "deployments": {
                name: {
                    "state": state.value,
                    "models": len(studio.names_of(name)),
                    "fault": studio.faults.get(name),
                }
                for name, state in studio.states().items()
            },
            "counts": await self._accounts.counts(),
        }

    async def audit(self, call: AdminCall) -> Answer:
        asked = call.query(_AuditQuery)
        entries = await self._audit.page(asked.after, asked.limit)
        more = len(entries) == asked.limit and entries[-1].seq > 1
        return 200, {"data": entries, "next": str(entries[-1].seq) if more else None}


class _NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Takes no field."""


class _AuditQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Newest first; `after` is the number of the last line seen."""

    limit: Limit = 100
    after: Annotated[int, Meta(ge=1, le=2**53)] | None = None


def places(server: ServerPages, accounts: AccountPages, money: MoneyPages) -> Iterable[Place]:
    """The table of the admin API."""
    return (
        Place("/overview", "admin-overview", {"GET": server.overview}),
        Place("/audit", "admin-audit", {"GET": server.audit}),
        *accounts.places(),
        *money.places(),
    )


def admin_area(
    studio: Studio,
    tokens: AdminTokens,
    audit: AuditLog,
    accounts: AccountPages,
    money: MoneyPages,
    requests_per_minute: int,
    monotonic: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """Everything below `/admin/v1`."""
    server = ServerPages(studio, accounts, audit)
    routes = [
        Route(place.path, _Endpoint(place, audit), methods=list(place.methods))
        for place in places(server, accounts, money)
    ]
    return Guard(Router(routes, redirect_slashes=False), tokens, requests_per_minute, monotonic)
