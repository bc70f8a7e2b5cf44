"""The root of the command line, and the commands about the server itself."""

import sys
from typing import Annotated

import typer

from ownstudio import __version__
from ownstudio.cli import account, admin, key, ledger, model, price, workspace
from ownstudio.cli.common import USAGE, ConfigOption, DataOption, fail, load
from ownstudio.cli.conformance import conformance
from ownstudio.cli.migrate import migrate
from ownstudio.cli.usage import usage

app = typer.Typer(
    name="ownstudio",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Documentation: docs/ in the source, docs/settings.md for every setting.",
)
app.add_typer(account.app, name="account")
app.add_typer(workspace.app, name="workspace")
app.add_typer(key.app, name="key")
app.add_typer(model.app, name="model")
app.add_typer(price.app, name="price")
app.add_typer(admin.app, name="admin")
app.add_typer(ledger.app, name="ledger")
app.command()(usage)
app.command()(migrate)
app.command()(conformance)


def main() -> None:
    """Run the command line and exit."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ownstudio {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # noqa: ARG001, RUF100 - read by its callback
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A Model Studio that you own: Qwen models on your hardware, behind the APIs of Alibaba Cloud Model Studio.

    [bold]ownstudio serve[/bold] is all it takes: it serves the model in the
    package on 127.0.0.1:8000 and prints a request to try.
    """


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Address or name to listen on; 0.0.0.0 is every network.",
            show_default="127.0.0.1",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Port to listen on.", show_default="8000"),
    ] = None,
    data: DataOption = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Examples:

      ownstudio serve

      ownstudio serve --port 9000 --data /var/lib/ownstudio

      ownstudio serve --config /etc/ownstudio.toml
    """
    loaded = load(config, server__host=host, server__port=port, data=data)
    from ownstudio.app import serve as run  # noqa: PLC0415

    raise typer.Exit(run(loaded))


@app.command()
def check(
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Print all settings in force, where each came from, and stop at the first mistake that `serve` would refuse.

    Secrets are hidden. What is printed is a settings file itself. Nothing is started or connected to.

    Examples:

      ownstudio check

      ownstudio check --config /etc/ownstudio.toml
    """
    loaded = load(config, data=data)
    from ownstudio.app import check_settings  # noqa: PLC0415
    from ownstudio.settings import SettingsError  # noqa: PLC0415
    from ownstudio.settings.documents import tree_in_force  # noqa: PLC0415
    from ownstudio.store.directory import StoreError  # noqa: PLC0415

    try:
        check_settings(loaded.settings)
    except (SettingsError, StoreError) as error:
        fail(str(error), status=USAGE)
    sys.stdout.write(tree_in_force(loaded))
