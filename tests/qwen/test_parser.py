"""What answers mean, as models write them. Each is cut at every place and must mean the same."""

import json

import pytest

from ownstudio.core.request import Tool
from ownstudio.qwen.parser import OutputParser, Thinking
from ownstudio.qwen.pieces import CallArguments, CallStart, Piece, Reasoning, Text, joined
from ownstudio.qwen.tools import ToolSet

WEATHER = Tool(
    "get_weather",
    parameters=json.dumps(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "options": {"type": "object"},
                "places": {"type": "array"},
                "exact": {"type": "boolean"},
                "note": {},
            },
            "required": ["city"],
        }
    ),
)
TOOLS = ToolSet([WEATHER, Tool("now")])


def call(arguments: str, name: str = "get_weather", number: int = 0) -> list[Piece]:
    return [CallStart(number, name), CallArguments(number, arguments)]


def meaning(
    text: str,
    *,
    thinking: Thinking = Thinking.NEVER,
    tools: ToolSet | None = TOOLS,
    calls_max: int = 8,
) -> list[Piece]:
    """The joined pieces of `text`, which must not depend on where it is cut."""

    def read(*chunks: str) -> list[Piece]:
        parser = OutputParser(thinking=thinking, tools=tools, calls_max=calls_max)
        pieces = [piece for chunk in chunks for piece in parser.feed(chunk)]
        return joined(pieces + parser.finish())

    whole = read(text)
    assert read(*text) == whole
    for place in range(len(text)):
        assert read(text[:place], text[place:]) == whole
    return whole


HERMES = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
XML = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
    "</function>\n</tool_call>"
)


@pytest.mark.parametrize("text", [HERMES, XML], ids=["json", "xml"])
@pytest.mark.parametrize(
    ("before", "after", "said_before", "said_after"),
    [
        ("", "", [], []),
        ("I look it up.\n\n", "\n", [Text("I look it up.")], []),
        ("One moment:", "\n\nDone.\n", [Text("One moment:")], [Text("Done.\n")]),
        ("if a < b: <b>\n", "", [Text("if a < b: <b>")], []),
    ],
)
def test_a_call_with_text_around_it(
    text: str, before: str, after: str, said_before: list[Piece], said_after: list[Piece]
) -> None:
    pieces = meaning(before + text + after)
    assert pieces == [*said_before, *call('{"city": "Paris"}'), *said_after]


def test_several_calls_in_one_answer() -> None:
    now = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    assert meaning(f"{HERMES}\n{XML}\n{now}") == [
        *call('{"city": "Paris"}'),
        *call('{"city": "Paris"}', number=1),
        *call("{}", "now", 2),
    ]


def test_several_calls_in_one_tag() -> None:
    text = '<tool_call>\n{"name": "now"}\n{"name": "now"}\n</tool_call>'
    assert meaning(text) == [*call("{}", "now"), *call("{}", "now", 1)]


def test_only_as_many_calls_as_were_asked_for() -> None:
    assert meaning(f"Yes.\n{HERMES}\n{XML} more", calls_max=1) == [
        Text("Yes."),
        *call('{"city": "Paris"}'),
    ]
    parser = OutputParser(tools=TOOLS, calls_max=1)
    parser.feed(HERMES.removesuffix("</tool_call>"))
    assert not parser.ended
    parser.feed("</tool_call>")
    assert parser.ended
    assert parser.calls == 1


def test_without_tools_nothing_is_a_call() -> None:
    assert meaning(HERMES, tools=None) == [Text(HERMES)]
    assert meaning("a\n\n", tools=None) == [Text("a\n\n")]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ('{"city": "say \\"</tool_call>\\" <function=now>"}', None),
        ('{"city": "\\u5929\\u6c14 \\ud83d\\ude00"}', None),
        ('{"options": {"a": [1, {"b": [[], {}]}], "c": null}, "days": -1.5e3}', None),
        ('{ "city" :\n"Paris" }', None),
        ('{"city": "a\nb\tc"}', '{"city": "a\\nb\\tc"}'),
        ('{"city": "C:\\dir \\\' \\ud800 "}', '{"city": "C:\\\\dir \' \\ufffd "}'),
        ('{"places": [1, 2, ], }', '{"places": [1, 2]}'),
        ('{"exact": True, "note": None}', '{"exact": true, "note": null}'),
    ],
)
def test_json_arguments_go_on_as_they_are_and_as_valid_json(
    arguments: str, written: str | None
) -> None:
    text = f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}}}\n</tool_call>'
    assert meaning(text) == call(written or arguments)
    json.loads(written or arguments)


@pytest.mark.parametrize(
    "body",
    [
        '{"arguments": {"city": "Paris"}, "name": "get_weather"}',
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}',
        '{"id": [1, "x"], "name": "get_weather", "arguments": {"city": "Paris"}, "type": {}}',
        '{"name": "get_weather", "arguments": {"city": "Paris"}',
        '{"name": "get_weather", "arguments": {"city": "Paris"',
        '{"name": "get_weather", "arguments": {"city": "Paris"}}}}',
    ],
    ids=["name last", "a string", "more keys", "brace missing", "two missing", "too many braces"],
)
def test_json_calls_that_are_not_quite_as_they_should(body: str) -> None:
    text = f"<tool_call>\n{body}\n</tool_call>\nDone."
    assert meaning(text) == [*call('{"city": "Paris"}'), Text("Done.")]


@pytest.mark.parametrize("arguments", ["", ', "arguments": {}', ', "arguments": null'])
def test_no_arguments(arguments: str) -> None:
    assert meaning(f'<tool_call>{{"name": "now"{arguments}}}</tool_call>') == call("{}", "now")
    assert meaning("<tool_call><function=now></function></tool_call>") == call("{}", "now")
    assert meaning("<tool_call>\n<function=now>\n</tool_call>") == call("{}", "now")


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "The tag <tool_call> opens a call.",
        '<tool_call>\n{"name": "get_wea',
        '<tool_call>\n{"name": "get_weather", "arguments": {"ci',
        '<tool_call>{"name": "get_weather", "arguments": {"city": Paris}}</tool_call>',
        '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "get weather", "arguments": {}}</tool_call>',
        '<tool_call>{"city": "Paris"}</tool_call>',
        "<tool_call>\n<function=get weather>\n</function>\n</tool_call>",
        '<tool_call>\n<function=now>\n{"a": 1}\n</function>\n</tool_call>',
        "<tool_call>\n<function=get_wea",
        "<function=unknown>\n<parameter=a>\n1\n</parameter>\n</function>",
        "a <function=",
        "x </tool_call> y </think> z",
    ],
)
def test_what_does_not_become_a_call_is_text(text: str) -> None:
    assert meaning(text) == [Text(text)]


def test_broken_text_does_not_hide_the_next_call() -> None:
    assert meaning(f"<tool_call>oops<tool_call>{HERMES}") == [
        Text("<tool_call>oops<tool_call>"),
        *call('{"city": "Paris"}'),
    ]


@pytest.mark.parametrize(
    ("cut", "arguments"),
    [
        ('{"name": "get_weather", "arguments": {"city": "Pa', '{"city": "Pa"}'),
        ('{"name": "get_weather", "arguments": {"city": "Pa\\', '{"city": "Pa"}'),
        ('{"name": "get_weather", "arguments": {"places": [1, [2, 3', '{"places": [1, [2]]}'),
        ('{"name": "get_weather", "arguments": {"exact": true, "da', '{"exact": true}'),
        ('{"name": "get_weather", "arguments": {"city": "a"}', '{"city": "a"}'),
        ("<function=get_weather>\n<parameter=city>\nPa", '{"city": "Pa"}'),
        ("<function=get_weather>\n<parameter=city>\nPa\n</para", '{"city": "Pa"}'),
        ("<function=get_weather>\n<parameter=exact>\ntr", "{}"),
    ],
)
def test_half_a_call_is_closed_where_the_answer_was_cut(cut: str, arguments: str) -> None:
    assert meaning("<tool_call>\n" + cut) == call(arguments)


def test_a_call_that_breaks_after_it_began_is_closed_and_the_rest_is_text() -> None:
    text = '<tool_call>{"name": "get_weather", "arguments": {"city": "a" "days": 1}}</tool_call>'
    assert meaning(text) == [
        *call('{"city": "a"}'),
        Text('"days": 1}}</tool_call>'),
    ]


def test_a_nest_too_deep_for_anyone_is_closed() -> None:
    text = '<tool_call>{"name": "now", "arguments": {"a": ' + "[" * 200
    first, second, rest = joined(_pieces_of(text))
    assert first == CallStart(0, "now")
    assert isinstance(second, CallArguments)
    json.loads(second.arguments)
    assert rest == Text("[" * (200 - 127))


def _pieces_of(text: str) -> list[Piece]:
    parser = OutputParser(tools=TOOLS)
    return parser.feed(text) + parser.finish()


@pytest.mark.parametrize(
    ("key", "value", "written"),
    [
        ("city", "5", '"5"'),
        ("city", 'He said "hi"\\ \n\n天气\t', '"He said \\"hi\\"\\\\ \\n\\n天气\\t"'),
        ("city", "", '""'),
        ("city", "a <b> </b> </param>", '"a <b> </b> </param>"'),
        ("city", "null", '"null"'),
        ("days", "5", "5"),
        ("days", " 5 ", "5"),
        ("days", "five", '"five"'),
        ("unit", "null", "null"),
        ("unit", "None", "null"),
        ("unit", "nullify", '"nullify"'),
        ("unit", "celsius", '"celsius"'),
        ("options", '{"a": [1, 2]}', '{"a": [1, 2]}'),
        ("options", '{"a": \n1,}', '{"a": \n1}'),
        ("options", "{a: 1}", '"{a: 1}"'),
        ("places", '["a", "b"]', '["a", "b"]'),
        ("exact", "True", "true"),
        ("exact", "false", "false"),
        ("exact", "yes", '"yes"'),
        ("note", "5", "5"),
        ("note", "5 apples", '"5 apples"'),
        ("note", '"quoted"', '"\\"quoted\\""'),
        ("not in the schema", "true", "true"),
    ],
)
def test_xml_values_have_the_type_that_the_schema_says(key: str, value: str, written: str) -> None:
    text = (
        f"<tool_call>\n<function=get_weather>\n<parameter={key}>\n{value}\n</parameter>\n"
        "</function>\n</tool_call>"
    )
    assert meaning(text) == call(f'{{"{key}": {written}}}')
    json.loads(written)


def test_one_line_break_at_either_end_is_the_templates() -> None:
    def value(text: str) -> str:
        pieces = meaning(f"<tool_call><function=now><parameter=a>{text}</parameter></function>")
        assert isinstance(pieces[1], CallArguments)
        arguments: dict[str, str] = json.loads(pieces[1].arguments)
        return arguments["a"]

    assert value("x") == "x"
    assert value("\n\n x\n\n") == "\n x\n"
    assert value("\n\n") == value("\n") == value("") == ""


@pytest.mark.parametrize(
    "text",
    [
        XML.removeprefix("<tool_call>\n"),
        XML.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"),
        XML.replace("\n</parameter>", ""),
        XML.replace("</parameter>\n</function>\n", "</parameter>\n"),
    ],
    ids=["not opened", "bare", "parameter not closed", "function not closed"],
)
def test_xml_calls_that_are_not_quite_as_they_should(text: str) -> None:
    assert meaning(f"Look:\n{text}\nDone.") == [
        Text("Look:"),
        *call('{"city": "Paris"}'),
        Text("Done."),
    ]


def test_a_function_that_was_not_offered_can_still_be_called_but_not_barely() -> None:
    assert meaning(XML.replace("get_weather", "other")) == call('{"city": "Paris"}', "other")
    assert meaning(HERMES.replace("get_weather", "other")) == call('{"city": "Paris"}', "other")


def test_strings_stream_while_they_are_written() -> None:
    for text in (HERMES, XML):
        parser = OutputParser(tools=TOOLS)
        fragments = [
            piece.arguments
            for character in text
            for piece in parser.feed(character)
            if isinstance(piece, CallArguments)
        ]
        assert "|a|r|i|s|" in "|".join(fragments)


@pytest.mark.parametrize(
    ("text", "thinking", "pieces"),
    [
        ("hm\n</think>\n\nYes.", Thinking.OPEN, [Reasoning("hm"), Text("Yes.")]),
        ("\n\nhm\n\nso\n\n</think>\n\n\nYes.\n", Thinking.OPEN, [Reasoning("hm\n\nso"), Text("Yes.\n")]),
        ("<think>\nhm\n</think>\n\nYes.", Thinking.MAY, [Reasoning("hm"), Text("Yes.")]),
        ("\n <think>hm</think>Yes.", Thinking.MAY, [Reasoning("hm"), Text("Yes.")]),
        ("<think>\n\n</think>\n\nYes.", Thinking.MAY, [Text("Yes.")]),
        (" <thin> Yes.", Thinking.MAY, [Text(" <thin> Yes.")]),
        ("Yes. <think>x</think>", Thinking.MAY, [Text("Yes. <think>x</think>")]),
        ("<think>x</think>", Thinking.NEVER, [Text("<think>x</think>")]),
        ("cut off here\n", Thinking.OPEN, [Reasoning("cut off here")]),
        ("<think>", Thinking.MAY, []),
        ("a </thin b", Thinking.OPEN, [Reasoning("a </thin b")]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tools", [TOOLS, None], ids=["tools", "no tools"])
def test_thinking(
    text: str, thinking: Thinking, pieces: list[Piece], tools: ToolSet | None
) -> None:
    assert meaning(text, thinking=thinking, tools=tools) == pieces


@pytest.mark.parametrize("text", [HERMES, XML], ids=["json", "xml"])
def test_a_call_inside_thinking_ends_it(text: str) -> None:
    pieces: list[Piece] = [Reasoning("I need it"), *call('{"city": "Paris"}')]
    assert meaning(f"I need it\n{text}", thinking=Thinking.OPEN) == pieces
    closed = meaning(f"I need it\n{text}\n</think>\n\nWait.", thinking=Thinking.OPEN)
    assert closed == [*pieces, Text("Wait.")]


def test_a_call_that_is_only_thought_about_leaves_the_thinking_open() -> None:
    text = "I could write <tool_call> or <function=now>…\n</think>\n\nNo."
    assert meaning(text, thinking=Thinking.OPEN) == [
        Reasoning("I could write <tool_call> or <function=now>…"),
        Text("No."),
    ]


def test_whether_it_thinks_is_known_at_any_time() -> None:
    parser = OutputParser(thinking=Thinking.OPEN, tools=TOOLS)
    seen = []
    for chunk in ("hm", "</thi", "nk>", "Yes"):
        parser.feed(chunk)
        seen.append(parser.thinking)
    assert seen == [True, True, False, False]


def test_text_is_not_held_without_need() -> None:
    parser = OutputParser(tools=TOOLS)
    assert parser.feed("a < b") == [Text("a < b")]
    assert parser.feed(" <to") == [Text(" ")]
    assert parser.feed("p>") == [Text("<top>")]
    assert parser.feed("") == []
    assert parser.feed("x\n") == [Text("x")]
    assert parser.finish() == [Text("\n")]
    assert parser.feed("late") == []
