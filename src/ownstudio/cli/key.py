"""`ownstudio key`: make, list, change and revoke keys, also while a server runs on the same data."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET, UnsetType, to_builtins

from ownstudio.cli.common import fail
from ownstudio.cli.listing import print_json, print_table, when
from ownstudio.cli.options import JsonOption, StoreOptions, given, grouped, seconds
from ownstudio.cli.rules_options import RulesOptions, clear_option, read_cleared, rules_text

if TYPE_CHECKING:
    from ownstudio.accounts.admin import Change
    from ownstudio.accounts.keys import KeyInfo, Keyring, NewKey
    from ownstudio.store.database import Database

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list, change and revoke the keys that clients send. A running server knows within a second.",
)

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="As `ownstudio key list` shows it.", show_default=False)
]
ExpiryOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="When the key ends, from now, such as 12h, 30d or 52w; never if it is never given.",
        show_default=False,
    ),
]


@app.command()
@grouped
def create(
    store: StoreOptions,
    rules: RulesOptions,
    name: Annotated[str, typer.Option(help="What the key is for, to tell it from others.")] = "",
    workspace: Annotated[
        str, typer.Option(help="Workspace that the key belongs to; it is made if need be.")
    ] = "default",
    region: Annotated[str, typer.Option(help="Region that the key is valid in.")] = "local",
    expires_in: ExpiryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: it is not stored and cannot be shown again.

    Examples:

      ownstudio key create --name laptop

      export DASHSCOPE_API_KEY=$(ownstudio key create)

      ownstudio key create --json --workspace research --expires-in 30d

      ownstudio key create --models qwen3-coder-plus --rpm 60 --tpm 100000

      ownstudio key create --addresses 10.0.0.0/8 --budget 12.50/month
    """

    async def act(database: "Database", change: "Change") -> "NewKey":
        _check_region(region)
        expires_at = None if expires_in is None else _from_now(expires_in)
        new = await _keyring(database).create(name, workspace, region, expires_at, rules.apply())
        change.target = new.id
        return new

    asked = given(rules, name=name, workspace=workspace, region=region, expires_in=expires_in)
    new = store.change("key.create", "", act, asked)
    _print_new(new, as_json)
    if new.made_workspace:
        typer.echo(
            f"The workspace {workspace} is new: it was made in the account default, without rules of its own.",
            err=True,
        )


@app.command("list")
@grouped
def list_(store: StoreOptions, as_json: JsonOption = False) -> None:
    """List all keys, masked, with when they were made and last used, and what they may do.

    Example:

      ownstudio key list
    """
    found = store.use(lambda database: _keyring(database).list())
    if as_json:
        print_json([to_builtins(key) for key in found])
    elif found:
        _print_keys(found)
    else:
        typer.echo("There is no key yet: `ownstudio key create` makes one.", err=True)


@app.command("set")
@grouped
def set_(
    store: StoreOptions,
    rules: RulesOptions,
    key_id: IdArgument,
    name: Annotated[
        str | None, typer.Option(help="What the key is for.", show_default=False)
    ] = None,
    expires_in: ExpiryOption = None,
    clear: Annotated[list[str] | None, clear_option("expiry")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a key may do; what is not named stays as it is.

    Examples:

      ownstudio key set key-0123456789abcdef --rpm 60 --limit qwen3-max=10/20000

      ownstudio key set key-0123456789abcdef --models qwen3-coder-plus,qwen-plus

      ownstudio key set key-0123456789abcdef --clear models --clear expiry
    """

    async def act(database: "Database", _: "Change") -> "KeyInfo":
        cleared = read_cleared(clear, "expiry")
        expires_at: int | UnsetType | None = None if "expiry" in cleared else UNSET
        if expires_in is not None:
            expires_at = _from_now(expires_in)
        return await _keyring(database).update(
            key_id,
            name=name,
            rules=lambda before: rules.apply(before, cleared),
            expires_at=expires_at,
        )

    asked = given(rules, name=name, expires_in=expires_in, clear=clear)
    changed = store.change("key.update", key_id, act, asked)
    if as_json:
        print_json(to_builtins(changed))
    else:
        typer.echo(f"{key_id}: {_state(changed)}; {rules_text(changed.rules)}", err=True)


@app.command()
@grouped
def disable(store: StoreOptions, key_id: IdArgument) -> None:
    """Refuse a key until it is enabled again.

    Example:

      ownstudio key disable key-0123456789abcdef
    """
    _disable(store, key_id, disabled=True)
    typer.echo(f"{key_id} is disabled.", err=True)


@app.command()
@grouped
def enable(store: StoreOptions, key_id: IdArgument) -> None:
    """Accept a key again that was disabled.

    Example:

      ownstudio key enable key-0123456789abcdef
    """
    _disable(store, key_id, disabled=False)
    typer.echo(f"{key_id} is enabled.", err=True)


@app.command()
@grouped
def rotate(
    store: StoreOptions,
    key_id: IdArgument,
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long the old key goes on, such as 1h or 7d.",
            show_default="not at all",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a key: print a new one of the same name, workspace, region, rules and expiry, and end the old one.

    The new key has an ID of its own, and so its limits and its budget begin anew.

    Examples:

      ownstudio key rotate key-0123456789abcdef

      ownstudio key rotate key-0123456789abcdef --overlap 24h
    """

    async def act(database: "Database", change: "Change") -> "NewKey":
        overlap_s = 0 if overlap is None else seconds(overlap)
        new = await _keyring(database).rotate(key_id, overlap_s)
        change.detail["new_key"] = new.id
        return new

    new = store.change("key.rotate", key_id, act, given(overlap=overlap))
    _print_new(new, as_json)
    ending = "is revoked" if overlap is None else f"ends in {overlap} at the latest"
    typer.echo(f"{key_id} {ending}.", err=True)
    if new.disabled:
        typer.echo(f"{new.id} is disabled, as {key_id} is.", err=True)


@app.command()
@grouped
def revoke(store: StoreOptions, key_id: IdArgument) -> None:
    """Revoke a key for good.

    Example:

      ownstudio key revoke key-0123456789abcdef
    """

    async def act(database: "Database", change: "Change") -> bool:
        change.detail["revoked"] = revoked = await _keyring(database).revoke(key_id)
        return revoked

    if not store.change("key.revoke", key_id, act):
        fail(f"{key_id} is no key in use; `ownstudio key list` shows every key by its ID")
    typer.echo(f"{key_id} is revoked.", err=True)


def _keyring(database: "Database") -> "Keyring":
    from ownstudio.accounts.keys import Keyring  # noqa: PLC0415

    return Keyring(database)


def _check_region(region: str) -> None:
    """Raises ValueError for a region that no server can play: a key of it would be refused everywhere."""
    from ownstudio.catalog.terms import REGIONS  # noqa: PLC0415

    if region not in REGIONS:
        raise ValueError(f"{region!r} is no region: the regions are {', '.join(REGIONS)}")


def _disable(store: StoreOptions, key_id: str, *, disabled: bool) -> None:
    async def act(database: "Database", _: "Change") -> None:
        await _keyring(database).update(key_id, disabled=disabled)

    store.change("key.update", key_id, act, {"disabled": disabled})


def _from_now(duration: str) -> int:
    return int(time.time()) + seconds(duration)


def _print_new(new: "NewKey", as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "key": new.secret,
                "id": new.id,
                "name": new.name,
                "workspace": new.workspace,
                "region": new.region,
                "expires_at": new.expires_at,
            }
        )
        return
    typer.echo(new.secret)
    typer.echo(f"{new.id}: keep this key, it is not shown again.", err=True)


def _print_keys(found: list["KeyInfo"]) -> None:
    rows = [("ID", "KEY", "MADE", "LAST USED", "STATE", "WORKSPACE", "REGION", "RULES", "NAME")]
    rows += [
        (
            key.id,
            key.masked,
            when(key.created_at),
            when(key.last_used_at),
            _state(key),
            key.workspace,
            key.region,
            rules_text(key.rules),
            key.name,
        )
        for key in found
    ]
    print_table(rows)


def _state(key: "KeyInfo") -> str:
    if key.revoked_at is not None:
        return f"revoked {when(key.revoked_at)}"
    if key.expires_at is not None and key.expires_at <= time.time():
        return f"expired {when(key.expires_at)}"
    if key.disabled_at is not None:
        return f"disabled {when(key.disabled_at)}"
    if key.expires_at is not None:
        return f"until {when(key.expires_at)}"
    return "in use"
