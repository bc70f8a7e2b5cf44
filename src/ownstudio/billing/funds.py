"""What money and tokens are reserved from: an account's balance, a budget in one period, a free quota.

Each is one row of sums, found by its scope. A balance is what was paid in, and bounds a prepaid account. A budget
bounds what the requests cost that were let in under it in one day or month (UTC): it counts from when it was set. A
free quota is tokens; what is left of it is reserved as far as it reaches, and counts once it is used.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError

Period = Literal["day", "month"]
Owner = Literal["account", "workspace", "key"]

_FORMATS = {"day": "%Y-%m-%d", "month": "%Y-%m"}


class BudgetClaim(Struct, frozen=True):
    """A budget that a request has to fit in: the owner's, at most `amount` nano-units in each period."""

    owner: Owner
    amount: int
    period: Period = "month"


class FreeQuota(Struct, frozen=True):
    """Tokens that an account has free for a model, of which some may be used. `only`: nothing but these is answered,
    and nothing is ever charged."""

    tokens: int
    only: bool = False


def account_scope(account: str) -> str:
    return f"account:{account}"


def budget_scope(owner: Owner, owner_id: str, period: str) -> str:
    """`period` is the text that `period_name` gives. No ID has a colon in it."""
    return f"{owner}:{owner_id}:{period}"


def free_scope(account: str, region: str, model: str) -> str:
    return f"free:{account}:{region}:{model}"


def is_free_scope(scope: str) -> bool:
    """Whether a scope is that of a free quota, whose sums are tokens and not money."""
    return scope.startswith("free:")


def period_name(period: Period, at: int) -> str:
    """The day or month (UTC) that a time is in, such as 2026-11-23 or 2026-11."""
    return datetime.fromtimestamp(at, UTC).strftime(_FORMATS[period])


def period_end(period: Period, at: int) -> datetime:
    """When the next day or month begins."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day + timedelta(days=1)
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def arrearage(detail: str) -> StudioError:
    return StudioError(
        ErrorKind.ARREARAGE,
        "Access denied, please make sure your account is in good standing.",
        detail=detail,
    )


def budget_exhausted(claim: BudgetClaim, at: int) -> StudioError:
    """Whose budget and until when; no amounts, which are the owner's business and not every key holder's."""
    return StudioError(
        ErrorKind.BUDGET_EXHAUSTED,
        f"What is left of the {claim.owner}'s budget for {period_name(claim.period, at)} does not cover this request. "
        f"The next {claim.period} begins at {period_end(claim.period, at):%Y-%m-%dT%H:%M:%SZ}.",
    )


def free_quota_exhausted() -> StudioError:
    return StudioError(
        ErrorKind.FREE_QUOTA_EXHAUSTED,
        "The free tier of the model has been exhausted. If you want to continue access the model on a paid basis, "
        'please disable the "use free tier only" mode in the management console.',
    )
