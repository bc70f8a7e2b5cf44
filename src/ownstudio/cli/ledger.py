"""`ownstudio ledger`: check every bill, follow one request through its money, take a payment."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ownstudio.cli.common import FAILED, fail, load
from ownstudio.cli.listing import print_json, print_table, when
from ownstudio.cli.options import JsonOption, StoreOptions, grouped

if TYPE_CHECKING:
    from ownstudio.billing.verify import Difference, Summary
    from ownstudio.store.database import Database
    from ownstudio.store.ledger import EntryRow, FundsRow

app = typer.Typer(
    no_args_is_help=True,
    help="Check the ledger, look up a receipt, take payments. It may all be done beside a running server.",
)


@app.command()
@grouped
def verify(store: StoreOptions, as_json: JsonOption = False) -> None:
    """Recompute every amount from raw counts and the price in force, and every sum from the entries.

    Each difference is a line, the last line a summary. Exit status 1 where
    there is any difference. With --json each line is a JSON object.

    Examples:

      ownstudio ledger verify

      ownstudio ledger verify --json | jq 'select(.receipt)'
    """
    currency = load(store.config, data=store.data).settings.billing.currency
    from msgspec.structs import asdict  # noqa: PLC0415

    def report(difference: "Difference") -> None:
        if as_json:
            print_json(asdict(difference))
        else:
            typer.echo(
                f"{difference.receipt}  {difference.what}: {difference.expected} expected, "
                f"{difference.found} found"
            )

    async def act(database: "Database") -> "Summary":
        from ownstudio.billing.verify import verify as run  # noqa: PLC0415

        with _bar() as progress:
            return await run(database, currency, report, progress)

    summary = store.use(act)
    if as_json:
        print_json(asdict(summary))
    else:
        found = f"{summary.differences} differences" if summary.differences else "no difference"
        typer.echo(
            f"{summary.entries} entries of {summary.receipts} receipts, {summary.open_holds} open holds, "
            f"{summary.sums} sums: {found}"
        )
    if summary.differences:
        raise typer.Exit(FAILED)


@app.command()
@grouped
def show(
    store: StoreOptions,
    receipt: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT",
            help="As the answer's headers name it, or a payment.",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show the life of one receipt: what was held, what it used, what it cost.

    Example:

      ownstudio ledger show chatcmpl-5b3c0e1f
    """
    currency = load(store.config, data=store.data).settings.billing.currency
    from msgspec.structs import asdict  # noqa: PLC0415

    async def act(database: "Database") -> "list[EntryRow]":
        from ownstudio.store.ledger import entries_of  # noqa: PLC0415

        async with database.snapshot() as connection:
            return await entries_of(connection, receipt)

    found = store.use(act)
    if not found:
        fail(f"there is no entry of {receipt} on the ledger")
    if as_json:
        print_json([asdict(entry) for entry in found])
    else:
        _print_life(found, currency)


@app.command()
@grouped
def pay(
    store: StoreOptions,
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="Who paid.", show_default=False)
    ],
    amount: Annotated[
        str,
        typer.Argument(metavar="AMOUNT", help="In the server's currency.", show_default=False),
    ],
    note: Annotated[str, typer.Option(help="What for, at most 200 characters.")] = "",
    reference: Annotated[
        str,
        typer.Option(help="Your own number for it: paid again under the same one, it counts once."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Add a payment to an account's balance, which bounds what a prepaid account may use.

    Examples:

      ownstudio ledger pay shop 250.00 --note "invoice 17"

      ownstudio ledger pay shop 250.00 --reference bank-2026-11-0042
    """
    settings = load(store.config, data=store.data).settings
    from ownstudio.core.money import parse_amount, show_amount  # noqa: PLC0415

    async def act(database: "Database") -> "tuple[str, bool, FundsRow]":
        from ownstudio.accounts.admin import COMMAND_LINE, AuditLog  # noqa: PLC0415
        from ownstudio.accounts.changes import Missing  # noqa: PLC0415
        from ownstudio.billing.ledger import Ledger  # noqa: PLC0415
        from ownstudio.core.errors import StudioError  # noqa: PLC0415
        from ownstudio.store.accounts import account as find  # noqa: PLC0415
        from ownstudio.store.database import database_url  # noqa: PLC0415
        from ownstudio.store.directory import DataDirectory  # noqa: PLC0415

        nanos = parse_amount(amount)
        async with database.snapshot() as connection:
            if await find(connection, account) is None:
                raise Missing("account", f"there is no account {account}")
        url = database_url(settings.database_url, DataDirectory(settings.data))
        ledger = Ledger.open(database, url)
        try:
            async with AuditLog(database).change(COMMAND_LINE, "account.pay", account) as change:
                receipt, new = await ledger.top_up(account, nanos, note, reference)
                change.detail |= {"receipt": receipt, "new": new}
            return receipt, new, await ledger.balance(account)
        except StudioError as error:
            fail(error.detail or error.message)
        finally:
            await ledger.close()

    receipt, new, funds = store.use(act)
    balance = funds.granted - funds.spent
    if as_json:
        print_json({"receipt": receipt, "new": new, "account": account, "balance": balance})
    else:
        typer.echo(receipt)
        if not new:
            typer.echo("It was paid before: nothing has changed.", err=True)
        typer.echo(
            f"The balance of {account} is now {show_amount(balance, settings.billing.currency)}.",
            err=True,
        )


def _print_life(found: "list[EntryRow]", currency: str) -> None:
    from ownstudio.core.money import show_amount  # noqa: PLC0415

    first = found[0]
    of = [("account", first.account)]
    if first.model:
        of += [
            ("workspace", first.workspace),
            ("key", first.key_id),
            ("model", f"{first.model} in {first.region}"),
            ("price", str(first.price_id)),
        ]
    print_table(of)
    typer.echo()
    rows = [("WHEN", "WHAT", "AMOUNT", "INPUT", "CACHED", "CREATED", "OUTPUT", "FREE", "HOW")]
    rows += [
        (
            when(entry.at),
            entry.kind,
            show_amount(entry.amount, currency),
            str(entry.prompt_tokens),
            str(entry.cached_tokens),
            str(entry.cache_creation_tokens),
            str(entry.completion_tokens),
            str(entry.free_prompt_tokens + entry.free_completion_tokens),
            entry.ending or entry.note,
        )
        for entry in found
    ]
    print_table(rows)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; elsewhere nothing is heard of it."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("entries")
        yield lambda done, total: bar.update(task, completed=done, total=total)
