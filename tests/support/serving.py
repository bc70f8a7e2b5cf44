"""The real gateway on a real socket, in the test's own event loop, around an engine of the test's choice."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from ownstudio.accounts.keys import Keyring
from ownstudio.app.serve import listening
from ownstudio.catalog import Catalog
from ownstudio.engines.base import Engine
from ownstudio.metrics import Metrics
from ownstudio.service.admission import Desk
from ownstudio.service.studio import Studio
from ownstudio.store.database import Database, sqlite_url
from ownstudio.web.exchange import OpenStreams, Patience
from ownstudio.web.generate import Delivery
from ownstudio.web.replay import Replays
from ownstudio.web.routes import gateway
from support.desk import desk
from support.studio import MODEL, deployment

CHAT = "/compatible-mode/v1/chat/completions"
PATIENT = Patience(first_byte_s=30, keep_alive_s=30, stall_s=30)


class Served:
    """`client` sends the key with every request; `studio` is what answers."""

    def __init__(
        self, client: aiohttp.ClientSession, studio: Studio, keyring: Keyring, port: int, key: str
    ) -> None:
        self.client = client
        self.studio = studio
        self.keyring = keyring
        self.port = port
        self.key = key

    def raw_chat(self, body: bytes) -> bytes:
        """A whole HTTP request, for a test that drives the socket itself."""
        return (
            f"POST {CHAT} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body


@asynccontextmanager
async def served(
    engine: Engine,
    tmp_path: Path,
    *,
    slots: int = 4,
    queue_max: int = 8,
    patience: Patience = PATIENT,
    deadline_s: float = 30,
    body_bytes_max: int = 1 << 20,
    front: Desk | None = None,
) -> AsyncGenerator[Served, None]:
    home = deployment(engine, slots=slots, queue_max=queue_max)
    metrics = Metrics()
    studio = Studio(Catalog([MODEL]), {"test": home}, {}, front or desk(), metrics, deadline_s)
    database = await Database.open(sqlite_url(tmp_path / "keys.db"))
    keyring = Keyring(database)
    key = (await keyring.create("test")).secret
    streams = OpenStreams(patience)
    replays = Replays(database, deadline_s=deadline_s, margin_s=1, stall_s=patience.stall_s)
    delivery = Delivery(streams, replays, body_bytes_max)
    application = gateway(studio, keyring, metrics, delivery)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    ticking = asyncio.ensure_future(streams.run())
    try:
        async with (
            listening(application, "127.0.0.1", port),
            aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}
            ) as client,
        ):
            yield Served(client, studio, keyring, port, key)
    finally:
        ticking.cancel()
        await replays.close()
        await keyring.close()
        await database.close()
