"""`ownstudio conformance`: hold a server to what Model Studio is known to answer."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from ownstudio.cli.common import FAILED, USAGE, fail

if TYPE_CHECKING:
    from ownstudio.conformance import Outcome, Target

KEY_VARIABLE = "DASHSCOPE_API_KEY"


def conformance(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The server's root, such as http://127.0.0.1:8000.")
    ],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help=f"Without it: {KEY_VARIABLE}.", show_default=False),
    ] = None,
    dialect: Annotated[
        Literal["openai", "dashscope"] | None,
        typer.Option(help="Only this one.", show_default="both"),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The model to chat with.")
    ] = "qwen-plus",
    coder: Annotated[
        str, typer.Option(metavar="NAME", help="The model that completes code.")
    ] = "qwen2.5-coder-32b-instruct",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Send requests whose answers are known from Model Studio, and tell where a server's answers differ.

    Works against any server, the real one too, where it costs a few hundred
    tokens. Exits with 0 when every case passes, with 1 when one differs or
    nothing answers.

    Examples:

      ownstudio conformance http://127.0.0.1:8000 --key $(cat ~/.local/share/ownstudio/first-key)

      ownstudio conformance https://dashscope-intl.aliyuncs.com --dialect dashscope --json
    """
    secret = key or os.environ.get(KEY_VARIABLE, "")
    if not secret:
        fail(f"no key: give --key or set {KEY_VARIABLE}", USAGE)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        fail(f"not the root of a server: {url} (such as http://127.0.0.1:8000)", USAGE)
    import asyncio  # noqa: PLC0415

    from ownstudio.conformance import Target, Unreachable, as_json, print_table  # noqa: PLC0415

    target = Target(f"{parts.scheme}://{parts.netloc}", secret, model, coder)
    try:
        outcomes = asyncio.run(_outcomes(target, dialect))
    except Unreachable as error:
        fail(f"{target.url} does not answer: {error}", FAILED)
    if json:
        sys.stdout.write(as_json(target.url, outcomes).decode() + "\n")
    else:
        from rich.console import Console  # noqa: PLC0415

        print_table(outcomes, Console(highlight=False, soft_wrap=True))
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(FAILED)


async def _outcomes(
    target: "Target", dialect: Literal["openai", "dashscope"] | None
) -> "list[Outcome]":
    from ownstudio.conformance import cases_for, run_cases  # noqa: PLC0415

    return [outcome async for outcome in run_cases(target, cases_for(dialect))]
