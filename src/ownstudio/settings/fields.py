"""The settings tree as a flat list of fields, and the conversion of one value.

A field's path is a tuple such as ("server", "port"). The name of a deployment stands in it as `NAME` where the
field is meant for all deployments.
"""

import math
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect

from ownstudio.settings.tree import Deployment, Settings, SettingsError

ANY_DEPLOYMENT = "NAME"
DEPLOYMENTS = "deployments"

Key = tuple[str, ...]


class Field(msgspec.Struct, frozen=True):
    """One setting: where it stands, what it means, what it takes. `default` is NODEFAULT where there is none."""

    key: Key
    annotation: Any
    default: Any
    meaning: str
    allowed: str
    secret: bool

    @property
    def is_list(self) -> bool:
        return get_origin(_bare(self.annotation)) is tuple

    def convert(self, value: Any, *, textual: bool) -> Any:
        """The value as its type, read from text where `textual`. Raises ValueError when it is not allowed."""
        if textual and self.is_list:
            value = [item.strip() for item in value.split(",") if item.strip()]
        converted = msgspec.convert(
            value, self.annotation, strict=not textual, dec_hook=_path_from_text
        )
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError("not a finite number")
        return converted


@cache
def fields() -> tuple[Field, ...]:
    """Every setting in the order of the tree."""
    return tuple(_walk(Settings, ()))


def find(key: Key) -> Field:
    """The field of a key; its deployment may be any name. Raises SettingsError with the nearest keys there are."""
    pattern = generic(key)
    for field in fields():
        if field.key == pattern:
            return msgspec.structs.replace(field, key=key)
    raise unknown_key(key)


def known(key: Key) -> bool:
    pattern = generic(key)
    return any(field.key == pattern for field in fields())


def generic(key: Key) -> Key:
    """The key with the name of its deployment, if it has one, taken out."""
    if key[:1] == (DEPLOYMENTS,) and len(key) > 1:
        return (DEPLOYMENTS, ANY_DEPLOYMENT, *key[2:])
    return key


def is_table(key: Key) -> bool:
    """Whether a key is the beginning of others."""
    pattern = generic(key)
    return any(
        len(field.key) > len(pattern) and field.key[: len(pattern)] == pattern for field in fields()
    )


def dotted(key: Key) -> str:
    return ".".join(key)


def unknown_key(key: Key, place: str = "") -> SettingsError:
    """The refusal of a key that is no setting; `place` says where it stands."""
    names = [dotted(field.key) for field in fields()]
    asked = dotted(generic(key))
    near = get_close_matches(asked, names, n=1, cutoff=0.6)
    if not near:
        leaves = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = [leaves[leaf] for leaf in get_close_matches(key[-1], leaves, n=1, cutoff=0.7)]
    siblings = sorted({f.key[len(key) - 1] for f in fields() if _beside(f.key, generic(key))})
    hint = f"did you mean {near[0]}? " if near else ""
    allowed = f"allowed here: {', '.join(siblings)}" if siblings else "see docs/settings.md for all"
    return SettingsError(f"{dotted(key)}{place} is not a setting: {hint}{allowed}")


def _beside(field: Key, asked: Key) -> bool:
    return len(field) >= len(asked) and field[: len(asked) - 1] == asked[:-1]


def _bare(annotation: Any) -> Any:
    """The type inside an Annotated."""
    return (
        getattr(annotation, "__origin__", annotation) if _is_annotated(annotation) else annotation
    )


def _is_annotated(annotation: Any) -> bool:
    return hasattr(annotation, "__metadata__")


def _walk(struct: type[msgspec.Struct], prefix: Key) -> Iterator[Field]:
    for info in msgspec.structs.fields(struct):
        key = (*prefix, info.encode_name)
        if isinstance(info.type, type) and issubclass(info.type, msgspec.Struct):
            yield from _walk(info.type, key)
        elif key == (DEPLOYMENTS,):
            yield from _walk(Deployment, (DEPLOYMENTS, ANY_DEPLOYMENT))
        else:
            yield _field(key, info)


def _field(key: Key, info: msgspec.structs.FieldInfo) -> Field:
    described = inspect.type_info(info.type)
    meaning, secret = "", False
    if isinstance(described, inspect.Metadata):
        meaning = (described.extra_json_schema or {}).get("description", "")
        secret = bool((described.extra or {}).get("secret"))
        described = described.type
    return Field(
        key=key,
        annotation=info.type,
        default=info.default,
        meaning=meaning,
        allowed=_allowed(described, info.type),
        secret=secret,
    )


def _allowed(type_info: inspect.Type, annotation: Any) -> str:
    match type_info:
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number from {low:g} to {high:.10g}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in get_args(_bare(annotation)))
        case inspect.VarTupleType():
            return "a list of texts"
        case inspect.CustomType(cls=cls) if cls is Path:
            return "a path"
        case inspect.StrType(min_length=shortest, max_length=longest):
            return f"a text of {shortest or 0} to {longest} characters"
        case _:
            raise TypeError(f"settings of type {type_info!r} have no words for their range")


def _path_from_text(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise ValueError("not a path")
