"""`ownstudio account`: who pays, how, and what all of its workspaces may do, also while a server runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from ownstudio.cli.listing import print_json, print_table, when
from ownstudio.cli.options import JsonOption, StoreOptions, given, grouped
from ownstudio.cli.rules_options import RulesOptions, clear_option, read_cleared, rules_text

if TYPE_CHECKING:
    from ownstudio.accounts.admin import Change
    from ownstudio.accounts.directory import Directory
    from ownstudio.accounts.principal import Account
    from ownstudio.store.database import Database

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and change accounts, which own workspaces and pay. A running server knows within a second.",
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@dataclass(frozen=True)
class PayingOptions:
    """What an account is and how it pays."""

    name: Annotated[str | None, typer.Option(help="Whose it is.", show_default=False)] = None
    prepaid: Annotated[
        bool | None,
        typer.Option(
            "--prepaid/--postpaid",
            help="Answer only as far as what was paid in reaches, or add up what is owed.",
            show_default="postpaid",
        ),
    ] = None
    free_only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Answer this model only while its free quota lasts; * is every model. May be repeated.",
            show_default=False,
        ),
    ] = None

    def free_models(self) -> frozenset[str] | None:
        return frozenset(self.free_only) if self.free_only else None


@app.command()
@grouped
def create(
    store: StoreOptions,
    paying: PayingOptions,
    rules: RulesOptions,
    account_id: IdArgument,
    as_json: JsonOption = False,
) -> None:
    """Make an account. Its free quotas begin now, and its rules hold for all of its workspaces together.

    Examples:

      ownstudio account create shop --prepaid

      ownstudio account create guests --free-only '*' --rpm 60
    """

    async def act(database: "Database", _: "Change") -> "Account":
        return await _directory(database).create_account(
            account_id,
            name=paying.name or "",
            prepaid=bool(paying.prepaid),
            free_only=paying.free_models() or frozenset(),
            rules=rules.apply(),
        )

    asked = given(paying, rules)
    _print_one(store.change("account.create", account_id, act, asked), as_json)


@app.command("list")
@grouped
def list_(store: StoreOptions, as_json: JsonOption = False) -> None:
    """List accounts, with how they pay and what they may do.

    Example:

      ownstudio account list
    """
    found = store.use(lambda database: _directory(database).accounts())
    if as_json:
        print_json([_described(one) for one in found])
        return
    rows = [("ID", "MADE", "STATE", "PAYS", "FREE ONLY", "RULES", "NAME")]
    rows += [
        (
            one.id,
            when(one.activated_at),
            "suspended" if one.suspended else "in use",
            _pays(one),
            ",".join(sorted(one.free_only)) or "-",
            rules_text(one.rules),
            one.name,
        )
        for one in found
    ]
    print_table(rows)


@app.command("set")
@grouped
def set_(
    store: StoreOptions,
    paying: PayingOptions,
    rules: RulesOptions,
    account_id: IdArgument,
    suspended: Annotated[
        bool | None,
        typer.Option(
            "--suspend/--resume", help="Answer none of its keys, or all again.", show_default=False
        ),
    ] = None,
    clear: Annotated[list[str] | None, clear_option("free-only")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change an account; what is not named stays as it is.

    Examples:

      ownstudio account set shop --suspend

      ownstudio account set default --limit qwen3-max=600/1000000

      ownstudio account set guests --clear free-only --postpaid
    """

    async def act(database: "Database", _: "Change") -> "Account":
        cleared = read_cleared(clear, "free-only")
        return await _directory(database).update_account(
            account_id,
            name=paying.name,
            prepaid=paying.prepaid,
            suspended=suspended,
            free_only=paying.free_models() or (frozenset() if "free-only" in cleared else None),
            rules=lambda before: rules.apply(before, cleared),
        )

    asked = given(paying, rules, suspended=suspended, clear=clear)
    _print_one(store.change("account.update", account_id, act, asked), as_json)


def _directory(database: "Database") -> "Directory":
    from ownstudio.accounts.directory import Directory  # noqa: PLC0415

    return Directory(database)


def _described(one: "Account") -> dict[str, Any]:
    described: dict[str, Any] = to_builtins(one)
    return described | {"free_only": sorted(one.free_only)}


def _print_one(one: "Account", as_json: bool) -> None:
    if as_json:
        print_json(_described(one))
        return
    state = "suspended" if one.suspended else "in use"
    typer.echo(f"{one.id}: {state}, {_pays(one)}; {rules_text(one.rules)}", err=True)


def _pays(one: "Account") -> str:
    return "prepaid" if one.prepaid else "postpaid"
