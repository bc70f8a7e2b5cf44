"""Groups of options that several commands share, and the values that such options are written as.

A group is a dataclass; a command that takes one as a parameter has its options.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ownstudio.cli.common import USAGE, ConfigOption, DataOption, fail, failing_plainly, load

if TYPE_CHECKING:
    from ownstudio.accounts.admin import Change
    from ownstudio.store.database import Database

T = TypeVar("T")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups are given as the options of these groups."""
    signature = inspect.signature(command)
    groups: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    options: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        group = groups.get(name)
        inside = [parameter] if group is None else inspect.signature(group).parameters.values()
        options += [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in inside]

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    return run


@dataclass(frozen=True)
class StoreOptions:
    """Which database."""

    config: ConfigOption = None
    data: DataOption = None

    def use(self, act: Callable[["Database"], Awaitable[T]]) -> T:
        """Open the store that the settings name, making it where there is none, and act on it.

        What `act` refuses as wrong, or as not there, ends the program with a sentence.
        """
        settings = load(self.config, data=self.data).settings
        import asyncio  # noqa: PLC0415

        from ownstudio.accounts.changes import Missing  # noqa: PLC0415
        from ownstudio.store.database import opened  # noqa: PLC0415
        from ownstudio.store.directory import DataDirectory  # noqa: PLC0415

        async def run() -> T:
            async with opened(settings.database_url, DataDirectory(settings.data)) as database:
                try:
                    return await act(database)
                except Missing as error:
                    fail(
                        f"{error}; `ownstudio {error.what} list` shows every {error.what} by its ID"
                    )
                except ValueError as error:
                    fail(str(error), status=USAGE)

        with failing_plainly():
            return asyncio.run(run())

    def change(
        self,
        action: str,
        target: str,
        act: "Callable[[Database, Change], Awaitable[T]]",
        asked: Mapping[str, Any] | None = None,
    ) -> T:
        """As `use`, and the audit log has what was `asked` and what came of it."""

        async def audited(database: "Database") -> T:
            from ownstudio.accounts.admin import COMMAND_LINE, AuditLog  # noqa: PLC0415

            async with AuditLog(database).change(COMMAND_LINE, action, target, asked) as change:
                return await act(database, change)

        return self.use(audited)


def given(*groups: object, **options: object) -> dict[str, object]:
    """Those options of a command, alone and in groups, that were given."""
    for group in groups:
        options |= vars(group)
    return {name: value for name, value in options.items() if value not in (None, "")}


def seconds(text: str) -> int:
    """The seconds of a duration such as 30d. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration such as 45s, 90m, 12h, 30d or 2w")
    return int(found[1]) * _UNITS[found[2]]
