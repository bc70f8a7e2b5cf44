"""What every command shares: its options, the settings they give, and how it fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ownstudio.settings import Loaded, SettingsError, load_settings

FAILED = 1
USAGE = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. Without it: ./ownstudio.toml, or the one in the data directory, if there is one.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Directory for keys, pulled models and the database.",
        show_default=False,
    ),
]


def load(config: Path | None, **flags: Any) -> Loaded:
    """The settings in force under these flags; ends the program with status 2 where they are wrong.

    A flag's name has two underscores where its key has a dot; a flag that was not given is None.
    """
    overrides = {
        name.replace("__", "."): value for name, value in flags.items() if value is not None
    }
    if "data" in overrides:
        overrides["data"] = str(overrides["data"])
    try:
        return load_settings(config, overrides=overrides)
    except SettingsError as error:
        fail(str(error), status=USAGE)


@contextmanager
def failing_plainly() -> Iterator[None]:
    """Ends the program with one sentence where the store or the weights fail in a way that they foresaw."""
    # Both are imported by now, or nothing of theirs can have been raised.
    from ownstudio.engines.weights.spec import WeightsError  # noqa: PLC0415
    from ownstudio.store.directory import StoreError  # noqa: PLC0415

    try:
        yield
    except (StoreError, WeightsError) as error:
        fail(str(error))


def fail(message: str, status: int = FAILED) -> NoReturn:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    Console(stderr=True, soft_wrap=True).print(Text("error: ", style="bold red") + Text(message))
    raise typer.Exit(status)
