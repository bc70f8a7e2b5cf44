"""`ownstudio admin`: make, list and revoke the tokens of the admin API, also while a server runs on the same data."""

from typing import TYPE_CHECKING, Annotated

import typer

from ownstudio.cli.common import ConfigOption, DataOption, fail
from ownstudio.cli.listing import print_json, print_table, when
from ownstudio.cli.options import JsonOption, StoreOptions

if TYPE_CHECKING:
    from ownstudio.accounts.admin import AdminTokens, Change
    from ownstudio.store.database import Database

app = typer.Typer(no_args_is_help=True, help="The admin API: who may use it.")
token = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke admin tokens. A running server knows within a second.",
)
app.add_typer(token, name="token")


@token.command()
def create(
    config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Make a token and print it, once: it is not stored and cannot be shown again.

    Examples:

      ownstudio admin token create

      TOKEN=$(ownstudio admin token create)
    """

    async def act(database: "Database", change: "Change") -> tuple[str, str]:
        new = await _tokens(database).create()
        change.target = new.id
        return new.id, new.secret

    token_id, secret = StoreOptions(config, data).change("token.create", "", act)
    if as_json:
        print_json({"id": token_id, "token": secret})
    else:
        typer.echo(secret)
        typer.echo(f"{token_id}: keep this token, it is not shown again.", err=True)


@token.command("list")
def list_(
    config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List all tokens by their ID, with when they were made and revoked.

    Example:

      ownstudio admin token list
    """
    found = StoreOptions(config, data).use(lambda database: _tokens(database).list())
    if as_json:
        print_json([{name: getattr(one, name) for name in one.__struct_fields__} for one in found])
    elif found:
        rows = [
            (
                one.id,
                when(one.created_at),
                "in use" if one.revoked_at is None else f"revoked {when(one.revoked_at)}",
            )
            for one in found
        ]
        print_table([("ID", "MADE", "STATE"), *rows])
    else:
        typer.echo("There is no token yet: `ownstudio admin token create` makes one.", err=True)


@token.command()
def revoke(
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `ownstudio admin token list` shows it.")
    ],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Revoke a token for good.

    Example:

      ownstudio admin token revoke token-0123456789abcdef
    """

    async def act(database: "Database", change: "Change") -> bool:
        change.detail["revoked"] = revoked = await _tokens(database).revoke(token_id)
        return revoked

    if not StoreOptions(config, data).change("token.revoke", token_id, act):
        fail(f"{token_id} is no token in use; `ownstudio admin token list` shows all by their ID")
    typer.echo(f"{token_id} is revoked.", err=True)


def _tokens(database: "Database") -> "AdminTokens":
    from ownstudio.accounts.admin import AdminTokens  # noqa: PLC0415

    return AdminTokens(database)
