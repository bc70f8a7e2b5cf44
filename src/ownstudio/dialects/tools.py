"""The tools of a chat request: their definitions, and whether the model may, must or must not call them.

What a template shows to the model is the client's own definition, key for key in the order sent, less
what is meant for the server: `cache_control`, `strict` and nulls. A `required` that stands beside
`parameters` instead of inside, as in the vendor's own sample, stays where it is in the definition and
counts for the schema. `strict` itself asks for nothing: calls follow their schema anyway. Schemas are
bounded in size here and in depth by the body (`fields.NESTING_MAX`).

Two differences from the real service. `tool_choice` may be `required`, which clients of OpenAI send. A
tool may be named `search`: the real service refuses that name ("Tool names are not allowed to be
[search]") because its own web search has it, and nothing here has.
"""

import re
from collections.abc import Sequence

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import StudioError, invalid_parameter
from ownstudio.core.request import Tool, ToolChoice
from ownstudio.dialects.fields import Fields, malformed, text, wrong_type

# As many as a grammar takes (`qwen.grammar.TOOLS_MAX`), which an engine follows the slower the more there are.
TOOLS_MAX = 256
DEFINITION_BYTES_MAX = 256 * 1024

_FOR_THE_SERVER = frozenset({"cache_control", "strict"})

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_RULE = "Tool names should be 1 to 64 letters, digits, underscores or hyphens."
_NO_TOOLS = "The tool call is not supported."
_CHOICES = 'tool_choice is one of the strings that should be ["none", "auto", "required"]'

# How much of a client's own word an error repeats.
_SHOWN_CHARACTERS_MAX = 64

_AUTO = ToolChoice()
_NONE = ToolChoice("none")
_REQUIRED = ToolChoice("required")

_encode = msgspec.json.Encoder().encode


def is_function_name(name: object) -> bool:
    return type(name) is str and _NAME.fullmatch(name) is not None


def read_tools(fields: Fields, model: Model) -> tuple[Tool, ...]:
    """The functions that the model may call; an empty list is none. Raises StudioError where it cannot call any."""
    items = fields.get("tools")
    if items is None or items == []:
        return ()
    if type(items) is not list:
        raise wrong_type("tools", "Array")
    if not model.features.tools:
        raise invalid_parameter("tools", _NO_TOOLS)
    if len(items) > TOOLS_MAX:
        raise invalid_parameter("tools", f"Range of tools length should be [0, {TOOLS_MAX}]")
    tools = tuple([_tool(item, f"tools[{index}]") for index, item in enumerate(items)])
    _check_names_differ(tools)
    return tools


def _check_names_differ(tools: Sequence[Tool]) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise invalid_parameter(
                f"tools[{index}].function.name",
                f"Tool names should differ: '{tool.name}' is twice.",
            )
        seen.add(tool.name)


def _tool(item: object, path: str) -> Tool:
    if type(item) is not dict:
        raise wrong_type(path, "Object")
    kind = item.get("type")
    if kind is not None and kind != "function":
        raise malformed(f"{path}.type", "Tools should be of type 'function'.")
    function = item.get("function")
    if type(function) is not dict:
        raise wrong_type(f"{path}.function", "Object")
    return _function(item, function, f"{path}.function")


def _function(item: Fields, function: Fields, path: str) -> Tool:
    name = function.get("name")
    if type(name) is not str or not is_function_name(name):
        raise invalid_parameter(f"{path}.name", _NAME_RULE)
    parameters = function.get("parameters")
    if parameters is not None and type(parameters) is not dict:
        raise wrong_type(f"{path}.parameters", "Object")
    try:
        description = text(function, "description") or ""
    except StudioError as error:
        error.param = f"{path}.description"
        raise
    definition = _encode(_shown(item, function))
    if len(definition) > DEFINITION_BYTES_MAX:
        raise invalid_parameter(
            path, f"The definition of a tool should not exceed {DEFINITION_BYTES_MAX} bytes."
        )
    return Tool(
        name=name,
        description=description,
        parameters=_encode(_schema(parameters or {}, item, function)).decode(),
        definition=definition.decode(),
    )


def _shown(item: Fields, function: Fields) -> Fields:
    """The definition as the model is to see it; one without a type gets the only one there is."""
    shown = _for_the_model(item)
    shown["function"] = _for_the_model(function)
    return shown if "type" in shown else {"type": "function", **shown}


def _for_the_model(fields: Fields) -> Fields:
    return {
        key: value
        for key, value in fields.items()
        if value is not None and key not in _FOR_THE_SERVER
    }


def _schema(parameters: Fields, item: Fields, function: Fields) -> Fields:
    """`parameters`, with the `required` that stands beside them if they have none of their own."""
    beside = function.get("required", item.get("required"))
    properties = parameters.get("properties")
    if "required" in parameters or type(beside) is not list or type(properties) is not dict:
        return parameters
    required = [name for name in beside if type(name) is str and name in properties]
    return {**parameters, "required": required} if required else parameters


def read_tool_choice(fields: Fields, tools: Sequence[Tool]) -> ToolChoice:
    value = fields.get("tool_choice")
    if value is None or value == "auto":
        return _AUTO
    if value == "none":
        return _NONE
    if value == "required":
        if not tools:
            raise invalid_parameter(
                "tool_choice", "tool_choice \"required\" needs the 'tools' parameter."
            )
        return _REQUIRED
    if type(value) is str:
        raise invalid_parameter("tool_choice", _CHOICES)
    if type(value) is not dict:
        raise wrong_type("tool_choice", "String or Object")
    return ToolChoice("required", _chosen(value, tools))


def _chosen(choice: Fields, tools: Sequence[Tool]) -> str:
    function = choice.get("function")
    name = function.get("name") if type(function) is dict else None
    if choice.get("type") not in (None, "function") or type(name) is not str:
        raise malformed(
            "tool_choice",
            'A tool_choice object should be {"type": "function", "function": {"name": …}}.',
        )
    if not any(tool.name == name for tool in tools):
        raise invalid_parameter(
            "tool_choice",
            f'Invalid value for "tool_choice": no function named "{name[:_SHOWN_CHARACTERS_MAX]}" '
            'was specified in the "tools" parameter.',
        )
    return name
