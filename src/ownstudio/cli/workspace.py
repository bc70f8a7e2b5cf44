"""`ownstudio workspace`: groups of keys, and what they may do, also while a server runs on the same data."""

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from ownstudio.cli.listing import print_json, print_table
from ownstudio.cli.options import JsonOption, StoreOptions, given, grouped
from ownstudio.cli.rules_options import RulesOptions, clear_option, read_cleared, rules_text

if TYPE_CHECKING:
    from ownstudio.accounts.admin import Change
    from ownstudio.accounts.directory import Directory
    from ownstudio.accounts.principal import Workspace
    from ownstudio.store.database import Database

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and change workspaces, the groups of keys in an account. A running server knows within a second.",
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@app.command()
@grouped
def create(
    store: StoreOptions,
    rules: RulesOptions,
    workspace_id: IdArgument,
    account: Annotated[str, typer.Option(help="Account that pays for it.")] = "default",
    name: Annotated[str, typer.Option(help="What the workspace is for.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a workspace. Its rules hold for all of its keys together; those of a key can only be tighter.

    Examples:

      ownstudio workspace create research

      ownstudio workspace create interns --models qwen3-coder-flash --rpm 60

      ownstudio workspace create web --account shop --budget 100/month
    """

    async def act(database: "Database", _: "Change") -> "Workspace":
        return await _directory(database).create_workspace(
            workspace_id, account=account, name=name, rules=rules.apply()
        )

    asked = given(rules, account=account, name=name)
    _print_one(store.change("workspace.create", workspace_id, act, asked), as_json)


@app.command("list")
@grouped
def list_(
    store: StoreOptions,
    account: Annotated[
        str | None, typer.Option(help="Only those of this account.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List workspaces, with what they may do.

    Examples:

      ownstudio workspace list

      ownstudio workspace list --account shop --json
    """
    found = store.use(lambda database: _directory(database).workspaces(account))
    if as_json:
        print_json([to_builtins(one) for one in found])
        return
    rows = [("ID", "ACCOUNT", "RULES", "NAME")]
    rows += [(one.id, one.account, rules_text(one.rules), one.name) for one in found]
    print_table(rows)


@app.command("set")
@grouped
def set_(
    store: StoreOptions,
    rules: RulesOptions,
    workspace_id: IdArgument,
    name: Annotated[
        str | None, typer.Option(help="What the workspace is for.", show_default=False)
    ] = None,
    clear: Annotated[list[str] | None, clear_option()] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a workspace may do; what is not named stays as it is.

    Examples:

      ownstudio workspace set research --limit qwen3-max=60/100000 --concurrency 8

      ownstudio workspace set research --clear models --clear budget
    """

    async def act(database: "Database", _: "Change") -> "Workspace":
        cleared = read_cleared(clear)
        return await _directory(database).update_workspace(
            workspace_id, name=name, rules=lambda before: rules.apply(before, cleared)
        )

    asked = given(rules, name=name, clear=clear)
    _print_one(store.change("workspace.update", workspace_id, act, asked), as_json)


def _directory(database: "Database") -> "Directory":
    from ownstudio.accounts.directory import Directory  # noqa: PLC0415

    return Directory(database)


def _print_one(one: "Workspace", as_json: bool) -> None:
    if as_json:
        print_json(to_builtins(one))
    else:
        typer.echo(f"{one.id}: in the account {one.account}; {rules_text(one.rules)}", err=True)
