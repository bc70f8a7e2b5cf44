"""`ownstudio model`: which models are served, and the weights of this machine: brought from a hub, listed."""

import json
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer

from ownstudio.cli.common import (
    USAGE,
    ConfigOption,
    DataOption,
    fail,
    failing_plainly,
    load,
)

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ownstudio.catalog import Model

# A context so long that what is listed is what is published.
_UNBOUNDED = 1 << 40

app = typer.Typer(
    no_args_is_help=True,
    help="See which models are served, and bring weights from Hugging Face or ModelScope to this machine.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="REPO[:FILE]",
            help="A repository, and a GGUF file in it or a part of its name, such as Q8_0.",
        ),
    ],
    config: ConfigOption = None,
    data: DataOption = None,
    source: Annotated[
        Literal["hf", "ms"],
        typer.Option(
            "--from", help="hf: Hugging Face. ms: ModelScope. A prefix such as ms: also says it."
        ),
    ] = "hf",
) -> None:
    """Download a model. A pull that was stopped goes on where it was, and every file is checked by its SHA-256.

    Without FILE it takes the repository's only GGUF file, or else its only
    Q4_K_M, or else its only Q8_0; where that does not decide, it lists them.

    HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, MODELSCOPE_ENDPOINT and
    MODELSCOPE_API_TOKEN work as in the hubs' own tools.

    Examples:

      ownstudio model pull Qwen/Qwen3-0.6B-GGUF

      ownstudio model pull Qwen/Qwen3-4B-GGUF:Q8_0

      ownstudio model pull --from ms Qwen/Qwen3-0.6B-GGUF
    """
    settings = load(config, data=data).settings
    from ownstudio.engines.weights import HubSpec, WeightsError, parse_spec  # noqa: PLC0415
    from ownstudio.engines.weights.pull import pull as run  # noqa: PLC0415
    from ownstudio.store.directory import DataDirectory  # noqa: PLC0415

    try:
        spec = parse_spec(model if model.startswith(("hf:", "ms:")) else f"{source}:{model}")
    except WeightsError as error:
        fail(str(error), status=USAGE)
    if not isinstance(spec, HubSpec):
        fail(f"{model} is not REPO or REPO:FILE", status=USAGE)
    with failing_plainly():
        DataDirectory(settings.data).prepare()
        try:
            with _Bars() as bars:
                path = run(spec, settings.data, bars)
        except KeyboardInterrupt:
            fail("stopped; the same command goes on from here")
    typer.echo(path)
    typer.echo(
        f'To serve it, set weights = "{spec}" in a [deployments.NAME] of the settings.', err=True
    )


@app.command("list")
def list_(
    config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the models that clients may ask for, with the deployment that answers each.

    Lengths are tokens: what is published for the model, before the deployment's own context bounds it.

    Example:

      ownstudio model list
    """
    settings = load(config, data=data).settings
    from ownstudio.catalog import DeploymentRoutes, load_catalog  # noqa: PLC0415

    try:
        catalog = load_catalog(
            DeploymentRoutes(name=name, routes=one.routes, context=_UNBOUNDED, created=0)
            for name, one in settings.deployments.items()
        )
    except ValueError as error:
        fail(f"deployments: {error}", status=USAGE)
    if as_json:
        rows = [
            {"model": one.name, "deployment": one.deployment} | _abilities(one)
            for one in catalog.models()
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        _print_models(catalog.models())


def _abilities(model: "Model") -> dict[str, object]:
    bounded = model.input_max < _UNBOUNDED - 1
    return {
        "input_max": model.input_max if bounded else None,
        "output_max": model.output_max if bounded else None,
        "tools": model.features.tools,
        "partial": model.features.partial,
        "json": model.features.json,
        "completions": model.completions,
        "thinking": model.thinking.mode,
        "n_max": model.n_max,
    }


def _print_models(models: "list[Model]") -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Column, Table  # noqa: PLC0415

    headings = ("model", "deployment", "input", "output", "thinking", "serves")
    table = Table(*(Column(heading, no_wrap=True) for heading in headings), box=None)
    for one in models:
        abilities = _abilities(one)
        serves = [name for name in ("tools", "partial", "json", "completions") if abilities[name]]
        table.add_row(
            one.name,
            one.deployment,
            str(abilities["input_max"] or "-"),
            str(abilities["output_max"] or "-"),
            one.thinking.mode,
            ", ".join(serves),
        )
    # A line that is too long for the terminal is of use still; a name that is cut off is not.
    Console(width=max(Console().width, 140)).print(table)


@app.command()
def weights(
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the weights on this machine, as they are written in the settings.

    Example:

      ownstudio model weights
    """
    settings = load(config, data=data).settings
    from ownstudio.engines.weights import Pulled, pulled_models, resolve_weights  # noqa: PLC0415

    found = list(pulled_models(settings.data))
    with failing_plainly():
        bundled = resolve_weights("bundled", settings.data)
    found.insert(0, Pulled("bundled", bundled, bundled.stat().st_size, ""))
    if as_json:
        rows = [
            {
                "weights": one.spec,
                "path": str(one.path),
                "bytes": one.size_bytes,
                "sha256": one.sha256,
            }
            for one in found
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for one in found:
        typer.echo(f"{one.size_bytes / 1e6:>9,.1f} MB  {one.spec}")


class _Bars:
    """One progress bar per file on standard error; nothing where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, total_bytes: int) -> None:
        self._task = self._progress.add_task(name, total=total_bytes)

    def advance(self, count: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, count)
