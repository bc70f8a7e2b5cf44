"""`ownstudio usage`: what was used and what it cost, added up."""

import csv
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ownstudio.cli.common import USAGE, fail, load
from ownstudio.cli.listing import print_json, print_table
from ownstudio.cli.options import JsonOption, StoreOptions, grouped

if TYPE_CHECKING:
    from ownstudio.billing.statements import Statement
    from ownstudio.store.database import Database

DAY_S = 86_400

_HEADINGS = {
    "requests": "REQUESTS",
    "prompt_tokens": "INPUT",
    "cached_tokens": "CACHED",
    "cache_creation_tokens": "CREATED",
    "completion_tokens": "OUTPUT",
    "reasoning_tokens": "REASONING",
    "free_tokens": "FREE",
    "amount": "AMOUNT",
}


@grouped
def usage(
    store: StoreOptions,
    by: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="What to tell apart: account, workspace, key, region, model, day."
        ),
    ] = "account,model",
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="The first day (UTC).",
            show_default="the first of all",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="The last day (UTC), all of it.",
            show_default="today",
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this account.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
) -> None:
    """Add up what was used: requests, tokens and their price.

    INPUT has CACHED and CREATED (new blocks of the cache) in it, OUTPUT has
    REASONING, and FREE is what the free quota paid. A request counts on the
    day on which it was answered. Amounts are in the server's currency; JSON
    has them in billionths of it.

    Examples:

      ownstudio usage --from 2026-11-01 --to 2026-11-30

      ownstudio usage --by day,model --account shop --csv
    """
    if as_json and as_csv:
        fail("--json and --csv cannot be had together", status=USAGE)
    currency = load(store.config, data=store.data).settings.billing.currency
    first = 0 if since is None else _seconds(since)
    last = int(time.time()) // DAY_S * DAY_S if until is None else _seconds(until)
    names = [name.strip() for name in by.split(",") if name.strip()]

    async def act(database: "Database") -> "Statement":
        from ownstudio.billing.statements import statement  # noqa: PLC0415

        filters = {} if account is None else {"account": account}
        return await statement(database, names, first, last + DAY_S, filters)

    found = store.use(act)
    if as_json:
        from msgspec import to_builtins  # noqa: PLC0415

        print_json(to_builtins(found) | {"currency": currency})
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(_rows(found, names))
    else:
        rows = [*_rows(found, names), *([_total(found, names)] if names and found.lines else [])]
        head, *rest = rows
        shown = [name.upper() for name in head[: len(head) - len(_HEADINGS)]]
        print_table([(*shown, *_HEADINGS.values()), *rest])
        typer.echo(f"Amounts are in {currency}.", err=True)


def _rows(found: "Statement", names: list[str]) -> list[tuple[str, ...]]:
    """The names of the columns, then the lines; grouped by nothing, the total is the one line."""
    from ownstudio.core.money import plain_amount  # noqa: PLC0415

    groups = list(dict.fromkeys(names))
    lines = found.lines if groups else (found.total,)
    rows: list[tuple[str, ...]] = [(*groups, *_HEADINGS)]
    for line in lines:
        sums = [str(getattr(line, name)) for name in _HEADINGS if name != "amount"]
        rows.append((*(line.group[name] for name in groups), *sums, plain_amount(line.amount)))
    return rows


def _total(found: "Statement", names: list[str]) -> tuple[str, ...]:
    from ownstudio.core.money import plain_amount  # noqa: PLC0415

    sums = [str(getattr(found.total, name)) for name in _HEADINGS if name != "amount"]
    blank = ["total", *[""] * (len(set(names)) - 1)]
    return (*blank, *sums, plain_amount(found.total.amount))


def _seconds(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp())
