"""Builds the desk from settings: prices, the ledger, limits and the context cache, in memory or in Redis."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from ownstudio.app.beside import beside
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.prices import FREE, PriceBook, published_prices
from ownstudio.catalog import Model
from ownstudio.context_cache.cache import ContextCache
from ownstudio.context_cache.index import MemoryIndex, PrefixIndex
from ownstudio.core.errors import StudioError
from ownstudio.limits.limiter import Limiter, Policy
from ownstudio.limits.memory import MemoryCounters
from ownstudio.limits.terms import Counters, Pace
from ownstudio.metrics import Metrics
from ownstudio.service.admission import Desk, DeskTerms
from ownstudio.settings import Settings, SettingsError
from ownstudio.store.database import Database, database_url
from ownstudio.store.directory import DataDirectory, StoreError

logger = logging.getLogger(__name__)

# How soon a price that another process imported counts here.
PRICES_FRESH_S = 1.0


@asynccontextmanager
async def opened_ledger(settings: Settings, database: Database) -> AsyncGenerator[Ledger, None]:
    """The ledger, with what runs beside it."""
    ledger = Ledger.open(
        database, database_url(settings.database_url, DataDirectory(settings.data))
    )
    try:
        async with beside(ledger.run()):
            yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def opened_book(
    settings: Settings, database: Database, models: Sequence[Model], regions: Collection[str]
) -> AsyncGenerator[PriceBook, None]:
    """The prices, those of the catalogue put on record, and those that others import taken in as they come."""
    billing = settings.billing
    book = PriceBook(database, billing.currency)
    await book.load(published_prices(models, billing.currency, billing.local_prices))
    if unpriced := _unpriced(book, models, regions):
        logger.warning(
            "the published prices of %s models are not in %s, billing.currency, so these cost nothing until "
            "`ownstudio price import` gives them a price: %s",
            len(unpriced),
            book.currency,
            ", ".join(unpriced),
        )
    async with beside(_refresh(book)):
        yield book


@asynccontextmanager
async def opened_desk(
    settings: Settings, ledger: Ledger, book: PriceBook, metrics: Metrics
) -> AsyncGenerator[Desk, None]:
    """The desk. Raises SettingsError for a Redis that cannot be."""
    limits = settings.limits
    policy = Policy(
        pace=Pace(per_second=limits.per_second, surge=limits.surge),
        wait_s=limits.wait_s,
        waiting_max=limits.waiting_max,
        when_down=limits.redis_down,
    )
    memory = MemoryCounters()
    async with AsyncExitStack() as stack:
        counters, index = await _shared(settings, memory, stack)
        limiter = Limiter(counters, policy, fallback=memory)
        stack.push_async_callback(limiter.close)
        terms = DeskTerms(
            hold_s=settings.server.request_deadline_s + settings.billing.hold_margin_s,
            local_free_tokens=settings.billing.local_free_tokens,
            local_free_days=settings.billing.local_free_days,
        )
        desk = Desk(ContextCache(index), limiter, ledger, book, terms, metrics)
        try:
            await desk.restore_limits(memory)
        except StudioError as error:
            raise StoreError(f"the ledger cannot be read: {error.detail}") from error
        yield desk


def check_redis_url(url: str) -> None:
    """Raises SettingsError for what is no address of a Redis. Connects to nothing."""
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415

    try:
        BlockingConnectionPool.from_url(url)
    except ValueError:
        # The reason may quote a part of the password.
        raise SettingsError("redis_url is no address such as redis://host:6379/0") from None


async def _shared(
    settings: Settings, memory: MemoryCounters, stack: AsyncExitStack
) -> tuple[Counters, PrefixIndex]:
    """What several servers share, if there is a Redis for it."""
    cache = settings.cache
    if not settings.redis_url:
        index = MemoryIndex(
            implicit_ttl_s=cache.implicit_ttl_s,
            explicit_ttl_s=cache.explicit_ttl_s,
            blocks_max=cache.blocks_max,
        )
        return memory, index
    # A tenth of a second to import, for those who have one.
    from ownstudio.context_cache.redis_index import RedisIndex  # noqa: PLC0415
    from ownstudio.limits.redis import RedisCounters  # noqa: PLC0415

    check_redis_url(settings.redis_url)
    counters = RedisCounters(settings.redis_url)
    shared_index = RedisIndex(
        settings.redis_url,
        implicit_ttl_s=cache.implicit_ttl_s,
        explicit_ttl_s=cache.explicit_ttl_s,
        blocks_max=cache.blocks_max,
    )
    stack.push_async_callback(counters.close)
    stack.push_async_callback(shared_index.close)
    return counters, shared_index


def _unpriced(book: PriceBook, models: Sequence[Model], regions: Collection[str]) -> list[str]:
    """The models that would cost money in these regions, had they a price in this server's currency."""
    now = time.time()
    return sorted(
        {
            model.name
            for model in models
            for offer in model.offers
            if offer.region in regions
            and offer.tiers
            and offer.currency != book.currency
            and book.price(model.name, offer.region, now).terms == FREE
        }
    )


async def _refresh(book: PriceBook) -> None:
    while True:
        await asyncio.sleep(PRICES_FRESH_S)
        try:
            await book.refresh()
        except StoreError as error:
            logger.warning("prices are as they were: %s", error)
