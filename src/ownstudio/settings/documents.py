"""The settings tree as text: the tree in force, the commented example file, the settings page.

All three are made from the declarations in `tree`; `make docs` writes the last two into
a checkout, and a test refuses ones that are out of date.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import groupby
from typing import Any

import msgspec

from ownstudio.settings.fields import ANY_DEPLOYMENT, DEPLOYMENTS, Field, Key, dotted, fields, find
from ownstudio.settings.load import Loaded
from ownstudio.settings.machine import cores, engine_threads
from ownstudio.settings.tree import (
    DEFAULT_DEPLOYMENTS,
    Admin,
    Billing,
    Cache,
    Deployment,
    Limits,
    Log,
    Server,
)

HIDDEN = "(hidden)"

_COMMENT_WIDTH = 100
_DEFAULT_DATA = "~/.local/share/ownstudio"


def tree_in_force(loaded: Loaded) -> str:
    """Every setting with its value and its source, as TOML that `serve` would read; secrets are hidden."""
    lines = [f"# settings file: {loaded.config or 'none'}"]
    table: Key = ()
    for key, value in _values(loaded):
        if key[:-1] != table:
            table = key[:-1]
            lines += ["", f"[{_table_name(table)}]"]
        source = loaded.sources[dotted(key)]
        if find(key).secret and value:
            lines.append(f"# {key[-1]} = {HIDDEN}  # {source}")
        else:
            lines.append(f"{key[-1]} = {toml_value(value)}  # {source}{_note(key, value)}")
    return "\n".join(lines) + "\n"


def example_file() -> str:
    """A settings file in which every setting stands commented out, with its meaning and its default."""
    blocks = [
        "# The settings of Ownstudio. Nothing here is needed: every setting is shown with its default.\n"
        "# To change one, take the `#` off its line and off its [table]. The server refuses to start with\n"
        "# a key that it does not know. docs/settings.md tells more."
    ]
    name = next(iter(DEFAULT_DEPLOYMENTS))
    for table, group in groupby(fields(), key=lambda field: field.key[:-1]):
        if table:
            blocks.append(
                f"{_comment(_table_meaning(table))}\n#[{_table_name(_named(table, name))}]"
            )
        for field in group:
            value = toml_value(_example_value(field, name))
            blocks.append(
                f"{_comment(f'{field.meaning} Allowed: {field.allowed}.')}\n#{field.key[-1]} = {value}"
            )
    return "\n\n".join(blocks) + "\n"


def settings_page() -> str:
    """The reference page in Markdown."""
    parts = [_PAGE_HEAD]
    for table, group in groupby(fields(), key=lambda field: field.key[:-1]):
        title = f"`[{dotted(table)}]`" if table else "Top level"
        rows = [
            f"| `{field.key[-1]}` | {_default_cell(field)} | {field.meaning}{_secret_cell(field)} "
            f"| {field.allowed} | `{_variable(field)}` |"
            for field in group
        ]
        parts.append(
            f"## {title}\n\n{_table_meaning(table)}\n\n"
            "| key | default | meaning | allowed | environment |\n|---|---|---|---|---|\n"
            + "\n".join(rows)
        )
    return "\n\n".join(parts) + "\n"


def toml_value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case tuple() | list():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case _:
            # A JSON string is a TOML string but for DEL, which TOML wants escaped.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _values(loaded: Loaded) -> Iterator[tuple[Key, Any]]:
    settings = loaded.settings
    for field in fields():
        if ANY_DEPLOYMENT not in field.key:
            yield field.key, reduce(getattr, field.key, settings)
    for name, deployment in settings.deployments.items():
        for leaf in deployment.__struct_fields__:
            yield (DEPLOYMENTS, name, leaf), getattr(deployment, leaf)


def _note(key: Key, value: Any) -> str:
    if key[0] == DEPLOYMENTS and key[-1] == "threads" and value == 0:
        return f": {engine_threads(0)} here, of {cores()} cores"
    return ""


def _table_name(table: Key) -> str:
    """The key of a table as TOML writes it; a deployment's name may hold dots."""
    return ".".join(
        part if part.replace("-", "_").isidentifier() else toml_value(part) for part in table
    )


def _named(table: Key, name: str) -> Key:
    return tuple(name if part == ANY_DEPLOYMENT else part for part in table)


def _example_value(field: Field, deployment: str) -> Any:
    if field.key == ("data",):
        return _DEFAULT_DATA
    if field.key[:1] == (DEPLOYMENTS,):
        return DEFAULT_DEPLOYMENTS[deployment].get(field.key[-1], field.default)
    return field.default


def _default_cell(field: Field) -> str:
    if field.key == ("data",):
        return f"`{_DEFAULT_DATA}`"
    if field.default is msgspec.NODEFAULT:
        return "none: must be given"
    return f"`{toml_value(field.default)}`"


def _secret_cell(field: Field) -> str:
    return " Secret: never shown; may also come from a file." if field.secret else ""


def _variable(field: Field) -> str:
    name = "OWNSTUDIO_" + "__".join(part.upper() for part in field.key)
    return f"{name}` or `{name}_FILE" if field.secret else name


def _table_meaning(table: Key) -> str:
    structs: Mapping[Key, type[msgspec.Struct]] = {
        ("server",): Server,
        ("log",): Log,
        ("limits",): Limits,
        ("billing",): Billing,
        ("cache",): Cache,
        ("admin",): Admin,
        (DEPLOYMENTS, ANY_DEPLOYMENT): Deployment,
    }
    return (structs[table].__doc__ or "").strip() if table else "Where things are kept."


def _comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, _COMMENT_WIDTH - 2))


_PAGE_HEAD = """\
# Settings

<!-- Made from src/ownstudio/settings/tree.py by `make docs`; edits here are lost. -->

Ownstudio needs no settings. What you do set comes from four places; an earlier one wins:

1. flags of `ownstudio serve`: `--host`, `--port`, `--data`;
2. environment variables: `OWNSTUDIO_` and the key in capitals, with two underscores between levels, such as
   `OWNSTUDIO_SERVER__PORT=9000`. In the name of a deployment everything but letters and digits becomes an underscore:
   `OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__THREADS=2`. A list is written with commas. A secret may stand in a file that
   the variable with `_FILE` at its end names. What Kubernetes sets by itself for a Service named `ownstudio`, such as
   `OWNSTUDIO_SERVICE_HOST` and `OWNSTUDIO_PORT=tcp://10.0.0.11:8000`, is left out;
3. the file: the one that `--config` names, else the one in `OWNSTUDIO_CONFIG`, else `ownstudio.toml` in the working
   directory, else `ownstudio.toml` in the data directory. `ownstudio.example.toml` shows every setting. A relative path
   in the file counts from the file's directory;
4. the defaults below.

A key that does not exist, or a value that is not allowed, stops the start with a sentence that names both.
`ownstudio check` prints the tree in force and where each value came from.

Without any deployment of your own there is one, `ownstudio-tiny`: the model in the package, which answers every model
name. The first deployment that you declare takes its place."""
