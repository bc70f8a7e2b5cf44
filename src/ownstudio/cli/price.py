"""`ownstudio price`: show what tokens cost, and set it, also while a server runs on the same data."""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ownstudio.cli.common import USAGE, ConfigOption, DataOption, fail, failing_plainly, load

if TYPE_CHECKING:
    from ownstudio.billing.prices import NewPrice, Price, PriceBook, Terms
    from ownstudio.settings import Settings
    from ownstudio.store.database import Database

T = TypeVar("T")

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

app = typer.Typer(
    no_args_is_help=True,
    help="Show and import the prices of models. A price is never changed: a newer one takes over at its date.",
)


@app.command("list")
def list_(
    config: ConfigOption = None,
    data: DataOption = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Only this model.", show_default=False)
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="REGION", help="Only this region.", show_default=False)
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=DATES,
            metavar="DATE",
            help="The prices in force at this time, UTC.",
            show_default="now",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """List the prices in force, per million tokens. The model * stands for all without a price of their own.

    Examples:

      ownstudio price list --region local

      ownstudio price list --model qwen3-coder-plus --at 2026-12-31
    """
    settings = load(config, data=data).settings
    time_s = time.time() if at is None else _seconds(at)

    async def act(_: "Database", book: "PriceBook") -> list[tuple["Price", str]]:
        return [
            (price, book.origin(price))
            for price in _chosen(book.in_force(time_s), model)
            if region in (None, price.region)
        ]

    found = _with_book(settings, act)
    if as_json:
        _print_json([_described(price, origin) for price, origin in found])
    elif found:
        _print_table(
            [(p.model, p.region, p.terms, p.effective_from, origin) for p, origin in found]
        )
        typer.echo(f"All in {found[0][0].currency} per million tokens.", err=True)
    else:
        typer.echo("There is no such price.", err=True)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="TOML file of prices.",
            exists=True,
            dir_okay=False,
            readable=True,
            show_default=False,
        ),
    ],
    config: ConfigOption = None,
    data: DataOption = None,
    effective_from: Annotated[
        datetime | None,
        typer.Option(
            formats=DATES,
            metavar="DATE",
            help="When the prices take over, UTC; never in the past.",
            show_default="now",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show the prices, and change nothing.")
    ] = False,
) -> None:
    """Import prices from a TOML file: all of them, or none where one is wrong.

    From then on the catalogue of a newer version does not change them. A
    file looks like this; amounts are per million tokens, upto is the largest
    number of input tokens for which a tier holds, thinking the price of
    output while the model thinks, and cache is in percent of the price of
    input, 100 where it is not given. The model "*" is every model of the
    region that has no price of its own.

      [\\[price]]
      model = "qwen3-coder-plus"
      region = "local"
      tiers = [
      { upto = 32000, input = 1.0, output = 5 },
      { input = "1.80", output = "9.00", thinking = "12.00" },
      ]
      cache = { implicit_hit = 20, explicit_hit = 10, creation = 125 }

    Examples:

      ownstudio price import prices.toml --dry-run

      ownstudio price import prices.toml --effective-from 2027-01-01
    """
    settings = load(config, data=data).settings
    from ownstudio.billing.price_file import parse_prices  # noqa: PLC0415
    from ownstudio.billing.prices import NOTE_MAX  # noqa: PLC0415

    start = None if effective_from is None else _seconds(effective_from)
    note = "".join(letter for letter in file.name if letter.isprintable())[:NOTE_MAX]

    async def act(database: "Database", book: "PriceBook") -> int | None:
        from ownstudio.accounts.admin import COMMAND_LINE, AuditLog  # noqa: PLC0415

        if dry_run:
            book.check_import(prices, start, note)
            return start
        asked = {
            "prices": [f"{new.model} in {new.region}" for new in prices],
            "effective_from": start,
            "note": note,
        }
        async with AuditLog(database).change(COMMAND_LINE, "prices.import", detail=asked):
            return (await book.import_prices(prices, start, note))[0].effective_from

    try:
        prices = parse_prices(_text(file), settings.billing.currency)
        since = _with_book(settings, act)
    except ValueError as error:
        fail(f"{file}: {error}", status=USAGE)
    _print_table([(new.model, new.region, new.terms, since, f"import: {note}") for new in prices])
    _warn_of_unknown(prices, settings)
    what = f"{len(prices)} {'price' if len(prices) == 1 else 'prices'}"
    if dry_run:
        typer.echo(f"{what} to import; nothing was changed.", err=True)
    else:
        typer.echo(f"{what} imported, in force from {_when(since)}.", err=True)


def _with_book(settings: "Settings", act: Callable[["Database", "PriceBook"], Awaitable[T]]) -> T:
    """Open the store that the settings name, making it where there is none, and act on its prices.

    What the catalogue publishes goes on record first, as it would when a server starts: an import is laid over it.
    """
    import asyncio  # noqa: PLC0415

    from ownstudio.billing.prices import PriceBook, published_prices  # noqa: PLC0415
    from ownstudio.catalog import read_entries  # noqa: PLC0415
    from ownstudio.settings import SettingsError  # noqa: PLC0415
    from ownstudio.store.database import opened  # noqa: PLC0415
    from ownstudio.store.directory import DataDirectory  # noqa: PLC0415

    billing = settings.billing

    async def run() -> T:
        async with opened(settings.database_url, DataDirectory(settings.data)) as database:
            book = PriceBook(database, billing.currency)
            await book.load(
                published_prices(read_entries().values(), billing.currency, billing.local_prices)
            )
            return await act(database, book)

    with failing_plainly():
        try:
            return asyncio.run(run())
        except SettingsError as error:
            fail(str(error), status=USAGE)


def _chosen(prices: list["Price"], model: str | None) -> list["Price"]:
    """The prices of a model, or those that it falls back on where it has none."""
    from ownstudio.billing.prices import EVERY_MODEL  # noqa: PLC0415

    if model is None:
        return prices
    own = [price for price in prices if price.model == model]
    return own or [price for price in prices if price.model == EVERY_MODEL]


def _warn_of_unknown(prices: Sequence["NewPrice"], settings: "Settings") -> None:
    from ownstudio.billing.prices import EVERY_MODEL  # noqa: PLC0415
    from ownstudio.catalog import read_entries  # noqa: PLC0415

    known = {EVERY_MODEL, *read_entries(), *settings.deployments}
    for deployment in settings.deployments.values():
        known.update(deployment.routes)
    for name in sorted({new.model for new in prices} - known):
        typer.echo(
            f"{name} is no model of the catalogue and no deployment's name or route.", err=True
        )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("the file is not text in UTF-8") from None


def _seconds(date: datetime) -> int:
    return int(date.replace(tzinfo=UTC).timestamp())


def _when(seconds: int | None) -> str:
    if seconds is None:
        return "now"
    if seconds == 0:
        return "the beginning"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _described(price: "Price", origin: str) -> dict[str, Any]:
    from ownstudio.billing.price_file import describe_terms  # noqa: PLC0415

    return {
        "id": price.id,
        "model": price.model,
        "region": price.region,
        "currency": price.currency,
        "effective_from": price.effective_from,
        "origin": origin,
        **describe_terms(price.terms),
    }


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _print_table(prices: Sequence[tuple[str, str, "Terms", int | None, str]]) -> None:
    """Plain columns, never folded, one line for each tier: a line is there to be grepped."""
    rows = [
        ("MODEL", "REGION", "UP TO", "INPUT", "OUTPUT", "THINKING", "CACHE %", "SINCE", "ORIGIN")
    ]
    for model, region, terms, since, origin in prices:
        rows += [(model, region, *cells, _when(since), origin) for cells in _tier_cells(terms)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _tier_cells(terms: "Terms") -> list[tuple[str, str, str, str, str]]:
    from ownstudio.core.money import plain_amount  # noqa: PLC0415

    cache = f"{terms.implicit_hit}/{terms.explicit_hit}/{terms.creation}"
    return [
        (
            "any" if tier.upto is None else str(tier.upto),
            plain_amount(tier.input),
            plain_amount(tier.output),
            plain_amount(tier.thinking_output),
            cache,
        )
        for tier in terms.tiers
    ]
