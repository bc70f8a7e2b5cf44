"""`response_format`: free text, a JSON object, or JSON that fits a schema.

`json_object` needs the word "json" somewhere in the conversation, as on the real service: a model that
was never told to write JSON writes whitespace for as long as it may. The catalogue can switch that rule
off for a model (`Features.json_word`). A schema is bounded in size here and in depth by the body
(`fields.NESTING_MAX`).
"""

from collections.abc import Sequence

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import StudioError, invalid_parameter
from ownstudio.core.request import Message, ResponseFormat
from ownstudio.dialects.fields import Fields, boolean, malformed, missing, wrong_type
from ownstudio.dialects.tools import is_function_name

SCHEMA_BYTES_MAX = 256 * 1024

_WORD_RULE = (
    "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
    "'json_object'."
)
_UNKNOWN = (
    "Unknown format of response_format, response_format should be a dict, includes 'type' and an "
    "optional key 'json_schema'. The response_format type from user is {}."
)
_SHOWN_CHARACTERS_MAX = 64

_TEXT = ResponseFormat()
_OBJECT = ResponseFormat("json_object")

_PATH = "response_format.json_schema"


def read_response_format(
    fields: Fields, model: Model, messages: Sequence[Message]
) -> ResponseFormat:
    value = fields.get("response_format")
    if value is None:
        return _TEXT
    kind = value.get("type") if type(value) is dict else value
    if type(value) is not dict or kind not in ("text", "json_object", "json_schema"):
        said = kind[:_SHOWN_CHARACTERS_MAX] if type(kind) is str else type(kind).__name__
        raise invalid_parameter("response_format", _UNKNOWN.format(said))
    if kind == "text":
        return _TEXT
    if not model.features.json:
        raise invalid_parameter(
            "response_format", f"The model {model.name} does not support response_format {kind}."
        )
    if kind == "json_schema":
        return _schema_format(value.get("json_schema"))
    if model.features.json_word and not any(
        "json" in message.content.lower() for message in messages
    ):
        raise invalid_parameter("messages", _WORD_RULE)
    return _OBJECT


def _schema_format(value: object) -> ResponseFormat:
    if value is None:
        raise missing(_PATH)
    if type(value) is not dict:
        raise wrong_type(_PATH, "Object")
    name = value.get("name")
    if type(name) is not str or not is_function_name(name):
        raise malformed(
            f"{_PATH}.name",
            "The name of a schema should be 1 to 64 letters, digits, underscores or hyphens.",
        )
    schema = value.get("schema")
    if type(schema) is not dict:
        raise wrong_type(f"{_PATH}.schema", "Object")
    text = msgspec.json.encode(schema)
    if len(text) > SCHEMA_BYTES_MAX:
        raise invalid_parameter(
            f"{_PATH}.schema", f"A schema should not exceed {SCHEMA_BYTES_MAX} bytes."
        )
    try:
        strict = boolean(value, "strict")
    except StudioError as error:
        error.param = f"{_PATH}.strict"
        raise
    return ResponseFormat("json_schema", schema=text.decode(), name=name, strict=strict)
