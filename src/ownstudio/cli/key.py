"""`ownstudio key`: make, list and revoke keys, also while a server runs on the same data."""

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ownstudio.cli.common import USAGE, ConfigOption, DataOption, fail, failing_plainly, load

if TYPE_CHECKING:
    from ownstudio.accounts.keys import KeyInfo, Keyring

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke the keys that clients send. A running server knows within a second.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def create(
    config: ConfigOption = None,
    data: DataOption = None,
    name: Annotated[str, typer.Option(help="What the key is for, to tell it from others.")] = "",
    workspace: Annotated[str, typer.Option(help="Workspace that the key belongs to.")] = "default",
    region: Annotated[str, typer.Option(help="Region that the key is valid in.")] = "local",
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: it is not stored and cannot be shown again.

    Examples:

      ownstudio key create --name laptop

      export DASHSCOPE_API_KEY=$(ownstudio key create)

      ownstudio key create --json --workspace research
    """
    try:
        new = _with_keyring(config, data, lambda keyring: keyring.create(name, workspace, region))
    except ValueError as error:
        fail(str(error), status=USAGE)
    if as_json:
        _print_json(
            {
                "key": new.secret,
                "id": new.id,
                "name": new.name,
                "workspace": new.workspace,
                "region": new.region,
            }
        )
    else:
        typer.echo(new.secret)
        typer.echo(f"{new.id}: keep this key, it is not shown again.", err=True)


@app.command("list")
def list_(
    config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List all keys, masked, with when they were made and last used.

    Example:

      ownstudio key list
    """
    found = _with_keyring(config, data, lambda keyring: keyring.list())
    if as_json:
        _print_json([{name: getattr(key, name) for name in key.__struct_fields__} for key in found])
    elif found:
        _print_table(found)
    else:
        typer.echo("There is no key yet: `ownstudio key create` makes one.", err=True)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `ownstudio key list` shows it.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Revoke a key for good.

    Example:

      ownstudio key revoke key-0123456789abcdef
    """
    if not _with_keyring(config, data, lambda keyring: keyring.revoke(key_id)):
        fail(f"{key_id} is no key in use; `ownstudio key list` shows all keys by their ID")
    typer.echo(f"{key_id} is revoked.", err=True)


def _with_keyring(
    config: ConfigOption, data: DataOption, act: Callable[["Keyring"], Awaitable[T]]
) -> T:
    """Open the store that the settings name, making it where there is none, and act on its keys."""
    settings = load(config, data=data).settings
    import asyncio  # noqa: PLC0415

    from ownstudio.accounts.keys import Keyring  # noqa: PLC0415
    from ownstudio.store.database import Database, sqlite_url  # noqa: PLC0415
    from ownstudio.store.directory import DataDirectory  # noqa: PLC0415

    async def run() -> T:
        directory = DataDirectory(settings.data)
        directory.prepare()
        database = await Database.open(settings.database_url or sqlite_url(directory.database))
        try:
            return await act(Keyring(database))
        finally:
            await database.close()

    with failing_plainly():
        return asyncio.run(run())


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _print_table(found: list["KeyInfo"]) -> None:
    """Plain columns, never folded: an ID is there to be copied, and a line to be grepped."""
    rows = [("ID", "KEY", "MADE", "LAST USED", "STATE", "WORKSPACE", "REGION", "NAME")]
    rows += [
        (
            key.id,
            key.masked,
            _when(key.created_at),
            _when(key.last_used_at),
            _state(key),
            key.workspace,
            key.region,
            key.name,
        )
        for key in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _when(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _state(key: "KeyInfo") -> str:
    if key.revoked_at is not None:
        return f"revoked {_when(key.revoked_at)}"
    if key.expires_at is not None:
        return f"until {_when(key.expires_at)}"
    return "in use"
