"""A desk for tests of what lies above it: limits, cache and ledger as they are, the ledger's store in memory."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from uuid import uuid4

from ownstudio.accounts.principal import Account, Principal, Workspace
from ownstudio.billing.ledger import Ledger
from ownstudio.billing.prices import FREE, Price, PriceBook
from ownstudio.context_cache.cache import ContextCache
from ownstudio.context_cache.index import MemoryIndex
from ownstudio.limits.limiter import Limiter, Policy
from ownstudio.limits.memory import MemoryCounters
from ownstudio.metrics import Metrics
from ownstudio.service.admission import Desk, DeskTerms, Visit
from ownstudio.store.database import Database
from ownstudio.store.ledger import Changes, EntryRow, FundsRow, HoldRow, Seen, Wanted

T = TypeVar("T")

ACCOUNT = Account("default")
WORKSPACE = Workspace("default", "default")


class MemoryLedgerStore:
    """What the ledger wrote, to be looked at. `failure` is raised by every commit while it is set."""

    def __init__(self) -> None:
        self.entries: list[EntryRow] = []
        self.funds: dict[str, FundsRow] = {}
        self.holds: dict[str, HoldRow] = {}
        self.failure: Exception | None = None

    def commit(
        self, wanted: Wanted, decide: Callable[[Seen], tuple[T, Changes]]
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            done.set_exception(self.failure)
            return done
        kinds: dict[str, frozenset[str]] = {
            receipt: frozenset(self.kinds(receipt)) for receipt in wanted.receipts
        }
        funds = {scope: self.funds.get(scope, FundsRow(scope)) for scope in wanted.scopes}
        result, changes = decide(Seen(funds, self.holds, kinds))
        self.entries += changes.entries
        self.funds |= {row.scope: row for row in changes.funds}
        self.holds |= {row.receipt: row for row in changes.opened}
        for receipt in changes.closed:
            del self.holds[receipt]
        done.set_result(result)
        return done

    async def close(self) -> None:
        """Nothing is open."""

    def kinds(self, receipt: str) -> list[str]:
        """What the ledger has of a receipt, in order."""
        return [entry.kind for entry in self.entries if entry.receipt == receipt]


class OnePrice(PriceBook):
    """One price for everything, without a database."""

    def __init__(self, terms: object = FREE) -> None:
        self._terms = terms

    def price(self, model: str, region: str, at: float) -> Price:
        return Price(1, model, region, 0, "USD", self._terms)  # type: ignore[arg-type]


def desk(
    store: MemoryLedgerStore | None = None,
    *,
    terms: object = FREE,
    policy: Policy | None = None,
    desk_terms: DeskTerms | None = None,
    database: Database | None = None,
    metrics: Metrics | None = None,
) -> Desk:
    index = MemoryIndex(implicit_ttl_s=3600, explicit_ttl_s=300, blocks_max=100_000)
    return Desk(
        ContextCache(index),
        Limiter(MemoryCounters(), policy or Policy()),
        Ledger(database, store or MemoryLedgerStore()),  # type: ignore[arg-type]
        OnePrice(terms),
        desk_terms or DeskTerms(hold_s=60),
        metrics or Metrics(),
    )


def visit(principal: Principal | None = None, *, explains_cache: bool = False) -> Visit:
    return Visit(principal or PRINCIPAL, str(uuid4()), explains_cache)


PRINCIPAL = Principal("key-1", "test", ACCOUNT, WORKSPACE, "local")
