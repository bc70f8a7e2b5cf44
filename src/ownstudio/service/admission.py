"""What a request passes before an engine works for it: cache, limits, quota, money. And what it settles at its end.

The desk composes what `context_cache`, `limits` and `billing` each know alone. Order: the limits first, which are
cheap to ask, then one hold on the ledger. A request that is refused on the way leaves nothing behind. A ticket is the
proof of admission, and is handed back exactly once.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from ownstudio.accounts.principal import Account, Principal
from ownstudio.accounts.rules import Limit
from ownstudio.billing.funds import Owner as BudgetOwner
from ownstudio.billing.ledger import BudgetClaim, FreeQuota, Held, Hold, Ledger
from ownstudio.billing.prices import PriceBook
from ownstudio.catalog import Model, Offer
from ownstudio.context_cache.cache import ContextCache, Found
from ownstudio.context_cache.diagnosis import explain
from ownstudio.context_cache.prefix import Prefix
from ownstudio.core.errors import StudioError
from ownstudio.core.events import Remark, Usage
from ownstudio.core.money import NANOS
from ownstudio.limits.limiter import Limiter, LimitReached
from ownstudio.limits.memory import MemoryCounters
from ownstudio.limits.terms import Ask, Cap, Concurrency, Grant, Room
from ownstudio.metrics import Metrics
from ownstudio.service.ending import Ending

DAY_S = 86_400
WINDOW_S = 61
LOCAL = "local"
# For so many keys and models it is remembered what bounds them.
BOUNDS_KEPT = 10_000

RECEIPT = "x-ownstudio-receipt"
WAITED = "x-ownstudio-waited"
CACHE = "x-ownstudio-cache"

logger = logging.getLogger("ownstudio.requests")


class Visit(Struct, frozen=True):
    """One call as the service sees it: who makes it, under which receipt, and whether it asks why its cache missed."""

    principal: Principal
    receipt: str
    explains_cache: bool = False


class Demand(Struct, frozen=True):
    """What a request may use at most: a prompt, and `completion_max` tokens that it may write, all choices together."""

    prefix: Prefix = Prefix()
    completion_max: int = 0
    thinking: bool = False

    @property
    def tokens_max(self) -> int:
        return self.prefix.tokens + self.completion_max


class DeskTerms(Struct, frozen=True):
    """`hold_s`: how long money is held for a request whose server died. The free tokens are those of `local`."""

    hold_s: float
    local_free_tokens: int = 0
    local_free_days: int = 90


class Bounds(Struct, frozen=True):
    """What bounds one key's requests for one model: worked out once, for as long as its principal is the same."""

    principal: Principal
    caps: tuple[Cap, ...]
    tokens_per_minute: int | None
    concurrency: tuple[Concurrency, ...]
    surge_scope: str
    budgets: tuple[BudgetClaim, ...]


class Ticket(Struct, frozen=True):
    """The proof that a request was admitted. It is handed back to the desk exactly once."""

    visit: Visit
    model: Model
    demand: Demand
    found: Found
    grant: Grant
    held: Held

    def remarks(self, engine_cached: int) -> tuple[Remark, ...]:
        """What is said beside the answer. The engine says of how many tokens it had the work already."""
        grant = self.grant
        said = [(RECEIPT, self.visit.receipt), *_limit_remarks(grant.requests, grant.tokens)]
        if grant.waited_s:
            said.append((WAITED, f"{grant.waited_s:.3f}"))
        if self.visit.explains_cache:
            said.append((CACHE, explain(self.found, self.demand.prefix, engine_cached).for_client))
        return tuple(said)


class Desk:
    """Admits requests and takes their tickets back."""

    def __init__(
        self,
        cache: ContextCache,
        limiter: Limiter,
        ledger: Ledger,
        book: PriceBook,
        terms: DeskTerms,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._limiter = limiter
        self._ledger = ledger
        self._book = book
        self._terms = terms
        self._now = now
        self._bounds: dict[tuple[str, str], Bounds] = {}
        self._metrics = metrics
        self._hold_time = metrics.ledger_time.labels("hold")
        self._settle_time = metrics.ledger_time.labels("settle")

    async def admit(self, visit: Visit, model: Model, demand: Demand) -> Ticket:
        """Raises StudioError for what is over a limit, a quota, a budget or a balance; then nothing is taken."""
        try:
            return await self._admit(visit, model, demand)
        except StudioError as error:
            self._metrics.refusals.labels(error.kind.word).inc()
            raise

    async def _admit(self, visit: Visit, model: Model, demand: Demand) -> Ticket:
        bounds = self._bounds_of(visit.principal, model)
        account = visit.principal.account.id
        try:
            grant = await self._limiter.admit(
                Ask(
                    receipt=visit.receipt,
                    account=account,
                    turn=visit.principal.key_id,
                    caps=bounds.caps,
                    tokens=_reserved_tokens(demand, bounds.tokens_per_minute),
                    concurrency=bounds.concurrency,
                    surge_scope=bounds.surge_scope,
                )
            )
        except LimitReached as error:
            refusal = error.refusal
            error.remarks = tuple(_limit_remarks(refusal.requests, refusal.tokens))
            raise
        if grant.waited_s:
            self._metrics.limit_wait_time.observe(grant.waited_s)
        try:
            found = await self._cache.look(account, model.name, demand.prefix)
            # Last, since nothing that may be interrupted must come between a hold and its ticket.
            with self._hold_time.time():
                held = await self._ledger.hold(self._hold(visit, model, demand, bounds))
        except BaseException:
            await self._limiter.withdraw(grant)
            raise
        return Ticket(visit, model, demand, found, grant, held)

    async def settle(
        self, ticket: Ticket, usage: Usage, ending: Ending, engine_cached: int
    ) -> None:
        """Charge an answer. Raises StudioError where it cannot be put on the ledger: then it costs nothing.

        Of a client that hung up nobody is told, so there the ledger may try again until it succeeds.
        """
        insist = ending is Ending.HANG_UP
        try:
            with self._settle_time.time():
                amount = await self._ledger.settle(ticket.held, usage, ending.value, insist=insist)
        finally:
            await self._limiter.settle(ticket.grant, usage.total_tokens)
        self._count(ticket.model.name, usage, amount)
        prefix = ticket.demand.prefix
        await self._cache.remember(ticket.visit.principal.account.id, ticket.model.name, prefix)
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s %s %s %s: %s + %s tokens, %s nano; %s",
                ticket.visit.receipt,
                ticket.visit.principal.key_id,
                ticket.model.name,
                ending.value,
                usage.prompt_tokens,
                usage.completion_tokens,
                amount,
                explain(ticket.found, prefix, engine_cached).for_log,
            )

    def _count(self, model: str, usage: Usage, amount: int) -> None:
        """What nobody was charged, and what the cache had no part in, needs no counter."""
        if amount:
            self._metrics.charged.labels(model).inc(amount / NANOS)
        for kind, tokens in (
            ("hit", usage.cached_tokens),
            ("created", usage.cache_creation_tokens),
        ):
            if tokens:
                self._metrics.context_cache_tokens.labels(model, kind).inc(tokens)

    def observe(self) -> None:
        """Bring the gauges up to date, for a scrape."""
        self._metrics.limit_waiting.set(self._limiter.waiting)
        self._metrics.ledger_unwritten.set(self._ledger.unwritten)

    async def release(self, ticket: Ticket, ending: Ending) -> None:
        """Take a ticket back for nothing. Never raises: without a ledger the hold expires by itself."""
        await self._limiter.settle(ticket.grant, 0)
        try:
            await self._ledger.release(ticket.held, ending.value)
        except StudioError as error:
            logger.warning("%s is held until it expires: %s", ticket.visit.receipt, error.detail)

    async def restore_limits(self, counters: MemoryCounters) -> None:
        """Count what was admitted in the last minute, before this process began. Raises StudioError."""
        for past in await self._ledger.recent(int(self._now()) - WINDOW_S):
            for owner, owner_id in _owners(past.account, past.workspace, past.key_id):
                scope = _scope(owner, owner_id, past.region, past.model)
                # A whole second: the admission came after it began.
                counters.restore(scope, past.at + 1, 1, past.tokens)

    def _bounds_of(self, principal: Principal, model: Model) -> Bounds:
        place = (principal.key_id, model.name)
        bounds = self._bounds.get(place)
        # A change of any of its rules makes another principal.
        if bounds is None or bounds.principal is not principal:
            if len(self._bounds) >= BOUNDS_KEPT:
                self._bounds.clear()
            bounds = self._bounds[place] = self._worked_out(principal, model)
        return bounds

    def _worked_out(self, principal: Principal, model: Model) -> Bounds:
        rules = {
            "account": principal.account.rules,
            "workspace": principal.workspace.rules,
            "key": principal.rules,
        }
        offer = model.offer(principal.region)
        published = None if offer is None else _published_limit(offer)
        caps, running, budgets = [], [], []
        owners = _owners(principal.account.id, principal.workspace.id, principal.key_id)
        for owner, owner_id in owners:
            limit = rules[owner].limit(model.name) or (published if owner == "account" else None)
            if limit is not None:
                scope = _scope(owner, owner_id, principal.region, model.name)
                caps.append(Cap(scope, limit.requests_per_minute, limit.tokens_per_minute))
            at_once = rules[owner].concurrency
            if at_once is not None:
                running.append(Concurrency(f"{owner}:{owner_id}", at_once, self._terms.hold_s))
            budget = rules[owner].budget
            if budget is not None:
                budgets.append(BudgetClaim(owner, budget.amount, budget.period))
        return Bounds(
            principal=principal,
            caps=tuple(caps),
            tokens_per_minute=min(
                (cap.tokens_per_minute for cap in caps if cap.tokens_per_minute), default=None
            ),
            concurrency=tuple(running),
            surge_scope=_scope("account", principal.account.id, principal.region, model.name),
            budgets=tuple(budgets),
        )

    def _hold(self, visit: Visit, model: Model, demand: Demand, bounds: Bounds) -> Hold:
        principal, now = visit.principal, self._now()
        account = principal.account
        return Hold(
            receipt=visit.receipt,
            account=account.id,
            workspace=principal.workspace.id,
            key_id=principal.key_id,
            region=principal.region,
            model=model.name,
            price=self._book.price(model.name, principal.region, now),
            prompt_tokens=demand.prefix.tokens,
            completion_max=demand.completion_max,
            expires_at=math.ceil(now + self._terms.hold_s),
            thinking=demand.thinking,
            explicit=demand.prefix.explicit,
            prepaid=account.prepaid,
            suspended=account.suspended,
            budgets=bounds.budgets,
            free=self._free_quota(account, model, principal.region, now),
        )

    def _free_quota(
        self, account: Account, model: Model, region: str, now: float
    ) -> FreeQuota | None:
        """What the account has free of the model, as far as that time goes; what is left of it the ledger knows."""
        offer = model.offer(region)
        if region == LOCAL or offer is None:
            tokens, days = self._terms.local_free_tokens, self._terms.local_free_days
        else:
            tokens, days = offer.free_tokens, offer.free_days
        if now >= account.activated_at + days * DAY_S:
            tokens = 0
        only = account.only_free(model.name)
        return FreeQuota(tokens, only=only) if tokens or only else None


def _published_limit(offer: Offer) -> Limit:
    return Limit(offer.requests_per_minute, offer.tokens_per_minute)


def _reserved_tokens(demand: Demand, tokens_per_minute: int | None) -> int:
    """What is reserved of the tokens of a minute: the most that may be used, but no more than there are.

    Else a client that leaves `max_tokens` to the model, whose most is often beyond a whole minute's, would never pass.
    It passes when nothing else has; a prompt that is too long by itself does not.
    """
    most = demand.tokens_max
    return (
        most
        if tokens_per_minute is None
        else max(min(most, tokens_per_minute), demand.prefix.tokens)
    )


def _owners(account: str, workspace: str, key_id: str) -> tuple[tuple[BudgetOwner, str], ...]:
    """Whoever bounds a request, from the outside in."""
    return (("account", account), ("workspace", workspace), ("key", key_id))


def _scope(owner: str, owner_id: str, region: str, model: str) -> str:
    return f"{owner}:{owner_id}:{region}:{model}"


def _limit_remarks(requests: Room | None, tokens: Room | None) -> Iterator[Remark]:
    for name, room in (("requests", requests), ("tokens", tokens)):
        if room is not None:
            yield f"x-ratelimit-limit-{name}", str(room.limit)
            yield f"x-ratelimit-remaining-{name}", str(max(0, room.remaining))
            yield f"x-ratelimit-reset-{name}", f"{room.reset_s:g}s"
