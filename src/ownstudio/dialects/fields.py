"""A body, from bytes to checked values of single fields: what the dialects have in common.

Nothing that a client can send gets past `read_object` but plain JSON values: objects nested at most
`NESTING_MAX` deep, finite numbers, text that is valid Unicode (no half surrogate pairs). Of two equal
keys the last one counts. In every reader null means absent, a bool is not a number, text is not a
number, and a float without a fraction (5.0) is an integer, because some clients know only floats.
"""

import re
from typing import cast

import msgspec

from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter

NESTING_MAX = 100

# Beyond this a float no longer tells neighbouring integers apart.
_EXACT_FLOAT_MAX = 2**53

_NOT_JSON = "Required body invalid, please check the request body format."
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_POSITION = re.compile(r"\(byte (\d+)\)")

Fields = dict[str, object]

_decode = msgspec.json.Decoder().decode


def read_object(body: bytes) -> Fields:
    """The fields of a body. Raises StudioError of kind INVALID_BODY, saying what is wrong with it."""
    try:
        fields = _decode(body)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise _invalid_body("It is not valid UTF-8.") from None
    except msgspec.ValidationError:
        # Nothing but numbers can be invalid where no type was asked for.
        raise _invalid_body("A number in it is too large.") from None
    except msgspec.DecodeError as error:
        raise _invalid_body(_why_not_json(body, str(error))) from None
    if type(fields) is not dict:
        raise _invalid_body("It must be a JSON object.")
    # Each level costs two bytes of brackets at least, so almost every body is cleared by counting.
    if body.count(b"{") + body.count(b"[") > NESTING_MAX and _is_deeper(fields, NESTING_MAX):
        raise _too_deep()
    return fields


def _is_deeper(value: object, levels: int) -> bool:
    """Whether containers stand in each other more than `levels` deep."""
    layer: list[object] = [value]
    for _ in range(levels):
        below: list[object] = []
        for node in layer:
            children = node.values() if type(node) is dict else cast("list[object]", node)
            below += [child for child in children if type(child) is list or type(child) is dict]
        if not below:
            return False
        layer = below
    return True


def _too_deep() -> StudioError:
    return _invalid_body(f"It is nested deeper than {NESTING_MAX} levels.")


def _invalid_body(why: str) -> StudioError:
    return StudioError(ErrorKind.INVALID_BODY, f"{_NOT_JSON} {why}")


def _why_not_json(body: bytes, reason: str) -> str:
    """The decoder's own words name no cure; its position and the bytes there do."""
    if "surrogate" in reason or ("truncated" in reason and _HALF_SURROGATE.search(body)):
        return "A \\u escape in it is half of a surrogate pair."
    found = _POSITION.search(reason)
    if found is None:
        return "It ends too early."
    position = int(found[1])
    if body[position : position + 1] in (b"N", b"I"):
        return f"NaN and Infinity are not JSON (byte {position})."
    return f"It is not JSON near byte {position}."


def malformed(param: str, message: str) -> StudioError:
    """A refusal by the gateway's own checks, which carries no prefix: a wrong type or a wrong shape."""
    return StudioError(ErrorKind.INVALID_PARAMETER, message, param=param)


def wrong_type(param: str, expected: str) -> StudioError:
    """`expected` is the type's name as the service writes it: Float, Integer, Boolean, String, …"""
    return malformed(param, f"'{param}' must be {expected}")


def missing(param: str) -> StudioError:
    return StudioError(
        ErrorKind.MISSING_PARAMETER, f"you must provide a {param} parameter", param=param
    )


def boolean(fields: Fields, name: str) -> bool:
    """False when absent."""
    return choice(fields, name) or False


def choice(fields: Fields, name: str) -> bool | None:
    """None when absent: the caller has a default."""
    value = fields.get(name)
    if value is None or type(value) is bool:
        return value
    raise wrong_type(name, "Boolean")


def integer(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if value is None or type(value) is int:
        return value
    if type(value) is float and value.is_integer() and abs(value) <= _EXACT_FLOAT_MAX:
        return int(value)
    raise wrong_type(name, "Integer")


def integer_within(fields: Fields, name: str, low: int, high: int) -> int | None:
    """An integer in [low, high], or None when absent."""
    value = integer(fields, name)
    if value is not None and not low <= value <= high:
        raise invalid_parameter(name, f"Range of {name} should be [{low}, {high}]")
    return value


def number(fields: Fields, name: str) -> int | float | None:
    """A finite number, however large: compare it with its range before making it a float."""
    value = fields.get(name)
    if value is None or type(value) is int or type(value) is float:
        return value
    raise wrong_type(name, "Float")


def text(fields: Fields, name: str) -> str | None:
    value = fields.get(name)
    if value is None or type(value) is str:
        return value
    raise wrong_type(name, "String")
