"""Grammar rules for the values that a JSON Schema describes.

Enforced: types, `enum` and `const`, `properties` in their order with `required` and `additionalProperties`, `items`,
`prefixItems` and the number of items, `anyOf`, `oneOf` with the `type` beside them, `allOf` of objects, `$ref` within
the schema with recursion, the length of strings, the range of integers. All else is passed over, and a warning says
so. What is not said about additional properties means that there are none, as it does for the models that are asked.

Schemas are a client's: the number of their parts, their depth and the size of each list are bounded, and
`TooLargeError` is raised beyond that. So is the weight of a value: in how many ways at once the engine may have to
read what has been written. Choices between objects add up, nested ones multiply, and with a reference back
to where the choice stands there would be no limit at all.
"""

from collections.abc import Callable, Iterable
from json import dumps
from math import ceil, floor, isfinite
from typing import Any, Final

from ownstudio.qwen.gbnf import TooLargeError, literal, one_of
from ownstudio.qwen.grammar_references import References
from ownstudio.qwen.grammar_values import (
    ANY_WEIGHT,
    INTEGER_DIGITS_MAX,
    JsonRules,
    integer_between,
)
from ownstudio.qwen.schema import ALL_TYPES, NUMBERS, followed, referred, type_of, types_of

PARTS_MAX = 2000
DEPTH_MAX = 50
CHOICES_MAX = 200
PROPERTIES_MAX = 100
LENGTH_MAX = 500
WEIGHT_MAX = 400
WARNINGS_MAX = 20

_TYPE_ORDER: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_TEXT_WORDS: Final = ("minLength", "maxLength", "pattern", "format")
_BRACKETED: Final = frozenset({"object", "array"})
_PASSED_OVER: Final = (
    "pattern", "format", "multipleOf", "uniqueItems", "not", "if", "patternProperties", "propertyNames",
    "dependentRequired", "dependentSchemas", "contains", "minProperties", "maxProperties",
)  # fmt: skip
_UNSEEN_BESIDE_CHOICES: Final = (
    "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
)  # fmt: skip
_LIMIT: Final = 10**INTEGER_DIGITS_MAX - 1


class SchemaRules:
    """Converts parts of the document `root`. `place` says in warnings where that stands in the request."""

    def __init__(self, json: JsonRules, root: object, place: str) -> None:
        self._json = json
        self._rules = json.rules
        self._root = root
        self._place = place
        self._parts_left = PARTS_MAX
        self._references = References()
        self._weights: dict[str, int] = {}
        self.warnings: dict[str, None] = {}

    def value(
        self,
        schema: object,
        path: str = "",
        depth: int = 0,
        aliases: tuple[str, ...] = (),
        held: frozenset[str] = ALL_TYPES,
    ) -> str:
        """An expression for the values of `schema` whose type is one of `held`.

        `aliases` are the references that led here without a bracket.
        """
        self._parts_left -= 1
        self._rules.spend_part()
        if self._parts_left < 0 or depth > DEPTH_MAX:
            raise TooLargeError
        if type(schema) is not dict:
            if schema is False:
                self._warn(path, "a value that can never be")
            return self._any(held)
        if "$ref" in schema:
            return self._reference(schema, path, depth, aliases, held)
        self._warn_of_words(schema, path)
        if values := self._listed_values(schema, path, held):
            return self._literals(values)
        if type(parts := schema.get("allOf")) is list and parts:
            return self.value(self._merged(schema, parts, path), path, depth + 1, aliases, held)
        if chosen := self._chosen(schema, path, depth, aliases, held):
            return chosen
        return self._of_types(types_of(schema, self._root) & held or held, schema, path, depth)

    def _of_types(
        self, types: frozenset[str], schema: dict[str, Any], path: str, depth: int
    ) -> str:
        if types == ALL_TYPES:
            return self._weighed(self._json.any_value(), ANY_WEIGHT)
        return self._any_of(
            self._typed(name, schema, path, depth)
            for name in _TYPE_ORDER
            if name in types and not (name == "integer" and types >= NUMBERS)
        )

    def _any(self, held: frozenset[str]) -> str:
        return self._of_types(held, {}, "", 0)

    def _any_of(self, expressions: Iterable[str]) -> str:
        choices = list(dict.fromkeys(expressions))
        return self._weighed(one_of(choices), sum(map(self._weight, choices)))

    def _weight(self, expression: str) -> int:
        return self._weights.get(expression, 1)

    def _weighed(self, expression: str, weight: int) -> str:
        if weight > WEIGHT_MAX:
            raise TooLargeError
        if weight > 1:
            self._weights[expression] = weight
        return expression

    def _new_rule(self, expression: str, weight: int) -> str:
        return self._weighed(self._rules.new(expression), weight)

    def _reference(
        self,
        reference: dict[str, Any],
        path: str,
        depth: int,
        aliases: tuple[str, ...],
        held: frozenset[str],
    ) -> str:
        pointer = reference["$ref"]
        schema = referred(self._root, pointer)
        if type(pointer) is not str or schema is None:
            self._warn(path, "a reference that leads nowhere in this schema")
            return self._any(held)
        references = self._references
        if references.stands_for_itself(pointer, aliases):
            self._warn(path, "a reference that only leads back to itself")
            return self._any(held)
        if held != ALL_TYPES and not types_of(schema, self._root) <= held:
            # The rule of a reference is for all its types.
            return self.value(schema, path, depth + 1, (*aliases, pointer), held)
        references.follow(pointer)
        if pointer not in references.names:
            name = self._rules.new_name()
            references.open(pointer, name)
            value = self.value(schema, path, depth + 1, (*aliases, pointer))
            references.close(pointer)
            self._weighed(self._rules.named(name, value), self._weight(value))
        return references.names[pointer]

    def _listed_values(self, schema: dict[str, Any], path: str, held: frozenset[str]) -> list[Any]:
        """What `const` or `enum` allow; nothing where none of it may stand here, or there is neither."""
        word = "const" if "const" in schema else "enum"
        values = [schema["const"]] if word == "const" else _listed(schema.get("enum"))
        if len(values) > CHOICES_MAX:
            raise TooLargeError
        fitting = [value for value in values if held == ALL_TYPES or type_of(value) in held]
        if values and not fitting:
            self._warn(path, word)
        return fitting

    def _literals(self, values: list[Any]) -> str:
        try:
            return self._any_of(
                [self._literal(dumps(value, ensure_ascii=False)) for value in values]
            )
        except RecursionError:
            raise TooLargeError from None

    def _literal(self, text: str) -> str:
        return literal(text.replace("</", "<\\/") if self._json.tagless else text)

    def _chosen(
        self,
        schema: dict[str, Any],
        path: str,
        depth: int,
        aliases: tuple[str, ...],
        held: frozenset[str],
    ) -> str | None:
        """An expression for `anyOf` or `oneOf`; None where there is none that can be followed."""
        if "type" in schema:
            held = types_of({"type": schema["type"]}, self._root) & held or held
        for word in ("anyOf", "oneOf"):
            choices = _listed(schema.get(word))
            if not choices:
                continue
            chosen = None
            if "properties" not in schema:
                chosen = self._choices(choices, f"{path}.{word}", depth, aliases, held)
            if chosen is not None:
                self._warn_of_words_beside(word, schema, path)
                return chosen
            self._warn(path, word)
        return None

    def _choices(
        self,
        choices: list[Any],
        path: str,
        depth: int,
        aliases: tuple[str, ...],
        held: frozenset[str],
    ) -> str | None:
        """Any of the choices that have values whose type is one of `held`; None where there are none."""
        if len(choices) > CHOICES_MAX:
            raise TooLargeError
        types = [types_of(choice, self._root) & held for choice in choices]
        if not any(types):
            return None
        alike = any(sum(kind in each for each in types) > 1 for kind in _BRACKETED)
        self._references.enter_choice(alike=alike)
        chosen = self._any_of(
            self.value(choice, f"{path}[{place}]", depth + 1, aliases, held)
            for place, choice in enumerate(choices)
            if types[place]
        )
        self._references.leave_choice(alike=alike)
        return chosen

    def _merged(self, schema: dict[str, Any], parts: list[Any], path: str) -> dict[str, Any]:
        """One schema for all of them, where they are objects or one of them is all there is."""
        merged = {word: value for word, value in schema.items() if word != "allOf"}
        properties: dict[str, Any] = dict(_mapping(merged.get("properties")))
        required: list[Any] = list(_listed(merged.get("required")))
        for part in parts[:CHOICES_MAX]:
            self._parts_left -= 1
            part = followed(part, self._root)
            if type(part) is not dict:
                continue
            if part.keys() & merged.keys() & {"anyOf", "oneOf", "enum", "const", "allOf"}:
                self._warn(path, "parts of allOf beyond the first of their kind")
            merged = {**part, **merged}
            properties |= _mapping(part.get("properties"))
            required += _listed(part.get("required"))
        if len(properties) > PROPERTIES_MAX or len(required) > 10 * PROPERTIES_MAX:
            raise TooLargeError
        if properties:
            merged |= {"type": "object", "properties": properties, "required": required}
        return merged

    def _typed(self, name: str, schema: dict[str, Any], path: str, depth: int) -> str:
        match name:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "string":
                return self._string(schema, path)
            case "integer":
                return self._integer(schema, path)
            case "number":
                return self._number(schema, path)
            case "boolean":
                return self._json.boolean()
        return '"null"'

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> str:
        properties = self.properties(schema)
        extra = schema.get("additionalProperties", not properties)
        # A key that is named may then also be read as one that is not, with a value that begins alike.
        alike = (
            bool(properties)
            and extra is not False
            and not _BRACKETED.isdisjoint(types_of(extra, self._root))
        )
        self._references.enter_choice(alike=alike)
        more = None
        if extra is not False:
            value = self.value(extra, path, depth + 1)
            more = self._new_rule(value, self._weight(value))
        values = [self.value(part, f"{path}.{key}", depth + 1) for key, part, _ in properties]
        self._references.leave_choice(alike=alike)
        if not properties:
            inside = (
                self._json.bracketed("{", "", "}") if more is None else self._json.open_object(more)
            )
            return self._weighed(inside, self._weight(more or ""))
        pairs = [
            (
                self._rules.new(
                    self._json.pair(self._literal(dumps(key, ensure_ascii=False)), value)
                ),
                required,
            )
            for value, (key, _, required) in zip(values, properties, strict=True)
        ]
        weight = max(_keys_at_once(pairs), *map(self._weight, values), 0)
        if more is not None:
            weight += self._weight(more)
            more = self._rules.new(self._json.pair(self._json.string(), more))
        inside = _in_order(pairs, more, self._json.comma, self._rules.new)
        return self._new_rule(self._json.bracketed("{", inside, "}"), weight)

    def properties(self, schema: dict[str, Any]) -> list[tuple[str, object, bool]]:
        """Each property with its schema and whether it is required, in the order in which they are to be written."""
        properties = _mapping(schema.get("properties"))
        required = {key: None for key in _listed(schema.get("required")) if type(key) is str}
        if len(properties) + len(required) > 2 * PROPERTIES_MAX or len(properties) > PROPERTIES_MAX:
            raise TooLargeError
        named = [(key, part, key in required) for key, part in properties.items()]
        return named + [(key, True, True) for key in required if key not in properties]

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> str:
        least = self._bound(schema, "minItems", path)
        most = self._bound(schema, "maxItems", path)
        if most is not None and most < (least or 0):
            self._warn(path, "maxItems")
            most = None
        first = schema.get("prefixItems")
        if type(first) is list and first:
            if len(first) > CHOICES_MAX:
                raise TooLargeError
            items = [
                self.value(part, f"{path}[{place}]", depth + 1) for place, part in enumerate(first)
            ]
            inside = f" {self._json.comma} ".join(items)
            return self._weighed(
                self._json.bracketed("[", inside, "]"), max(map(self._weight, items))
            )
        item = self.value(schema.get("items", True), f"{path}[]", depth + 1)
        weight = self._weight(item) + 1
        return self._weighed(self._json.array(self._rules.new(item), least or 0, most), weight)

    def _string(self, schema: dict[str, Any], path: str) -> str:
        least = self._bound(schema, "minLength", path)
        most = self._bound(schema, "maxLength", path)
        if not least and most is None:
            return self._json.string()
        if self._json.tagless or (most is not None and most < (least or 0)):
            self._warn(path, "the length of a string")
            return self._json.string()
        return self._json.bounded_string(least or 0, most)

    def _bound(self, schema: dict[str, Any], word: str, path: str) -> int | None:
        bound = schema.get(word)
        if bound is None:
            return None
        if type(bound) is not int or not 0 <= bound <= LENGTH_MAX:
            self._warn(path, word)
            return None
        if not self._rules.may_repeat(bound):
            self._warn(path, word)
            return None
        return bound

    def _integer(self, schema: dict[str, Any], path: str) -> str:
        low, high = _integer_bounds(schema)
        if low is None and high is None:
            return self._json.integer()
        low = max(low if low is not None else -_LIMIT, -_LIMIT)
        high = min(high if high is not None else _LIMIT, _LIMIT)
        if low > high:
            self._warn(path, "the range of an integer")
            return self._json.integer()
        digits = integer_between(low, high)
        return self._new_rule(digits, digits.count("|") + 1)

    def _number(self, schema: dict[str, Any], path: str) -> str:
        words = schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
        if not words:
            return self._json.number()
        if words != {"minimum"} or schema["minimum"] != 0:
            self._warn(path, "the range of a number, but for its sign")
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        if isinstance(least, int | float) and least >= 0:
            return self._json.natural_number()
        return self._json.number()

    def warn_of_text(self, schema: object, path: str) -> None:
        """Say what is not enforced of a string that is written as plain text."""
        for word in _TEXT_WORDS:
            if type(schema) is dict and word in schema:
                self._warn(path, word)

    def warn_of_arguments(self, schema: dict[str, Any]) -> None:
        """Say what is not enforced of arguments that are written one by one."""
        for word in ("const", "enum", "allOf", "anyOf", "oneOf"):
            if schema.get(word):
                self._warn("", word)
        self._warn_of_words(schema, "")

    def _warn_of_words(self, schema: dict[str, Any], path: str) -> None:
        for word in _PASSED_OVER:
            if word in schema:
                self._warn(path, word)

    def _warn_of_words_beside(self, word: str, schema: dict[str, Any], path: str) -> None:
        """The choices of `word` have the type that stands beside them, and see nothing else of `schema`."""
        others = ("oneOf", *_UNSEEN_BESIDE_CHOICES) if word == "anyOf" else _UNSEEN_BESIDE_CHOICES
        for other in others:
            # Without these two values nothing would be different.
            if other in schema and schema[other] is not False and schema[other] != []:
                self._warn(path, f"{other} beside {word}")

    def _warn(self, path: str, what: str) -> None:
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings[f"{self._place}{path[:200]}: {what} is not enforced"] = None


def _in_order(
    pairs: list[tuple[str, bool]], more: str | None, comma: str, rule: Callable[[str], str]
) -> str:
    """The pairs in their order, the optional ones left out at will, any number of `more` at the end.

    Built from the end. `later` is what may follow when something has been written already, `first` when nothing has.
    """
    later = f"({comma} {more})*" if more else ""
    first = f"({more} {later})?" if more else ""
    for pair, required in reversed(pairs):
        later = rule(later) if later else ""
        if required:
            first = f"{pair} {later}"
            later = f"{comma} {pair} {later}"
        else:
            first = f"({pair} {later} | {rule(first)})" if first else f"({pair} {later})?"
            later = f"({comma} {pair})? {later}"
    return first


def _keys_at_once(pairs: list[tuple[str, bool]]) -> int:
    """How many different keys may come next, at the most."""
    most = run = 1
    for _, required in pairs:
        run = 1 if required else run + 1
        most = max(most, run)
    return most


def _mapping(value: object) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _listed(value: object) -> list[Any]:
    return value if type(value) is list else []


def _integer_bounds(schema: dict[str, Any]) -> tuple[int | None, int | None]:
    """The least and the largest integer that the schema allows, None for no bound."""
    lows = [
        _whole(schema.get("minimum"), ceil, 0),
        _whole(schema.get("exclusiveMinimum"), floor, 1),
    ]
    highs = [
        _whole(schema.get("maximum"), floor, 0),
        _whole(schema.get("exclusiveMaximum"), ceil, -1),
    ]
    return (
        max((low for low in lows if low is not None), default=None),
        min((high for high in highs if high is not None), default=None),
    )


def _whole(bound: object, towards: Callable[[float], int], beyond: int) -> int | None:
    if type(bound) is int:
        return bound + beyond
    if type(bound) is float and isfinite(bound):
        return towards(bound) + beyond
    return None
