"""The admin API on a real socket and a real database, without models behind it."""

import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
from starlette.routing import Mount, Router

from ownstudio.accounts.admin import AdminTokens, AuditLog
from ownstudio.accounts.directory import Directory
from ownstudio.accounts.keys import Keyring
from ownstudio.app.serve import listening
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.prices import PriceBook
from ownstudio.engines.base import EngineState
from ownstudio.metrics import Metrics
from ownstudio.store.database import Database
from ownstudio.web.admin import admin_area
from ownstudio.web.admin_accounts import AccountPages
from ownstudio.web.admin_call import admin_error_body
from ownstudio.web.admin_money import MoneyPages
from ownstudio.web.gateway import Area, Gateway

Json = dict[str, Any]
PREFIX = "/admin/v1"

# What the overview asks of a studio.
STUDIO: Any = SimpleNamespace(
    running=2,
    draining=False,
    faults={"broken": "x.gguf: cut off"},
    states=lambda: {"tiny": EngineState.READY, "broken": EngineState.FAILED},
    names_of=lambda name: ["a", "b"] if name == "tiny" else [],
)


class Answer:
    """Status, headers and the decoded body."""

    def __init__(self, status: int, headers: Any, body: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def code(self) -> str:
        """The code of an error, once its shape has been checked."""
        assert set(self.body) == {"error", "request_id"}
        assert set(self.body["error"]) == {"code", "message", "param"}
        assert self.body["request_id"] == self.headers["x-request-id"]
        code: str = self.body["error"]["code"]
        return code

    @property
    def param(self) -> str | None:
        return self.code and self.body["error"]["param"]


class Admin:
    """`ask` sends a request with the token; what stands behind it is at hand."""

    def __init__(self, client: aiohttp.ClientSession, address: str, token: str) -> None:
        self.address = address
        self.token = token
        self.client = client
        self.keyring: Keyring
        self.directory: Directory
        self.tokens: AdminTokens
        self.ledger: Ledger
        self.prices: PriceBook
        self.database: Database

    async def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **more: Any
    ) -> Answer:
        headers = {"authorization": f"Bearer {token or self.token}"}
        if body is not None:
            more["json"] = body
        async with self.client.request(
            method, self.address + PREFIX + path, headers=headers, **more
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.json())

    async def get(self, path: str) -> Any:
        """The body of an answer that must be 200."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.body


@asynccontextmanager
async def administered(
    url: str,
    *,
    requests_per_minute: int = 10_000,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Admin, None]:
    database = await Database.open(url)
    ledger = Ledger.open(database, url)
    directory, keyring, prices = (
        Directory(database),
        Keyring(database),
        PriceBook(database, "USD"),
    )
    await prices.load([])
    tokens, audit = AdminTokens(database), AuditLog(database)
    area = admin_area(
        STUDIO,
        tokens,
        audit,
        AccountPages(directory, keyring),
        MoneyPages(database, directory, ledger, prices),
        requests_per_minute,
        monotonic,
    )
    application = Gateway(
        Router([Mount(PREFIX, Area(area, admin_error_body, None))]), area, Metrics()
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    try:
        async with (
            listening(application, "127.0.0.1", port),
            aiohttp.ClientSession() as client,
        ):
            admin = Admin(client, f"http://127.0.0.1:{port}", (await tokens.create()).secret)
            admin.keyring, admin.directory, admin.tokens = keyring, directory, tokens
            admin.ledger, admin.prices, admin.database = ledger, prices, database
            yield admin
    finally:
        await keyring.close()
        await ledger.close()
        await database.close()
