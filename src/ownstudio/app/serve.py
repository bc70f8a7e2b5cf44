"""Runs the server: opens everything in order, serves, and closes everything in the opposite order."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.types import ASGIApp

from ownstudio.accounts.keys import Keyring
from ownstudio.app.banner import print_banner
from ownstudio.app.build import build_deployment
from ownstudio.catalog import load_catalog
from ownstudio.metrics import Metrics
from ownstudio.service.studio import Studio
from ownstudio.settings import Loaded, Settings, SettingsError
from ownstudio.store.database import Database, sqlite_url
from ownstudio.store.directory import DataDirectory, StoreError
from ownstudio.web.exchange import OpenStreams, Patience
from ownstudio.web.routes import gateway

logger = logging.getLogger(__name__)

# A reader that takes nothing for so long is hung up on.
STALL_S = 60.0
# After the grace, streams get their error event; this is how long it may take to reach them.
LAST_WORDS_S = 5.0
BACKLOG = 1024
CONNECTIONS_MAX = 16_384
SPARE_FILES = 256
HEADER_MS_MAX = 10_000


def serve(loaded: Loaded) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. A second signal ends at once."""
    _configure_logging(loaded.settings)
    try:
        return uvloop.run(_serve(loaded.settings))
    except (StoreError, SettingsError) as error:
        logger.error("%s", error)
        return 1


async def _serve(settings: Settings) -> int:
    host = settings.server.host
    try:
        port = _free_port(host, settings.server.port)
    except OSError as error:
        logger.error("cannot listen on %s port %s: %s", host, settings.server.port, error.strerror)
        logger.error("stop what listens there, or choose another: ownstudio serve --port N")
        return 1
    directory = DataDirectory(settings.data)
    directory.prepare()
    stopping = _stop_signals()
    metrics = Metrics()
    patience = Patience(settings.server.first_byte_grace_s, settings.server.keep_alive_s, STALL_S)
    streams = OpenStreams(patience)
    async with (
        _studio(settings, metrics) as (studio, started),
        _keyring(settings, directory) as keyring,
    ):
        application = gateway(studio, keyring, metrics, streams, settings.server.body_max_bytes)
        ticking = asyncio.ensure_future(streams.run())
        try:
            async with listening(application, host, port) as server:
                # Vocabularies live as long as the process: no collection need look at them, the last one least.
                gc.freeze()
                stop = asyncio.ensure_future(stopping.wait())
                await _first_of(started, stop)
                print_banner(studio, _base_url(host, port), settings, directory.first_key)
                await stop
                await _drain(server, studio, settings.server.shutdown_grace_s)
        finally:
            ticking.cancel()
    return 0


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _connections_max() -> int:
    """As many connections as this process may have files, less what else needs some."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(BACKLOG, min(CONNECTIONS_MAX, files - SPARE_FILES))


def _free_port(host: str, port: int) -> int:
    """`port`, or any free one for 0. Raises OSError when somebody listens there: the server itself would share it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        free: int = probe.getsockname()[1]
        return free


def _stop_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT. The second ends the process; its workers notice and end too."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


@asynccontextmanager
async def _keyring(settings: Settings, directory: DataDirectory) -> AsyncGenerator[Keyring, None]:
    """The keys, with a first one made where there was none."""
    database = await Database.open(settings.database_url or sqlite_url(directory.database))
    try:
        keyring = Keyring(database)
        try:
            await keyring.ensure_first_key(directory.first_key)
            yield keyring
        finally:
            await keyring.close()
    finally:
        await database.close()


@asynccontextmanager
async def _studio(
    settings: Settings, metrics: Metrics
) -> AsyncGenerator[tuple[Studio, asyncio.Future[list[None]]], None]:
    """The studio, and what is done once every eager engine has started or failed."""
    with tempfile.TemporaryDirectory(prefix="ownstudio-") as runtime:
        built = await asyncio.gather(
            *(
                build_deployment(name, deployment, settings.data, Path(runtime))
                for name, deployment in settings.deployments.items()
            )
        )
        try:
            catalog = load_catalog([one.routes for one in built])
        except ValueError as error:
            raise SettingsError(f"deployments: {error}") from None
        studio = Studio(
            catalog,
            {one.routes.name: one.deployment for one in built if one.deployment is not None},
            {one.routes.name: one.fault for one in built if one.deployment is None},
            metrics,
            settings.server.request_deadline_s,
            logs_prompts=settings.log.prompts,
        )
        started = asyncio.gather(*(one.starting for one in built if one.starting is not None))
        try:
            yield studio, started
        finally:
            started.cancel()
            await asyncio.wait([started])
            await studio.close()


@asynccontextmanager
async def listening(application: ASGIApp, host: str, port: int) -> AsyncGenerator[Server, None]:
    """The HTTP server, answering before the body runs and stopped after it."""
    server = Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=True,
        backlog=BACKLOG,
        # Without it the server stops accepting at as many open connections as its backlog holds.
        backpressure=_connections_max(),
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MS_MAX),
        log_enabled=False,
    )
    serving = asyncio.ensure_future(server.serve())
    try:
        while not serving.done():
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        yield server
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait([serving], timeout=LAST_WORDS_S)


async def _drain(server: Server, studio: Studio, grace_s: float) -> None:
    """Accept nothing more, let what runs finish within the grace, then end it with an error event."""
    studio.drain()
    server.stop()  # type: ignore[no-untyped-call]
    logger.info("stopping: %s answers under way, at most %g s for them", studio.running, grace_s)
    if not await _idle(studio, grace_s):
        studio.abort_all()
        await _idle(studio, LAST_WORDS_S)


async def _idle(studio: Studio, wait_s: float) -> bool:
    """Whether the last generation ended within `wait_s` seconds."""
    try:
        async with asyncio.timeout(wait_s):
            await studio.idle.wait()
    except TimeoutError:
        return False
    return True


def _configure_logging(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log.level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # At each first start it would tell of its plug-ins before anything else.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not settings.log.access:
        logging.getLogger("ownstudio.access").setLevel(logging.WARNING)
