"""Grammars that hold a model to a call of a tool, to JSON, or to either: what it writes is right by construction.

A grammar is text in llama.cpp's notation, made here and never by native code, since schemas are a client's. Every
schema takes bounded time: one too large or too deep to follow is replaced by "any JSON", with a warning. The
warnings of a grammar say all that it does not enforce.

In the XML form values are text, so that of a string only its end is enforced, and its choices where it has an `enum`.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from json import dumps
from typing import Any

from msgspec import Struct

from ownstudio.core.errors import StudioError, invalid_parameter
from ownstudio.core.request import Tool
from ownstudio.qwen.gbnf import Rules, TooLargeError, literal, one_of, without
from ownstudio.qwen.grammar_schema import CHOICES_MAX, SchemaRules
from ownstudio.qwen.grammar_values import IN_LINE, IN_LINES, JsonRules
from ownstudio.qwen.parser import CALL_OPEN, CALLS_MAX
from ownstudio.qwen.schema import followed, types_of
from ownstudio.qwen.tools import SCHEMA_CHARS_MAX, ToolForm, decoded_schema, is_function_name
from ownstudio.qwen.xml_call import (
    CALL_CLOSE,
    FUNCTION_CLOSE,
    FUNCTION_OPEN,
    PARAMETER_CLOSE,
    PARAMETER_OPEN,
)

TOOLS_MAX = 256
_OBJECT = frozenset({"object"})
_NAMING_WORDS = ("properties", "required", "anyOf", "oneOf", "allOf", "patternProperties")
_CACHED = 64
_CACHED_CHARS_MAX = 64 * 1024


class Grammar(Struct, frozen=True):
    """What the model may write, from its first token on or, with a `trigger`, from that text on.

    The trigger is part of what the grammar describes. `warnings` are for the client: each names a place in the
    request and what is not enforced there.
    """

    text: str
    warnings: tuple[str, ...] = ()
    trigger: str | None = None


def call_grammar(
    tools: Sequence[Tool], form: ToolForm, *, lazy: bool, several: bool = False
) -> Grammar:
    """One call of any of `tools`, or `several`. With `lazy` the model is free until it opens a call by itself.

    Raises StudioError for a name or a schema that cannot be taken at all.
    """
    _check(tools)
    make = _cached_call_grammar if _small(tool.parameters for tool in tools) else _call_grammar
    return make(tuple(tools), form, lazy, several)


def json_grammar(schema: str | None = None) -> Grammar:
    """Any JSON object, or with `schema` (its JSON text) what fits it. Raises StudioError for what is no schema."""
    return (_cached_json_grammar if _small([schema or ""]) else _json_grammar)(schema)


def call_or_json_grammar(
    tools: Sequence[Tool], form: ToolForm, schema: str | None, *, several: bool
) -> Grammar:
    """A call of any of `tools` (or `several`), or an answer in JSON as `json_grammar` has it.

    The model decides by how it begins. Raises StudioError like the other two.
    """
    _check(tools)
    small = _small([*(tool.parameters for tool in tools), schema or ""])
    make = _cached_call_or_json_grammar if small else _call_or_json_grammar
    return make(tuple(tools), form, schema, several)


def _check(tools: Sequence[Tool]) -> None:
    if not 0 < len(tools) <= TOOLS_MAX:
        raise invalid_parameter("tools", f"Range of tools length should be [1, {TOOLS_MAX}]")
    if sum(len(tool.parameters) for tool in tools) > SCHEMA_CHARS_MAX:
        raise invalid_parameter(
            "tools",
            f"The parameters of all functions together exceed {SCHEMA_CHARS_MAX} characters.",
        )


def _small(schemas: Iterable[str]) -> bool:
    """Whether a grammar may be kept: what a client can make us remember is bounded."""
    return sum(map(len, schemas)) <= _CACHED_CHARS_MAX


def _call_grammar(tools: tuple[Tool, ...], form: ToolForm, lazy: bool, several: bool) -> Grammar:
    rules = Rules()
    calls, warnings = _calls(tools, form, several, rules)
    return Grammar(rules.text(calls), warnings, CALL_OPEN if lazy else None)


def _json_grammar(schema: str | None) -> Grammar:
    rules = Rules()
    answer, warnings = _answer(schema, rules)
    return Grammar(rules.text(answer), warnings)


def _call_or_json_grammar(
    tools: tuple[Tool, ...], form: ToolForm, schema: str | None, several: bool
) -> Grammar:
    rules = Rules()
    # Calls stay small where nothing is left for their schemas, so that these come last.
    answer, answer_warnings = _answer(schema, rules, prefix="answer-")
    calls, warnings = _calls(tools, form, several, rules)
    return Grammar(rules.text(f"{calls} | {answer}"), warnings + answer_warnings)


def _calls(
    tools: tuple[Tool, ...], form: ToolForm, several: bool, rules: Rules
) -> tuple[str, tuple[str, ...]]:
    """An expression for calls, and the warnings."""
    writer = _JsonCalls(rules) if form is ToolForm.JSON else _XmlCalls(rules)
    functions = one_of(
        writer.function(tool, f"tools[{place}].function.parameters")
        for place, tool in enumerate(tools)
    )
    opening, closing = literal(CALL_OPEN + "\n"), literal("\n" + CALL_CLOSE)
    with rules.unbounded():
        call = rules.named("call", f"{opening} {functions} {closing}")
    calls = f'{call} ("\\n" {call}){{0,{CALLS_MAX - 1}}}' if several else call
    return calls, tuple(writer.warnings)


def _answer(schema: str | None, rules: Rules, prefix: str = "") -> tuple[str, tuple[str, ...]]:
    """An expression for an answer in JSON, and the warnings."""
    json = JsonRules(rules, IN_LINES, prefix=prefix)
    if schema is None:
        return json.any_object(), ()
    place = "response_format.json_schema.schema"
    root = _schema(schema, place)
    mark = rules.mark()
    converted = SchemaRules(json, root, place)
    try:
        return converted.value(root), tuple(converted.warnings)
    except TooLargeError:
        rules.undo(mark)
        return json.any_value(), (_too_large(place),)


_cached_call_grammar = lru_cache(_CACHED)(_call_grammar)
_cached_json_grammar = lru_cache(_CACHED)(_json_grammar)
_cached_call_or_json_grammar = lru_cache(_CACHED)(_call_or_json_grammar)


class _JsonCalls:
    """`{"name": "f", "arguments": {…}}`."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._json = JsonRules(rules, IN_LINE)
        self.warnings: dict[str, None] = {}

    def function(self, tool: Tool, place: str) -> str:
        head = f'{{"name": {dumps(_name(tool, place))}, "arguments": '
        return f'{literal(head)} {self._arguments(tool, place)} "}}"'

    def _arguments(self, tool: Tool, place: str) -> str:
        root = _schema(tool.parameters, place)
        mark = self._rules.mark()
        converted = SchemaRules(self._json, root, place)
        try:
            schema = _parameters(root)
            arguments = self._rules.new(converted.value(schema, held=_OBJECT)) if schema else '"{}"'
        except TooLargeError:
            self._rules.undo(mark)
            self.warnings[_too_large(place)] = None
            with self._rules.unbounded():
                return self._json.any_object()
        self.warnings |= converted.warnings
        return arguments


class _XmlCalls:
    """`<function=f>` with a `<parameter=a>` for each argument, line for line as templates write them."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._json = JsonRules(rules, IN_LINE, tagless=True)
        key = r"[^<>\n]{1,64}"
        with rules.unbounded():
            # A value must hold neither its own end nor that of the whole call.
            self._text = without((PARAMETER_CLOSE, CALL_CLOSE), rules)
            self._any_parameter = rules.new(
                f'"{PARAMETER_OPEN}" {key} ">\\n" {self._text} "\\n{PARAMETER_CLOSE}\\n"'
            )
        self.warnings: dict[str, None] = {}

    def function(self, tool: Tool, place: str) -> str:
        root = _schema(tool.parameters, place)
        mark = self._rules.mark()
        converted = SchemaRules(self._json, root, place)
        try:
            parameters = self._parameters(converted, root)
            self.warnings |= converted.warnings
        except TooLargeError:
            self._rules.undo(mark)
            self.warnings[_too_large(place)] = None
            parameters = f"{self._any_parameter}*"
        head = literal(f"{FUNCTION_OPEN}{_name(tool, place)}>\n")
        return f'{head} {parameters} "{FUNCTION_CLOSE}"'

    def _parameters(self, converted: SchemaRules, root: Any) -> str:
        schema = _parameters(root)
        converted.warn_of_arguments(schema)
        properties = converted.properties(schema)
        extra = schema.get("additionalProperties", bool(schema) and not properties)
        parts = [
            self._parameter(converted, key, part, root) + ("" if required else "?")
            for key, part, required in properties
            if not any(sign in key for sign in "<>\n")
        ]
        if extra is not False:
            parts.append(f"{self._any_parameter}*")
        return " ".join(parts)

    def _parameter(self, converted: SchemaRules, key: str, schema: object, root: object) -> str:
        value = self._value(converted, f".{key}", schema, root)
        head = literal(f"{PARAMETER_OPEN}{key}>\n")
        return self._rules.new(f'{head} {value} "\\n{PARAMETER_CLOSE}\\n"')

    def _value(self, converted: SchemaRules, path: str, schema: object, root: object) -> str:
        if "string" not in types_of(schema, root):
            return converted.value(schema, path)
        choices = _choices(schema, root)
        if len(choices) > CHOICES_MAX:
            raise TooLargeError
        if not choices or any(
            end in text for text in choices for end in (PARAMETER_CLOSE, CALL_CLOSE)
        ):
            converted.warn_of_text(schema, path)
            return self._text
        return one_of(literal(text) for text in choices)


def _choices(schema: object, root: object) -> list[str]:
    """The texts that a parameter may have; none where any will do."""
    schema = followed(schema, root)
    if type(schema) is not dict:
        return []
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if type(values) is not list:
        return []
    return [
        value if type(value) is str else dumps(value, ensure_ascii=False)
        for value in values[: CHOICES_MAX + 1]
    ]


def _parameters(root: Any) -> dict[str, Any]:
    """The schema of a function's arguments, empty where it takes none at all."""
    schema = followed(root, root)
    if type(schema) is not dict or "$ref" in schema:
        raise TooLargeError
    # An empty schema of additional properties allows any; the other words, where they are empty, say nothing.
    opened = schema.get("additionalProperties", False) is not False
    if not opened and not any(schema.get(word) for word in _NAMING_WORDS):
        return {}
    return {"type": "object", **schema}


def _schema(text: str, place: str) -> Any:
    if len(text) > SCHEMA_CHARS_MAX:
        raise invalid_parameter(place, f"The schema is longer than {SCHEMA_CHARS_MAX} characters.")
    schema = decoded_schema(text)
    if type(schema) is not dict:
        raise _no_schema(place)
    return schema


def _no_schema(place: str) -> StudioError:
    return invalid_parameter(
        place, "The schema must be a JSON object that is not nested too deeply."
    )


def _name(tool: Tool, place: str) -> str:
    if not is_function_name(tool.name):
        raise invalid_parameter(
            place.replace("parameters", "name"),
            "A function's name is 1 to 64 letters, digits, underscores or hyphens.",
        )
    return tool.name


def _too_large(place: str) -> str:
    return f"{place}: the schema is too large or too deep to be enforced; any JSON is allowed"
