"""Runs the server: opens everything in order, serves, and closes everything in the opposite order."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
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
from ownstudio.app.desk import check_redis_url, opened_book, opened_desk, opened_ledger
from ownstudio.catalog import Catalog, DeploymentRoutes, load_catalog
from ownstudio.catalog.regions import RegionTable
from ownstudio.metrics import Metrics
from ownstudio.service.studio import Studio
from ownstudio.settings import Loaded, Settings, SettingsError
from ownstudio.store.database import Database, database_url, read_address
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


class ListenError(Exception):
    """The server cannot listen, or does so no longer. The text says where, and why."""


def serve(loaded: Loaded) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. A second signal ends at once."""
    _configure_logging(loaded.settings)
    _raise_files_limit()
    try:
        uvloop.run(_serve(loaded.settings))
    except (ListenError, StoreError, SettingsError) as error:
        logger.error("%s", error)
        return 1
    return 0


def check_settings(settings: Settings) -> None:
    """What `serve` would refuse of settings that are each allowed, without starting or connecting to anything.

    Raises SettingsError and StoreError.
    """
    _region_table(settings)
    _catalog(
        DeploymentRoutes(name=name, routes=deployment.routes, context=1, created=0)
        for name, deployment in settings.deployments.items()
    )
    read_address(database_url(settings.database_url, DataDirectory(settings.data)))
    if settings.redis_url:
        check_redis_url(settings.redis_url)


async def _serve(settings: Settings) -> None:
    regions = _region_table(settings)
    host = await _ip_address(settings.server.host)
    port = _free_port(host, settings.server.port)
    ports = [port, *(_free_port(host, more) for more in regions.ports_besides(port))]
    directory = DataDirectory(settings.data)
    directory.prepare()
    stopping = _stop_signals()
    async with _open(settings, directory, regions) as running, AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(listening(running.application, host, one))
            for one in ports
        ]
        # Vocabularies live as long as the process: no collection need look at them, the last one least.
        gc.freeze()
        stop = asyncio.ensure_future(stopping.wait())
        endings = [one.ending for one in listeners]
        await _first_of(running.started, stop, *endings)
        if not any(ending.done() for ending in endings):
            print_banner(running.studio, _base_url(host, port), settings, directory)
        await _first_of(stop, *endings)
        lost = [one.fault() for one in listeners if one.ending.done()]
        await _drain(listeners, running.studio, settings.server.shutdown_grace_s)
        if lost:
            raise lost[0]


def _region_table(settings: Settings) -> RegionTable:
    try:
        return RegionTable.parse(settings.regions)
    except ValueError as error:
        raise SettingsError(f"regions: {error}") from None


def _catalog(routes: Iterable[DeploymentRoutes]) -> Catalog:
    try:
        return load_catalog(routes)
    except ValueError as error:
        raise SettingsError(f"deployments: {error}") from None


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
        catalog = _catalog(one.routes for one in built)
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


def _raise_files_limit() -> None:
    """The usual 1,024 files, which a process may raise by itself, are few for a server: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems name a most that they do not grant.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def connections_max(files: int) -> int:
    """As many connections as a process of so many open files may have, less what else needs some."""
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(files // 2, files - SPARE_FILES))


async def _ip_address(host: str) -> str:
    """What the HTTP server takes, of an address or a name; of a name with both kinds the IPv4 one, which all reach."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ListenError(
            f"cannot listen on {host}: {getattr(error, 'strerror', None) or error}; "
            "choose an address or a name of this machine: ownstudio serve --host HOST"
        ) from None
    _, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    return str(place[0])


def _free_port(host: str, port: int) -> int:
    """`port`, or any free one for 0. Raises ListenError where somebody listens: the server itself would share it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            free: int = probe.getsockname()[1]
            return free
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host} port {port}: {error.strerror}; "
            "stop what listens there, or choose another place: ownstudio serve --host HOST --port N"
        ) from None


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


class Listener(Struct, frozen=True):
    """An HTTP server that answers. `ending` is done once it does so no longer."""

    server: Server
    ending: asyncio.Future[None]
    place: str

    def stop(self) -> None:
        self.server.stop()  # type: ignore[no-untyped-call]

    def fault(self) -> ListenError:
        """Why it ended, though nobody stopped it."""
        error = self.ending.exception()
        # What the server is written in adds its stack to the reason.
        reason = str(error).partition("\n")[0] if error else "the HTTP server ended by itself"
        return ListenError(f"cannot listen on {self.place}: {reason}")


@asynccontextmanager
async def listening(application: ASGIApp, host: str, port: int) -> AsyncGenerator[Listener, None]:
    """The HTTP server, answering before the body runs and stopped after it. Raises ListenError where it cannot."""
    server = Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=True,
        backlog=BACKLOG,
        # Without it the server stops accepting at as many open connections as its backlog holds.
        backpressure=connections_max(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MS_MAX),
        log_enabled=False,
    )
    listener = Listener(server, asyncio.ensure_future(server.serve()), f"{host} port {port}")
    try:
        while not listener.ending.done():
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        if listener.ending.done():
            raise listener.fault()
        yield listener
    finally:
        listener.stop()
        await asyncio.wait([listener.ending], timeout=LAST_WORDS_S)


async def _drain(listeners: Sequence[Listener], studio: Studio, grace_s: float) -> None:
    """Accept nothing more, let what runs finish within the grace, then end it with an error event."""
    studio.drain()
    for listener in listeners:
        listener.stop()
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
