"""One source of settings read into a layer: a flat table of key, value and where it came from.

A layer knows which keys exist, not yet which values are allowed.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ownstudio.settings.fields import DEPLOYMENTS, Key, dotted, find, is_table, known, unknown_key
from ownstudio.settings.tree import DEFAULT_DEPLOYMENTS, SettingsError

ENVIRONMENT_PREFIX = "OWNSTUDIO_"
FILE_SUFFIX = "_FILE"
FILE_MAX_BYTES = 1024**2

# Two underscores separate the levels of a variable's name, so a name may not contain them.
_DEPLOYMENT_NAME = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHOWN_MAX = 80
# What Kubernetes tells each container of every Service beside it, behind the Service's name.
_SERVICE_HOST = "_SERVICE_HOST"
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST=.*|_SERVICE_PORT(_\w+)?=.*|_PORT=\w+://.*|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*"
)


class Given(msgspec.Struct, frozen=True):
    """A value as somebody wrote it. `base` is the directory from which its relative path counts."""

    value: Any
    source: str
    textual: bool = False
    base: Path | None = None


Layer = dict[Key, Given]


def from_flags(overrides: Mapping[str, Any]) -> Layer:
    layer: Layer = {}
    for name, value in overrides.items():
        key = tuple(name.split("."))
        find(key)
        layer[key] = Given(value, f"--{key[-1].replace('_', '-')}")
    return layer


def from_file(path: Path) -> Layer:
    try:
        if path.stat().st_size > FILE_MAX_BYTES:
            raise SettingsError(
                f"{path} is longer than {FILE_MAX_BYTES} bytes: is it the right file?"
            )
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(
            f"the settings file {path} cannot be read: {error.strerror or error}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    base = path.absolute().parent
    return {key: Given(value, str(path), base=base) for key, value in _leaves(table, (), str(path))}


def _leaves(table: Mapping[str, Any], prefix: Key, place: str) -> Iterator[tuple[Key, Any]]:
    for name, value in table.items():
        key = (*prefix, name)
        if prefix == (DEPLOYMENTS,):
            _check_name(name, place)
        if is_table(key):
            if not isinstance(value, dict):
                raise SettingsError(
                    f"{dotted(key)} = {shown(value)} (in {place}): must be a table, "
                    f"written as [{dotted(key)}]"
                )
            if len(key) == 2 and "weights" not in value:
                raise no_weights(key, place)
            yield from _leaves(value, key, place)
        else:
            if not known(key):
                raise unknown_key(key, f" (in {place})")
            yield key, value


def from_environment(variables: Mapping[str, str], declared: set[str]) -> Layer:
    """The settings among the variables. Names of deployments are matched to `declared` ones, whatever their case."""
    names = {_as_variable(name): name for name in (*DEFAULT_DEPLOYMENTS, *declared)}
    layer: Layer = {}
    for variable, text in sorted(variables.items()):
        parts = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
        key = tuple(part.lower() for part in parts)
        if key[0] == DEPLOYMENTS and len(key) > 1:
            key = (key[0], names.get(parts[1].upper(), key[1]), *key[2:])
            _check_name(key[1], variable)
        given = Given(text, variable, textual=True)
        if not known(key):
            key, given = _secret_from_file(key, variable, text)
        if key in layer:
            raise SettingsError(
                f"{layer[key].source} and {variable} both set {dotted(key)}: unset one of them"
            )
        layer[key] = given
    return layer


def without_service_links(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables less those that Kubernetes sets for a Service named `ownstudio`, or so at its beginning."""
    services = tuple(
        name.removesuffix(_SERVICE_HOST) for name in variables if name.endswith(_SERVICE_HOST)
    )
    return {
        name: value
        for name, value in variables.items()
        if not any(
            name.startswith(service) and _SERVICE_LINK.fullmatch(f"{name[len(service) :]}={value}")
            for service in services
        )
    }


def _secret_from_file(key: Key, variable: str, path: str) -> tuple[Key, Given]:
    secret = (*key[:-1], key[-1].removesuffix(FILE_SUFFIX.lower()))
    if secret == key or not known(secret) or not find(secret).secret:
        raise unknown_key(key, f" (the environment variable {variable})")
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(FILE_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"{variable} = {path!r}: the file cannot be read: {reason}") from None
    return secret, Given(text.rstrip("\r\n"), variable, textual=True)


def no_weights(key: Key, place: str) -> SettingsError:
    return SettingsError(
        f"{dotted(key)}.weights (in {place}) is missing: say what to load, "
        'for example weights = "bundled" or weights = "/models/qwen.gguf"'
    )


def _check_name(name: str, place: str) -> None:
    if not _DEPLOYMENT_NAME.fullmatch(name):
        raise SettingsError(
            f"deployments.{name} (in {place}): a deployment's name is 1 to 64 letters, digits, '.', '_' or '-', "
            "begins with a letter or digit and has no two underscores in a row"
        )


def _as_variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 80 else f"{text[: _SHOWN_MAX - 3]}..."
