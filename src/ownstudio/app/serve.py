"""Runs the server: opens everything in order, serves, and closes everything in the opposite order."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from msgspec import Struct
from starlette.types import ASGIApp

from ownstudio.accounts.admin import AdminTokens, AuditLog
from ownstudio.accounts.directory import Directory
from ownstudio.accounts.keys import Keyring
from ownstudio.app.banner import print_banner
from ownstudio.app.beside import beside, ended
from ownstudio.app.build import Built, build_deployment
from ownstudio.app.desk import opened_book, opened_desk, opened_ledger
from ownstudio.catalog import load_catalog
from ownstudio.catalog.regions import RegionTable
from ownstudio.metrics import Metrics
from ownstudio.service.studio import Studio
from ownstudio.settings import Loaded, Settings, SettingsError
from ownstudio.store.database import Database, database_url
from ownstudio.store.directory import DataDirectory, StoreError
from ownstudio.web.admin import admin_area
from ownstudio.web.admin_accounts import AccountPages
from ownstudio.web.admin_money import MoneyPages
from ownstudio.web.exchange import OpenStreams, Patience
from ownstudio.web.generate import Delivery
from ownstudio.web.replay import Replays
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
        regions = RegionTable.parse(settings.regions)
    except ValueError as error:
        raise SettingsError(f"regions: {error}") from None
    try:
        port = _free_port(host, settings.server.port)
        ports = [port, *(_free_port(host, more) for more in regions.ports_besides(port))]
    except OSError as error:
        logger.error("cannot listen on %s port %s: %s", host, settings.server.port, error.strerror)
        logger.error("stop what listens there, or choose another: ownstudio serve --port N")
        return 1
    directory = DataDirectory(settings.data)
    directory.prepare()
    stopping = _stop_signals()
    async with _open(settings, directory, regions) as running, AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(listening(running.application, host, one))
            for one in ports
        ]
        # Vocabularies live as long as the process: no collection need look at them, the last one least.
        gc.freeze()
        stop = asyncio.ensure_future(stopping.wait())
        await _first_of(running.started, stop)
        print_banner(running.studio, _base_url(host, port), settings, directory)
        await stop
        await _drain(servers, running.studio, settings.server.shutdown_grace_s)
    return 0


class Running(Struct, frozen=True):
    """What answers, before anything listens. `started` is done once every eager engine has started or failed."""

    application: ASGIApp
    studio: Studio
    started: asyncio.Future[list[None]]


@asynccontextmanager
async def _open(
    settings: Settings, directory: DataDirectory, regions: RegionTable
) -> AsyncGenerator[Running, None]:
    """Everything built once, in order, and closed in the opposite one."""
    metrics = Metrics()
    server = settings.server
    patience = Patience(server.first_byte_grace_s, server.keep_alive_s, STALL_S)
    streams = OpenStreams(patience)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        # Engines load while the database is opened.
        built = await enter(_deployments(settings))
        try:
            catalog = load_catalog([one.routes for one in built])
        except ValueError as error:
            raise SettingsError(f"deployments: {error}") from None
        database = await Database.open(database_url(settings.database_url, directory))
        stack.push_async_callback(database.close)
        keyring = Keyring(database)
        stack.push_async_callback(keyring.close)
        await keyring.ensure_first_key(directory.first_key, regions.first)
        ledger = await enter(opened_ledger(settings, database))
        book = await enter(opened_book(settings, database, catalog.models(), regions.regions()))
        desk = await enter(opened_desk(settings, ledger, book, metrics))
        studio = Studio(
            catalog,
            {one.routes.name: one.deployment for one in built if one.deployment is not None},
            {one.routes.name: one.fault for one in built if one.deployment is None},
            desk,
            metrics,
            server.request_deadline_s,
            logs_prompts=settings.log.prompts,
        )
        stack.push_async_callback(studio.close)
        replays = Replays(
            database,
            deadline_s=server.request_deadline_s,
            margin_s=settings.billing.hold_margin_s,
            stall_s=STALL_S,
        )
        stack.push_async_callback(replays.close)
        await enter(beside(replays.purge()))
        admin = None
        if settings.admin.enabled:
            tokens = AdminTokens(database)
            await tokens.ensure_first_token(directory.admin_token)
            accounts = Directory(database)
            admin = admin_area(
                studio,
                tokens,
                AuditLog(database),
                AccountPages(accounts, keyring),
                MoneyPages(database, accounts, ledger, book),
                settings.admin.requests_per_minute,
            )
        delivery = Delivery(streams, replays, server.body_max_bytes)
        application = gateway(studio, keyring, metrics, delivery, regions, admin)
        await enter(beside(streams.run()))
        starting = asyncio.gather(*(one.starting for one in built if one.starting is not None))
        stack.push_async_callback(ended, starting)
        yield Running(application, studio, starting)


@asynccontextmanager
async def _deployments(settings: Settings) -> AsyncGenerator[list[Built], None]:
    """Every deployment or its fault; their engines end with the block, also when what comes next fails."""
    with tempfile.TemporaryDirectory(prefix="ownstudio-") as runtime:
        built = await asyncio.gather(
            *(
                build_deployment(name, deployment, settings.data, Path(runtime))
                for name, deployment in settings.deployments.items()
            )
        )
        try:
            yield built
        finally:
            await asyncio.gather(
                *(one.deployment.engine.close() for one in built if one.deployment is not None)
            )


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


async def _drain(servers: Sequence[Server], studio: Studio, grace_s: float) -> None:
    """Accept nothing more, let what runs finish within the grace, then end it with an error event."""
    studio.drain()
    for server in servers:
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
    # Nothing that is written tells them, and to find them out costs as much as the line itself.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(
        level=settings.log.level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # At each first start it would tell of its plug-ins before anything else.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if not settings.log.access:
        logging.getLogger("ownstudio.access").setLevel(logging.WARNING)
