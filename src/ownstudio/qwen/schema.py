"""What a JSON Schema says, as far as it is asked here: references, and which types of JSON a value may have.

Schemas are a client's. Nothing here follows them further than a fixed number of steps, and whatever is not
understood allows every type.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

Schema = Mapping[str, Any]

NUMBERS: Final = frozenset({"integer", "number"})
ALL_TYPES: Final = frozenset({"array", "boolean", "null", "object", "string"}) | NUMBERS

_STEPS_MAX = 100
_REFERENCES_MAX = 10
_POINTER_CHARS_MAX = 1000


def referred(root: Any, pointer: object) -> Any:
    """What `pointer` ("#/$defs/Place") refers to inside `root`; None where that is nothing, or another document."""
    if type(pointer) is not str or not pointer.startswith("#") or len(pointer) > _POINTER_CHARS_MAX:
        return None
    found = root
    for part in unquote(pointer[1:]).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if type(found) is dict:
            found = found.get(name)
        elif type(found) is list and name.isdecimal() and len(name) < 6 and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def followed(schema: object, root: object) -> Any:
    """What the references of `schema` lead to; still a reference where they lead too far, or in a circle."""
    for _ in range(_REFERENCES_MAX):
        if type(schema) is not dict or "$ref" not in schema:
            break
        schema = referred(root, schema["$ref"])
    return schema


def type_of(value: object) -> str:
    """The type of a decoded JSON value; a whole number is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def types_of(schema: object, root: object) -> frozenset[str]:
    """The types that a value of `schema` may have, `root` being the document that references point into."""
    return _Types(root).of(schema) or ALL_TYPES


class _Types:
    def __init__(self, root: object) -> None:
        self._root = root
        self._steps_left = _STEPS_MAX

    def of(self, schema: object) -> frozenset[str]:
        self._steps_left -= 1
        if type(schema) is not dict or self._steps_left < 0:
            return ALL_TYPES
        types = ALL_TYPES
        if "$ref" in schema:
            types &= self.of(referred(self._root, schema["$ref"]))
        if "type" in schema:
            types &= _named(schema["type"])
        if "const" in schema:
            types &= {type_of(schema["const"])}
        if type(values := schema.get("enum")) is list and values:
            types &= {type_of(value) for value in values}
        for word in ("anyOf", "oneOf"):
            if type(choices := schema.get(word)) is list and choices:
                types &= self._any_of(choices)
        if type(parts := schema.get("allOf")) is list:
            for part in parts:
                if self._steps_left < 0:
                    break
                types &= self.of(part)
        return types if types != ALL_TYPES else _hinted(schema)

    def _any_of(self, choices: list[Any]) -> frozenset[str]:
        types: frozenset[str] = frozenset()
        for choice in choices:
            types |= self.of(choice)
            if types == ALL_TYPES or self._steps_left < 0:
                return ALL_TYPES
        return types


def _named(types: object) -> frozenset[str]:
    words = types if type(types) is list else [types]
    named = frozenset(word for word in words if type(word) is str) & ALL_TYPES
    if "number" in named:
        named |= NUMBERS
    return named or ALL_TYPES


def _hinted(schema: dict[str, Any]) -> frozenset[str]:
    """Schemas often leave out the type where another word makes it plain."""
    if "properties" in schema:
        return frozenset({"object"})
    if "items" in schema or "prefixItems" in schema:
        return frozenset({"array"})
    return ALL_TYPES
