"""Statements: what was used and charged in a time, added up by whom, what or when. Sums are exact.

A request counts at the time of its settlement; what was released or expired is in no statement.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from ownstudio.store import ledger as table
from ownstudio.store.database import Database

# What can be told apart, in the words of the command line and the admin API, and the columns that they mean.
GROUPS = {
    "account": "account",
    "workspace": "workspace",
    "key": "key_id",
    "region": "region",
    "model": "model",
    "day": "day",
}
FILTERS = {name: column for name, column in GROUPS.items() if name != "day"}

# The sums of a line, in the order in which people read them.
SUMS = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "cache_creation_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "free_tokens",
    "amount",
)


class Line(Struct, frozen=True):
    """The sums of one group. `group` has a value for each thing told apart, a day as 2026-11-23; amounts are nanos.

    Totals include their parts, as in `core.events.Usage`.
    """

    group: dict[str, str]
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_creation_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    free_tokens: int = 0
    amount: int = 0


class Statement(Struct, frozen=True):
    """From `since` until before `until` (Unix seconds)."""

    since: int
    until: int
    lines: tuple[Line, ...]
    total: Line


async def statement(
    database: Database,
    by: Sequence[str],
    since: int,
    until: int,
    filters: Mapping[str, str] | None = None,
) -> Statement:
    """What was used. `by` has names of `GROUPS`, `filters` values for names of `FILTERS`.

    Raises ValueError for other names, StoreError.
    """
    if unknown := [name for name in by if name not in GROUPS]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(GROUPS)}")
    if unknown := [name for name in filters or {} if name not in FILTERS]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(FILTERS)}")
    chosen = list(dict.fromkeys(by))
    async with database.snapshot() as connection:
        rows = await table.usage(
            connection,
            [GROUPS[name] for name in chosen],
            since,
            until,
            {FILTERS[name]: value for name, value in (filters or {}).items()},
        )
    lines = tuple(
        Line(
            {name: _text(name, value) for name, value in zip(chosen, row.group, strict=True)},
            *(getattr(row, name) for name in SUMS),
        )
        for row in rows
    )
    total = Line({}, *(sum(getattr(line, name) for line in lines) for name in SUMS))
    return Statement(since, until, lines if chosen else (), total)


def _text(name: str, value: str | int) -> str:
    if name == "day":
        return datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%d")
    return str(value)
