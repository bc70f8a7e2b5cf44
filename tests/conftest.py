"""All tests run in the event loop that the server runs in: loops differ, and what works in one may hang in another."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest
import uvloop

from support.servers import Postgres, Redis, ServerMissing

T = TypeVar("T", Postgres, Redis)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, shared; each test asks it for a database of its own."""
    yield from _server(Postgres)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A real Redis, shared; a test that needs it empty flushes it or uses names of its own."""
    yield from _server(Redis)


def _server(make: Callable[[], T]) -> Iterator[T]:
    try:
        server = make()
    except ServerMissing as reason:
        pytest.skip(str(reason))
    yield server
    server.close()
