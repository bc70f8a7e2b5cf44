"""What the ledger decides, as a function: a batch of operations and the state that they meet, to entries and a new
state. Nothing here waits, reads a clock or knows a database.

The life of a receipt: a hold, then one of settle, release and expire. One transition more is allowed, from expire to
settle: the answer took longer than its hold was kept, and was given all the same. A settlement after that is charged
like any other, though nothing is reserved for it any more.

Of a free quota a hold claims the most that its request may use, as far as that is left. How many tokens are free is
decided at the settlement: what the hold claims, and what nobody else claims at that moment. So a charge is never more
than was held for it, and all claims and free tokens together stay within the quota. Beyond it goes only what was
promised: an answer that outlived its hold keeps its claim, and one that may use nothing but free tokens is free whole.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ownstudio.billing.charge import charge, free_split, worst_charge
from ownstudio.billing.funds import (
    BudgetClaim,
    FreeQuota,
    account_scope,
    arrearage,
    budget_exhausted,
    budget_scope,
    free_quota_exhausted,
    free_scope,
    is_free_scope,
    period_name,
)
from ownstudio.billing.prices import Price
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Usage
from ownstudio.core.money import AMOUNT_MAX
from ownstudio.store.ledger import Changes, EntryRow, FundsRow, HoldRow, Seen

# How much a hold has of each scope, the money first.
Claims = tuple[tuple[str, int], ...]


class Hold(Struct, frozen=True):
    """What a request reserves before an engine works for it. `completion_max` is for all its choices together.

    `prepaid`: only as far as the account's balance reaches; `suspended`: not at all.
    """

    receipt: str
    account: str
    workspace: str
    key_id: str
    region: str
    model: str
    price: Price
    prompt_tokens: int
    completion_max: int
    expires_at: int
    thinking: bool = False
    explicit: bool = False
    prepaid: bool = False
    suspended: bool = False
    budgets: tuple[BudgetClaim, ...] = ()
    free: FreeQuota | None = None

    def __post_init__(self) -> None:
        if self.prompt_tokens < 0 or self.completion_max < 0:
            raise ValueError(f"{self.prompt_tokens} and {self.completion_max} tokens: not counts")

    @property
    def tokens_max(self) -> int:
        return self.prompt_tokens + self.completion_max

    @property
    def only_free(self) -> bool:
        return self.free is not None and self.free.only

    def owner_id(self, claim: BudgetClaim) -> str:
        match claim.owner:
            case "account":
                return self.account
            case "workspace":
                return self.workspace
            case "key":
                return self.key_id


class Held(Struct, frozen=True):
    """A hold that stands: what it reserves in nano-units, and how many of its tokens are free at least."""

    hold: Hold
    amount: int
    free_tokens: int
    claims: Claims


class HoldOp(Struct, frozen=True):
    """`scopes`: the account's, then those of the budgets in their order, then that of the free quota."""

    hold: Hold
    at: int
    scopes: tuple[str, ...]


class SettleOp(Struct, frozen=True):
    """The end of an answer that is charged."""

    held: Held
    at: int
    usage: Usage
    ending: str


class ReleaseOp(Struct, frozen=True):
    held: Held
    at: int
    ending: str


class ExpireOp(Struct, frozen=True):
    """The end of a hold that nobody ended. `entry` is the one that it began with."""

    row: HoldRow
    entry: EntryRow
    claims: Claims
    at: int


class PayOp(Struct, frozen=True):
    """Money that comes in: a `payment`, or a `correction`, which may also take away. One receipt is written once."""

    receipt: str
    kind: str
    at: int
    account: str
    amount: int
    note: str


Op = HoldOp | SettleOp | ReleaseOp | ExpireOp | PayOp
# What became of an operation: what it holds, what it charges, whether it wrote anything, or why it was refused.
Result = Held | int | bool | StudioError


def hold_op(hold: Hold, at: int) -> HoldOp:
    scopes = [account_scope(hold.account)]
    for claim in hold.budgets:
        period = period_name(claim.period, at)
        scopes.append(budget_scope(claim.owner, hold.owner_id(claim), period))
    if hold.free is not None:
        scopes.append(free_scope(hold.account, hold.region, hold.model))
    return HoldOp(hold, at, tuple(scopes))


def settle_op(held: Held, at: int, usage: Usage, ending: str) -> SettleOp:
    """Raises ValueError for counts that contradict each other."""
    # Found here and not while a batch is written, which would fail with it.
    settlement(held.hold, usage, held.free_tokens)
    return SettleOp(held, at, usage, ending)


def expire_op(row: HoldRow, entry: EntryRow, at: int) -> ExpireOp:
    return ExpireOp(row, entry, read_claims(row.claims), at)


def reservation(hold: Hold, free_tokens: int) -> int:
    """What a hold reserves, when so many of its tokens are free."""
    if hold.only_free:
        return 0
    return worst_charge(
        hold.price.terms,
        hold.prompt_tokens,
        hold.completion_max,
        thinking=hold.thinking,
        explicit=hold.explicit,
        free_tokens=free_tokens,
    )


def settlement(hold: Hold, usage: Usage, free_tokens: int) -> tuple[int, tuple[int, int]]:
    """What an answer is charged, and how many tokens of its prompt and of its completion are free."""
    if hold.only_free:
        # All of it, though the last answer may go beyond what is left: nothing was to be charged.
        return 0, (usage.prompt_tokens, usage.completion_tokens)
    free_prompt, free_completion = free_split(usage, free_tokens)
    amount = charge(
        hold.price.terms,
        usage,
        thinking=hold.thinking,
        free_prompt=free_prompt,
        free_completion=free_completion,
    )
    return amount, (free_prompt, free_completion)


def concerns(op: Op) -> tuple[Sequence[str], str | None]:
    """The funds that an operation changes, and the receipt whose life it has to know."""
    match op:
        case HoldOp(scopes=scopes):
            return scopes, None
        case SettleOp(held=held) | ReleaseOp(held=held):
            return [scope for scope, _ in held.claims], held.hold.receipt
        case ExpireOp(row=row, claims=claims):
            return [scope for scope, _ in claims], row.receipt
        case PayOp(account=account, receipt=receipt):
            return [account_scope(account)], receipt


def apply(batch: Sequence[Op], seen: Seen) -> tuple[list[Result], Changes]:
    """Each operation in turn, as if it were alone. `seen` has what `concerns` names for all of them."""
    draft = _Draft(seen)
    results = [draft.take(op) for op in batch]
    return results, draft.changes()


class _Draft:
    """The state while a batch is applied to it."""

    def __init__(self, seen: Seen) -> None:
        self._funds = dict(seen.funds)
        self._holds = dict(seen.holds)
        self._kinds = dict(seen.kinds)
        self._entries: list[EntryRow] = []
        self._touched: set[str] = set()
        self._opened: list[HoldRow] = []
        self._closed: list[str] = []

    def changes(self) -> Changes:
        return Changes(
            entries=self._entries,
            funds=[self._funds[scope] for scope in sorted(self._touched)],
            opened=self._opened,
            closed=self._closed,
        )

    def take(self, op: Op) -> Result:
        match op:
            case HoldOp():
                return self._hold(op)
            case SettleOp():
                return self._settle(op)
            case ReleaseOp():
                return self._release(op)
            case ExpireOp():
                return self._expire(op)
            case PayOp():
                return self._pay(op)

    def _hold(self, op: HoldOp) -> Held | StudioError:
        hold = op.hold
        quota, free_tokens = hold.free, 0
        if quota is not None:
            used = self._funds[op.scopes[-1]]
            if used.spent >= quota.tokens:
                if quota.only:
                    return free_quota_exhausted()
                # There is never more of it: whether any is left need not be asked again.
                quota = None
            else:
                free_tokens = min(max(0, quota.tokens - used.spent - used.held), hold.tokens_max)
        amount = reservation(hold, free_tokens)
        refusal = self._refusal(op, amount)
        if refusal is not None:
            return refusal
        claims = [(scope, amount) for scope in op.scopes[: 1 + len(hold.budgets)]]
        if quota is not None:
            # Also where all that is left is claimed by others: they may use less.
            claims.append((op.scopes[-1], free_tokens))
        for scope, reserved in claims:
            self._add(scope, held=reserved)
        held = Held(hold, amount, free_tokens, tuple(claims))
        row = HoldRow(hold.receipt, hold.expires_at, write_claims(held.claims))
        self._opened.append(row)
        self._holds[hold.receipt] = row
        self._entries.append(_hold_entry(op, held, quota))
        return held

    def _refusal(self, op: HoldOp, amount: int) -> StudioError | None:
        """Why the money does not reach, if it does not."""
        hold = op.hold
        balance = self._funds[op.scopes[0]]
        if hold.prepaid and balance.spent + balance.held + amount > balance.granted:
            return arrearage(
                f"the balance of the account {hold.account} does not cover {amount} nano-units"
            )
        for claim, scope in zip(hold.budgets, op.scopes[1:], strict=False):
            budget = self._funds[scope]
            if budget.spent + budget.held + amount > claim.amount:
                return budget_exhausted(claim, op.at)
        return None

    def _settle(self, op: SettleOp) -> int | StudioError:
        held, receipt = op.held, op.held.hold.receipt
        if receipt in self._holds:
            self._end(receipt, held.claims)
        elif self._kinds.get(receipt) != _EXPIRED:
            return self._not_open(receipt, "settled")
        amount, free = settlement(held.hold, op.usage, self._free_tokens(held))
        for scope, _ in held.claims:
            self._add(scope, spent=sum(free) if is_free_scope(scope) else amount)
        self._conclude(_settle_entry(op, amount, free))
        return amount

    def _free_tokens(self, held: Held) -> int:
        """How many tokens an answer has free whose own claim was given back: that much in any case."""
        quota, (scope, _) = held.hold.free, held.claims[-1]
        if quota is None or not is_free_scope(scope):
            return 0
        used = self._funds[scope]
        return max(held.free_tokens, quota.tokens - used.spent - used.held)

    def _release(self, op: ReleaseOp) -> bool | StudioError:
        receipt = op.held.hold.receipt
        if receipt in self._holds:
            self._end(receipt, op.held.claims)
            self._conclude(_end_entry("release", op.at, op.ending, op.held.hold))
            return True
        if self._kinds.get(receipt) == _EXPIRED:
            # What it would give back was given back already.
            return False
        return self._not_open(receipt, "released")

    def _expire(self, op: ExpireOp) -> bool:
        if op.row.receipt not in self._holds or op.row.expires_at > op.at:
            return False
        self._end(op.row.receipt, op.claims)
        self._conclude(_end_entry("expire", op.at, "", op.entry))
        return True

    def _pay(self, op: PayOp) -> bool | StudioError:
        if self._kinds.get(op.receipt):
            return False
        scope = account_scope(op.account)
        if abs(self._funds[scope].granted + op.amount) > AMOUNT_MAX:
            return StudioError(ErrorKind.INVALID_PARAMETER, "The balance would be out of range.")
        self._add(scope, granted=op.amount)
        self._entries.append(
            EntryRow(op.receipt, op.kind, op.at, op.account, amount=op.amount, note=op.note)
        )
        self._kinds[op.receipt] = frozenset({op.kind})
        return True

    def _add(self, scope: str, *, granted: int = 0, spent: int = 0, held: int = 0) -> None:
        if granted or spent or held:
            old = self._funds[scope]
            self._funds[scope] = FundsRow(
                scope, old.granted + granted, old.spent + spent, old.held + held
            )
            self._touched.add(scope)

    def _end(self, receipt: str, claims: Claims) -> None:
        del self._holds[receipt]
        self._closed.append(receipt)
        for scope, reserved in claims:
            self._add(scope, held=-reserved)

    def _conclude(self, entry: EntryRow) -> None:
        self._entries.append(entry)
        self._kinds[entry.receipt] = self._kinds.get(entry.receipt, _HELD) | {entry.kind}

    def _not_open(self, receipt: str, verb: str) -> StudioError:
        kinds = ", ".join(sorted(self._kinds.get(receipt, ()))) or "nothing"
        return StudioError(
            ErrorKind.INTERNAL,
            "An internal error has occured, please try again later or contact service support.",
            detail=f"{receipt} cannot be {verb}: on the ledger it has {kinds}",
        )


_HELD = frozenset({"hold"})
_EXPIRED = frozenset({"hold", "expire"})


def _hold_entry(op: HoldOp, held: Held, quota: FreeQuota | None) -> EntryRow:
    hold = op.hold
    free_prompt = min(held.free_tokens, hold.prompt_tokens)
    return EntryRow(
        receipt=hold.receipt,
        kind="hold",
        at=op.at,
        account=hold.account,
        workspace=hold.workspace,
        key_id=hold.key_id,
        region=hold.region,
        model=hold.model,
        price_id=hold.price.id,
        amount=held.amount,
        reserved_tokens=hold.tokens_max,
        prompt_tokens=hold.prompt_tokens,
        explicit_cache=hold.explicit,
        completion_tokens=hold.completion_max,
        thinking=hold.thinking,
        free_prompt_tokens=free_prompt,
        free_completion_tokens=held.free_tokens - free_prompt,
        note=_note(op, quota),
    )


def _settle_entry(op: SettleOp, amount: int, free: tuple[int, int]) -> EntryRow:
    hold, usage = op.held.hold, op.usage
    return EntryRow(
        receipt=hold.receipt,
        kind="settle",
        at=op.at,
        account=hold.account,
        workspace=hold.workspace,
        key_id=hold.key_id,
        region=hold.region,
        model=hold.model,
        price_id=hold.price.id,
        amount=amount,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        cache_creation_tokens=usage.cache_creation_tokens,
        explicit_cache=usage.explicit_cache,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        thinking=hold.thinking,
        free_prompt_tokens=free[0],
        free_completion_tokens=free[1],
        ending=op.ending,
    )


def _end_entry(kind: str, at: int, ending: str, of: Hold | EntryRow) -> EntryRow:
    return EntryRow(
        receipt=of.receipt,
        kind=kind,
        at=at,
        account=of.account,
        workspace=of.workspace,
        key_id=of.key_id,
        region=of.region,
        model=of.model,
        price_id=of.price.id if isinstance(of, Hold) else of.price_id,
        thinking=of.thinking,
        ending=ending,
    )


# What an entry keeps of its hold besides the numbers, so that everything can be recomputed from entries alone: until
# when it was kept, in which budgets' periods it counted, on which free quota it drew, and whether on nothing else.


class HoldNote(Struct, frozen=True):
    """`budgets` are the scopes claimed, in their order. Older entries do not say the `quota` that they drew on."""

    expires_at: int
    budgets: tuple[str, ...] = ()
    only_free: bool = False
    quota: int | None = None


def _note(op: HoldOp, quota: FreeQuota | None) -> str:
    words = [f"until={op.hold.expires_at}"]
    for claim, scope in zip(op.hold.budgets, op.scopes[1:], strict=False):
        words.append(f"{claim.owner}={scope.rpartition(':')[2]}")
    if op.hold.only_free:
        words.append("free=only")
    if quota is not None:
        words.append(f"quota={quota.tokens}")
    return " ".join(words)


def read_note(entry: EntryRow) -> HoldNote:
    """What the entry of a hold says of it. Raises ValueError for what `_note` does not write."""
    expires_at: int | None = None
    budgets: list[str] = []
    only_free = False
    quota: int | None = None
    owners = {"account": entry.account, "workspace": entry.workspace, "key": entry.key_id}
    for word in entry.note.split(" "):
        match word.split("="):
            case ["until", seconds]:
                expires_at = int(seconds)
            case ["account" | "workspace" | "key" as owner, period]:
                budgets.append(f"{owner}:{owners[owner]}:{period}")
            case ["free", "only"]:
                only_free = True
            case ["quota", tokens]:
                quota = int(tokens)
            case _:
                raise ValueError(f"the note of a hold has {word!r}")
    if expires_at is None:
        raise ValueError("the note of a hold does not say until when")
    return HoldNote(expires_at, tuple(budgets), only_free, quota)


def write_claims(claims: Claims) -> str:
    return msgspec.json.encode(claims).decode()


def read_claims(text: str) -> Claims:
    """Raises ValueError for what `write_claims` does not write."""
    return _CLAIMS.decode(text)


_CLAIMS = msgspec.json.Decoder(Claims)
