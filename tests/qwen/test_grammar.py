"""The grammars as text: what is enforced, what is said not to be, and that no schema takes long."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.core.errors import StudioError
from ownstudio.core.request import Tool
from ownstudio.qwen.gbnf import RULES_CHARS_MAX, Rules, without
from ownstudio.qwen.grammar import (
    TOOLS_MAX,
    Grammar,
    call_grammar,
    call_or_json_grammar,
    json_grammar,
)
from ownstudio.qwen.grammar_values import integer_between
from ownstudio.qwen.tools import SCHEMA_CHARS_MAX, ToolForm
from support.gbnf import accepts


def tool(parameters: Any, name: str = "f") -> Tool:
    return Tool(name, parameters=json.dumps(parameters))


def properties(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": parts}


def grammar_of(parameters: Any, form: ToolForm = ToolForm.JSON) -> Grammar:
    return call_grammar([tool(parameters)], form, lazy=False)


def rules_of(grammar: Grammar) -> dict[str, str]:
    return dict(line.split(" ::= ", 1) for line in grammar.text.splitlines())


def references(rule: str) -> set[str]:
    """The rules that `rule` names; literals and classes taken out."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[0-9,]*\}', " ", rule)
    return set(re.findall(r"[A-Za-z][A-Za-z0-9-]*", bare))


SCHEMAS: dict[str, Any] = {
    "none": {},
    "all types": properties(
        a={"type": "string"}, b={"type": "number"}, c={"type": "boolean"}, d={"type": "null"},
        e={"type": "array"}, f={"type": "object"}, g={"type": "integer"}, h={},
    ),
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": properties(
                value={"type": "string"}, nodes={"type": "array", "items": {"$ref": "#/$defs/node"}}
            )
        },
    },
    "itself": {"$ref": "#"},
    "circle": properties(a={"$ref": "#/$defs/a"})
    | {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}},
    "late circle": properties(b={"$ref": "#/$defs/b"})
    | {
        "$defs": {
            "a": {"$ref": "#/$defs/b"},
            "b": {"anyOf": [properties(q={"$ref": "#/$defs/a"}), {"$ref": "#/$defs/a"}]},
        }
    },
    "odd": {"type": 5, "properties": [], "required": "x", "additionalProperties": 7},
    "odd inside": properties(a={"enum": {}, "items": 5, "anyOf": [], "prefixItems": 0, "minItems": "x"}),
    "not offered": properties(a=False) | {"required": ["a", "b", 5], "additionalProperties": True},
}  # fmt: skip


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_rule_that_is_named_exists_once_and_none_leads_back_to_itself(
    schema: Any, form: ToolForm
) -> None:
    grammar = grammar_of(schema, form)
    rules = rules_of(grammar)
    assert len(rules) == len(grammar.text.splitlines())
    for rule in rules.values():
        assert references(rule) <= rules.keys()
    # A rule that is nothing but another one, and that another one: no circle.
    alone = {name: set(re.findall(r"[a-z][a-z0-9]*", rule)) for name, rule in rules.items()
             if re.fullmatch(r"[(]?[a-z0-9 |]+[)]?", rule)}  # fmt: skip
    for name in alone:
        reached, left = set(), [name]
        while left:
            for following in alone.get(left.pop(), ()):
                assert following != name
                if following not in reached:
                    reached.add(following)
                    left.append(following)


def test_a_forced_call_and_a_free_one() -> None:
    tools = [tool({}, "now"), tool(properties(city={"type": "string"}), "get_weather")]
    forced = call_grammar(tools, ToolForm.JSON, lazy=False)
    assert forced.trigger is None
    assert call_grammar(tools, ToolForm.JSON, lazy=True).trigger == "<tool_call>"
    assert rules_of(forced)["root"] == "call"
    assert rules_of(forced)["call"].startswith('"<tool_call>\\n" ')
    assert "{0," in rules_of(call_grammar(tools, ToolForm.JSON, lazy=False, several=True))["root"]
    assert '"{\\"name\\": \\"now\\", \\"arguments\\": " "{}" "}"' in rules_of(forced)["call"]


def test_what_is_not_enforced_is_said() -> None:
    parameters = properties(
        day={"type": "string", "format": "date", "pattern": "(a+)+$"},
        ratio={"type": "number", "minimum": 0.5},
        many={"type": "array", "maxItems": 10**9, "uniqueItems": True},
        what={"$ref": "https://example.com/schema"},
    )
    place = "tools[0].function.parameters"
    assert grammar_of(parameters).warnings == (
        f"{place}.day: pattern is not enforced",
        f"{place}.day: format is not enforced",
        f"{place}.ratio: the range of a number, but for its sign is not enforced",
        f"{place}.many: uniqueItems is not enforced",
        f"{place}.many: maxItems is not enforced",
        f"{place}.what: a reference that leads nowhere in this schema is not enforced",
    )
    short = properties(a={"type": "string", "maxLength": 5})
    assert grammar_of(short).warnings == ()
    assert grammar_of(short, ToolForm.XML).warnings == (f"{place}.a: maxLength is not enforced",)
    assert (
        len(grammar_of(properties(**{f"p{i}": {"format": "x"} for i in range(90)})).warnings) == 20
    )


def _nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "additionalProperties": schema}
    return schema


def _doubling(depth: int) -> Any:
    """Each part is a choice between two objects that begin alike: reading it takes 2^depth ways at once."""
    parts: dict[str, Any] = {"d0": {"type": "string"}}
    for level in range(1, depth):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        parts[f"d{level}"] = {"anyOf": [properties(x=below, p={}), properties(x=below, q={})]}
    return properties(a={"$ref": f"#/$defs/d{depth - 1}"}) | {"$defs": parts}


TOO_LARGE: dict[str, Any] = {
    "many properties": properties(**{f"p{i}": {"type": "string"} for i in range(30_000)}),
    "half a megabyte of choices": properties(a={"enum": [f"{i:0>1000}" for i in range(500)]}),
    "deep": _nested(300),
    "maps of maps": _nested(60),
    "doubling": _doubling(30),
    "choice within itself": properties(a={"$ref": "#/$defs/a"})
    | {
        "$defs": {
            "a": {
                "anyOf": [
                    properties(x={"$ref": "#/$defs/a"}, p={}),
                    properties(x={"$ref": "#/$defs/a"}, q={}),
                ]
            }
        }
    },
    "key or any key": {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": properties(x={"$ref": "#/$defs/a"})
            | {"additionalProperties": {"$ref": "#/$defs/a"}}
        },
    },
    "many references": properties(a={"$ref": "#/$defs/p0"})
    | {"$defs": {f"p{i}": properties(a={"$ref": f"#/$defs/p{i + 1}"}) for i in range(1000)}},
    "all of all of": {"type": "object", "allOf": [{"allOf": [{"$ref": "#"}] * 20}] * 20},
    "wide": properties(
        **{
            f"p{i}": {
                "anyOf": [{"type": ["string", "integer"], "maxLength": j} for j in range(100)]
            }
            for i in range(100)
        }
    ),
}


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize("schema", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_hostile_schema_falls_back_in_bounded_time(schema: Any, form: ToolForm) -> None:
    begun = time.process_time()
    grammar = grammar_of(schema, form)
    assert time.process_time() - begun < 1.0
    assert len(grammar.text) <= RULES_CHARS_MAX + 1000
    if form is ToolForm.JSON:  # as text, a value may well be simple
        assert "too large or too deep" in grammar.warnings[0]


@pytest.mark.parametrize(
    "name", ["deep", "doubling", "choice within itself", "key or any key", "many properties"]
)
def test_the_fallback_is_said(name: str) -> None:
    assert grammar_of(TOO_LARGE[name]).warnings == (
        "tools[0].function.parameters: the schema is too large or too deep to be enforced; "
        "any JSON is allowed",
    )


def test_a_fallback_of_one_tool_leaves_the_others_enforced() -> None:
    tools = [
        tool(properties(a={"enum": ["x"]}), "one"),
        tool(TOO_LARGE["doubling"], "two"),
        tool(properties(a={"enum": ["y"]}), "three"),
    ]
    text = call_grammar(tools, ToolForm.JSON, lazy=False).text
    assert '\\"x\\"' in text
    assert '\\"y\\"' in text
    for rule in rules_of(Grammar(text)).values():
        assert references(rule) <= rules_of(Grammar(text)).keys()


def test_many_hostile_tools_share_one_budget() -> None:
    part = {"anyOf": [{"type": "string", "maxLength": i} for i in range(10)]}
    tools = [tool(properties(**{f"p{j}": part for j in range(20)}), f"f{i}") for i in range(100)]
    begun = time.process_time()
    grammar = call_grammar(tools, ToolForm.JSON, lazy=False)
    assert time.process_time() - begun < 1.0
    assert sum("too large" in warning for warning in grammar.warnings) > 30
    assert len(grammar.text) <= RULES_CHARS_MAX + 10_000


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize("width", [10, 20])
def test_schemas_that_use_up_the_whole_budget_leave_room_for_the_calls(
    form: ToolForm, width: int
) -> None:
    part = {"type": "string", "maxLength": 100}
    tools = [
        tool(properties(**{f"p{i}_{j}": part for j in range(width)}), f"function_number_{i}")
        for i in range(TOOLS_MAX)
    ]
    grammar = call_grammar(tools, form, lazy=True)
    rules = rules_of(grammar)
    assert rules["call"].count("function_number_") == TOOLS_MAX
    assert len(grammar.text) <= RULES_CHARS_MAX + 50_000
    for rule in rules.values():
        assert references(rule) <= rules.keys()


def test_all_schemas_together_have_a_size_too() -> None:
    tools = [tool({"description": "x" * 200_000}, f"f{i}") for i in range(6)]
    with pytest.raises(StudioError) as refusal:
        call_grammar(tools, ToolForm.JSON, lazy=False)
    assert refusal.value.param == "tools"


def test_recursion_without_a_choice_is_enforced() -> None:
    grammar = grammar_of(SCHEMAS["tree"])
    assert grammar.warnings == ()
    assert '\\"nodes\\"' in grammar.text


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([], "tools"),
        ([Tool("f")] * (TOOLS_MAX + 1), "tools"),
        ([Tool("bad name")], "tools[0].function.name"),
        ([Tool("f"), Tool("g", parameters="[]")], "tools[1].function.parameters"),
        ([Tool("f", parameters='{"a": ' + "[" * 5000)], "tools[0].function.parameters"),
        (
            [Tool("f", parameters=json.dumps({"description": "x" * SCHEMA_CHARS_MAX}))],
            "tools",
        ),
    ],
    ids=["none", "too many", "name", "no object", "no JSON", "too long"],
)
def test_refusals_name_the_place(tools: list[Tool], param: str) -> None:
    for form in ToolForm:
        with pytest.raises(StudioError) as refusal:
            call_grammar(tools, form, lazy=False)
        assert refusal.value.param == param


def test_a_response_schema_that_is_none_is_refused() -> None:
    with pytest.raises(StudioError) as refusal:
        json_grammar("5")
    assert refusal.value.param == "response_format.json_schema.schema"
    assert json_grammar().warnings == ()
    assert "any JSON is allowed" in json_grammar(json.dumps(TOO_LARGE["doubling"])).warnings[0]


def call_text(arguments: str, name: str = "f") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def xml_call_text(name: str = "f", **parameters: str) -> str:
    parts = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in parameters.items())
    return f"<tool_call>\n<function={name}>\n{parts}</function>\n</tool_call>"


ANSWER = json.dumps(
    properties(city={"type": "string"}, rain={"type": "boolean"}) | {"required": ["city", "rain"]}
)


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize("schema", [ANSWER, None], ids=["schema", "object"])
def test_calls_or_an_answer_in_json(form: ToolForm, schema: str | None) -> None:
    tools = [tool({}, "now"), tool(properties(city={"type": "string"}), "weather")]
    grammar = call_or_json_grammar(tools, form, schema, several=True)
    assert (grammar.trigger, grammar.warnings) == (None, ())
    now, weather = (
        (call_text("{}", "now"), call_text('{"city": "Rome"}', "weather"))
        if form is ToolForm.JSON
        else (xml_call_text("now"), xml_call_text("weather", city="Rome"))
    )
    answer = '{"city": "</b> <\\u00e9", "rain": true}'
    for text in (
        now,
        weather,
        f"{now}\n{weather}\n{now}",
        answer,
        '{\n  "city":"","rain":false\n}',
    ):
        assert accepts(grammar.text, text), text
    for text in (
        "", "It rains.", f"It rains.\n{now}", f"{now}\n{answer}", f"{answer}\n{now}", "5", "[]", '"now"', "<tool_call>",
        call_text("{}", "other"), now.replace("now", "weather ", 1), f"{now}{weather}",
    ):  # fmt: skip
        assert not accepts(grammar.text, text), text
    assert accepts(grammar.text, '{"city": 5}') == (schema is None)
    one = call_or_json_grammar(tools, form, schema, several=False)
    for text in (now, answer):
        assert accepts(one.text, text), text
    assert not accepts(one.text, f"{now}\n{weather}")


@pytest.mark.parametrize("form", ToolForm)
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_calls_and_an_answer_do_not_share_a_name(schema: Any, form: ToolForm) -> None:
    grammar = call_or_json_grammar([tool(schema)], form, json.dumps(schema), several=True)
    rules = rules_of(grammar)
    assert len(rules) == len(grammar.text.splitlines())
    for rule in rules.values():
        assert references(rule) <= rules.keys()


@pytest.mark.parametrize("form", ToolForm)
def test_what_is_not_enforced_of_calls_or_an_answer_is_said_for_both(form: ToolForm) -> None:
    loose = properties(a={"type": "string", "pattern": "a+"})
    grammar = call_or_json_grammar([tool(loose)], form, json.dumps(loose), several=False)
    assert grammar.warnings == (
        "tools[0].function.parameters.a: pattern is not enforced",
        "response_format.json_schema.schema.a: pattern is not enforced",
    )
    hostile = TOO_LARGE["doubling"]
    grammar = call_or_json_grammar([tool(loose)], form, json.dumps(hostile), several=False)
    assert "response_format.json_schema.schema: the schema is too large" in grammar.warnings[-1]
    for text in (
        "5",
        '{"a": [1]}',
        xml_call_text(a="x") if form is ToolForm.XML else call_text('{"a": "x"}'),
    ):
        assert accepts(grammar.text, text)
    with pytest.raises(StudioError) as refusal:
        call_or_json_grammar([], form, None, several=False)
    assert refusal.value.param == "tools"
    with pytest.raises(StudioError) as refusal:
        call_or_json_grammar([tool(loose)], form, "5", several=False)
    assert refusal.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("form", ToolForm)
def test_an_answer_that_uses_up_the_whole_budget_leaves_room_for_the_calls(form: ToolForm) -> None:
    whole = 0
    for length in range(1296, 1304):  # the last of these are too large, the others just fit
        answer = properties(a={"enum": [f"{i:0>{length}}" for i in range(200)]})
        grammar = call_or_json_grammar([tool({}, "now")], form, json.dumps(answer), several=True)
        whole += not grammar.warnings
        assert "now" in rules_of(grammar)["call"]
    assert 0 < whole < 8


@pytest.mark.parametrize(
    "empty", [{}, {"required": []}, {"required": [], "anyOf": [], "patternProperties": {}}]
)
def test_a_function_without_parameters_takes_none_whatever_empty_words_its_schema_has(
    empty: dict[str, Any],
) -> None:
    schema = properties() | empty
    in_json, in_xml = grammar_of(schema).text, grammar_of(schema, ToolForm.XML).text
    assert accepts(in_json, call_text("{}"))
    assert not accepts(in_json, call_text('{"a": 1}'))
    assert accepts(in_xml, xml_call_text())
    assert not accepts(in_xml, xml_call_text(a="1"))


@pytest.mark.parametrize(
    "open_word", [{"additionalProperties": {}}, {"additionalProperties": True}]
)
def test_a_function_whose_schema_is_open_takes_any_parameters(open_word: dict[str, Any]) -> None:
    schema = properties() | {"required": []} | open_word
    assert accepts(grammar_of(schema).text, call_text('{"a": 1}'))
    assert accepts(grammar_of(schema, ToolForm.XML).text, xml_call_text(a="1"))


A_OR_B = {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"} | A_OR_B,
        A_OR_B,
        {"oneOf": [A_OR_B, {"type": ["object", "null"], "required": ["b"]}]},
        {"$ref": "#/$defs/it", "$defs": {"it": A_OR_B}},
        {"anyOf": [{"$ref": "#/$defs/it"}, {"type": "string"}], "$defs": {"it": {"anyOf": [A_OR_B, True]}}},
        {"allOf": [A_OR_B]},
        {"anyOf": [{"enum": [5, {"a": 1}]}, {"const": 5}, {"$ref": "#/nowhere"}]},
        {"type": ["object", "null"], "properties": {"a": {}}},
        {"type": "array", "properties": {"a": {}}},
        {"enum": [5], "properties": {"a": {}}},
        {"anyOf": [{"type": "string"}]},
        {"$ref": "#", "properties": {"a": {}}},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_are_an_object_whatever_the_schema_says(schema: Any) -> None:
    text = grammar_of(schema).text
    assert accepts(text, call_text('{"a": 1}'))
    for arguments in ("5", "null", '"a"', "[]", "true"):
        assert not accepts(text, call_text(arguments)), arguments


def test_choices_have_the_type_that_stands_beside_them() -> None:
    bounds = {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}, {"type": "string"}]}
    texts = {"type": "string", "oneOf": [{"minLength": 3}, {"const": "a"}]}
    schema = json.dumps(properties(a=bounds, b=texts) | {"required": ["a", "b"]})
    grammar = json_grammar(schema)
    assert grammar.warnings == ()
    for a, b, right in (
        ("7", '"abc"', True),
        ("0", '"a"', True),
        ("3", '"a"', False),
        ("7", "5", False),
        ("null", '"abc"', False),
        ('"x"', '"abc"', False),
    ):
        assert accepts(grammar.text, f'{{"a": {a}, "b": {b}}}') == right, (a, b)


def test_a_nullable_reference_beside_a_type_keeps_its_rule() -> None:
    node = properties(
        next={"type": ["object", "null"], "anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
    )
    grammar = json_grammar(json.dumps({"$ref": "#/$defs/node", "$defs": {"node": node}}))
    assert grammar.warnings == ()
    assert accepts(grammar.text, '{"next": {"next": {"next": null}}}')
    assert not accepts(grammar.text, '{"next": {"next": 5}}')


def test_words_that_a_choice_leaves_unenforced_are_said() -> None:
    schema = {
        "type": "object",
        "required": ["c"],
        "additionalProperties": True,
        "oneOf": [{}],
    } | A_OR_B
    place = "tools[0].function.parameters"
    assert set(grammar_of(schema).warnings) == {
        f"{place}: required beside anyOf is not enforced",
        f"{place}: additionalProperties beside anyOf is not enforced",
        f"{place}: oneOf beside anyOf is not enforced",
    }
    assert grammar_of({"type": "object"} | A_OR_B, ToolForm.XML).warnings == (
        f"{place}: anyOf is not enforced",
    )
    closed = {"type": "object", "required": [], "additionalProperties": False} | A_OR_B
    assert grammar_of(closed).warnings == ()
    never = {"type": "object", "anyOf": [{"type": "string"}]}
    assert grammar_of(never).warnings == (f"{place}: anyOf is not enforced",)


@given(st.integers(-2000, 2000), st.integers(0, 3000), st.integers(-6000, 6000))
def test_integers_between(low: int, more: int, value: int) -> None:
    pattern = integer_between(low, low + more).replace('"', "").replace(" ", "")
    assert bool(re.fullmatch(pattern, str(value))) == (low <= value <= low + more)


@given(st.text(alphabet="<>/abc", max_size=30))
def test_text_without_a_word(text: str) -> None:
    rules = Rules()
    start = without(("</ab>", "</c>"), rules)
    table = rules_of(Grammar(rules.text(start)))
    state: str | None = start
    for character in text:
        state = _next(table[state], character) if state else None
    assert (state is not None) == ("</ab>" not in text and "</c>" not in text)


def _next(rule: str, character: str) -> str | None:
    for choice in rule.removeprefix("(").removesuffix(")?").split(" | "):
        characters, _, following = choice.partition(" ")
        if re.fullmatch(characters, character):
            return following
    return None
