"""Reads the settings: flags over environment over file over defaults.

Every layer is a flat table of key, value and where it came from; the layers are laid over each other and each value
that is left is converted once. Anything that is not understood stops the start.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ownstudio.settings.fields import ANY_DEPLOYMENT, DEPLOYMENTS, Field, Key, dotted, fields, find
from ownstudio.settings.layers import (
    ENVIRONMENT_PREFIX,
    Given,
    Layer,
    from_environment,
    from_file,
    from_flags,
    no_weights,
    shown,
    without_service_links,
)
from ownstudio.settings.tree import (
    DEFAULT_DEPLOYMENTS,
    Admin,
    Billing,
    Cache,
    Deployment,
    Limits,
    Log,
    Server,
    Settings,
    SettingsError,
    cross_check,
)

FILE_NAME = "ownstudio.toml"
# Where the file is, for places such as containers that have no command line to put --config on.
CONFIG_VARIABLE = "OWNSTUDIO_CONFIG"


class Loaded(msgspec.Struct, frozen=True):
    """The tree in force; where each value came from, by dotted key; the file that was read, if there was one."""

    settings: Settings
    sources: Mapping[str, str]
    config: Path | None


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read and check all settings. `overrides` are flags by dotted key, such as "server.port".

    The file is `config`, else $OWNSTUDIO_CONFIG, else ./ownstudio.toml, else ownstudio.toml in the data directory; only
    the first two must exist. Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    flags = from_flags(overrides or {})
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    variables = without_service_links(
        {
            name: value
            for name, value in environ.items()
            if name.startswith(ENVIRONMENT_PREFIX) and name != CONFIG_VARIABLE
        }
    )
    path = named or _find_file(_data_before_file(flags, variables, environ))
    file = {} if path is None else from_file(path)
    declared = {key[1] for key in file if key[0] == DEPLOYMENTS}
    env = from_environment(variables, declared)
    merged = _defaults(environ) | file | env | flags
    introduced = {
        key[1] for key in env | flags if key[0] == DEPLOYMENTS
    } - DEFAULT_DEPLOYMENTS.keys()
    if not declared and not introduced:
        merged = _default_deployments() | merged
    settings, sources = _build(merged)
    cross_check(settings)
    return Loaded(settings=settings, sources=sources, config=path)


def _find_file(data: Path) -> Path | None:
    return next((path for path in (Path(FILE_NAME), data / FILE_NAME) if path.is_file()), None)


def _data_before_file(
    flags: Layer, variables: Mapping[str, str], environ: Mapping[str, str]
) -> Path:
    """The data directory as far as it is known without the file that may lie in it."""
    variable = f"{ENVIRONMENT_PREFIX}DATA"
    given = _defaults(environ)["data",]
    if variables.get(variable):
        given = Given(variables[variable], variable)
    given = flags.get(("data",), given)
    return _anchored(Path(given.value), given)


def _defaults(environ: Mapping[str, str]) -> Layer:
    home = environ.get("XDG_DATA_HOME") or "~/.local/share"
    layer: Layer = {("data",): Given(str(Path(home) / "ownstudio"), "default")}
    for field in fields():
        if ANY_DEPLOYMENT not in field.key and field.default is not msgspec.NODEFAULT:
            layer[field.key] = Given(field.default, "default")
    return layer


def _default_deployments() -> Layer:
    return {
        (DEPLOYMENTS, name, leaf): Given(value, "default")
        for name, values in DEFAULT_DEPLOYMENTS.items()
        for leaf, value in values.items()
    }


def _build(merged: Layer) -> tuple[Settings, dict[str, str]]:
    values: dict[Key, Any] = {}
    sources: dict[str, str] = {}
    for key, given in merged.items():
        values[key] = _convert(find(key), given)
        sources[dotted(key)] = given.source
    names = list(dict.fromkeys(key[1] for key in merged if key[0] == DEPLOYMENTS))
    deployments = {}
    for name in names:
        prefix = (DEPLOYMENTS, name)
        if (*prefix, "weights") not in values:
            raise no_weights(prefix, next(g.source for k, g in merged.items() if k[:2] == prefix))
        deployments[name] = Deployment(**_under(prefix, values))
        for field in fields():
            if field.key[:1] == (DEPLOYMENTS,):
                sources.setdefault(dotted((*prefix, field.key[-1])), "default")
    settings = Settings(
        data=values["data",],
        database_url=values["database_url",],
        redis_url=values["redis_url",],
        regions=values["regions",],
        server=Server(**_under(("server",), values)),
        log=Log(**_under(("log",), values)),
        limits=Limits(**_under(("limits",), values)),
        billing=Billing(**_under(("billing",), values)),
        cache=Cache(**_under(("cache",), values)),
        admin=Admin(**_under(("admin",), values)),
        deployments=deployments,
    )
    return settings, sources


def _under(prefix: Key, values: Mapping[Key, Any]) -> dict[str, Any]:
    return {key[-1]: value for key, value in values.items() if key[:-1] == prefix}


def _convert(field: Field, given: Given) -> Any:
    try:
        value = field.convert(given.value, textual=given.textual)
    except (ValueError, msgspec.ValidationError):
        text = "(hidden)" if field.secret else shown(given.value)
        raise SettingsError(
            f"{dotted(field.key)} = {text} ({_place(given.source)}): must be {field.allowed}"
        ) from None
    if isinstance(value, Path):
        return _anchored(value, given)
    if field.key[-1] == "weights" and is_path(value):
        return str(_anchored(Path(value), given))
    return value


def is_path(weights: str) -> bool:
    """Whether `weights` names a place on this machine, and not the bundled model or a hub's repository."""
    return weights != "bundled" and not weights.startswith(("hf:", "ms:"))


def _anchored(path: Path, given: Given) -> Path:
    try:
        path = path.expanduser()
    except RuntimeError:
        raise SettingsError(
            f"{path} ({_place(given.source)}): the home directory is not known; set HOME or write the path in full"
        ) from None
    return ((given.base or Path()) / path).absolute()


def _place(source: str) -> str:
    return source if source.startswith(("-", ENVIRONMENT_PREFIX)) else f"in {source}"
