"""The grammars in the real engine: whatever a model writes at random that ends, parses and fits its schema."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import ownstudio
from ownstudio.core.request import Tool
from ownstudio.engines.llamacpp import LlamaCppEngine
from ownstudio.engines.worker import WorkerOptions
from ownstudio.qwen.grammar import Grammar, call_grammar, call_or_json_grammar, json_grammar
from ownstudio.qwen.parser import OutputParser
from ownstudio.qwen.pieces import CallArguments, CallStart, Piece, joined
from ownstudio.qwen.schema import referred, type_of
from ownstudio.qwen.tools import ToolForm, ToolSet

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUNDLED = Path(ownstudio.__file__).parent / "bundled" / "ownstudio-tiny.gguf"
# So that random strings, lists and values come to an end now and then. Each text is one token.
ENDINGS = [['"', 7], ['"}', 6], ["}", 5], ["]", 5], ['",', 4], [",", 3]]

PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["celsius", "fahrenheit", None]},
        "near": {"type": "array", "items": {"$ref": "#/$defs/point"}, "maxItems": 2},
        "exact": {"type": "boolean"},
    },
    "required": ["city", "near"],
    "$defs": {
        "point": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "required": ["x"],
        }
    },
}  # fmt: skip
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 4},
                "nodes": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["name"],
            "additionalProperties": {"type": "boolean"},
        }
    },
}
TOOLS = [
    Tool("place", parameters=json.dumps(PLACE)),
    Tool("tree", parameters=json.dumps(TREE)),
    Tool("now"),
]


def fits(value: Any, schema: Any, root: Any) -> bool:
    """Whether `value` is what the schemas of this file ask for."""
    if "$ref" in schema:
        return fits(value, referred(root, schema["$ref"]), root)
    if "anyOf" in schema:
        return any(fits(value, choice, root) for choice in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = type_of(value)
    if kind != schema["type"] and (kind, schema["type"]) != ("integer", "number"):
        return False
    match value:
        case str():
            return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 999)
        case bool():
            return True
        case int():
            return schema.get("minimum", value) <= value <= schema.get("maximum", value)
        case list():
            return len(value) <= schema["maxItems"] and all(
                fits(item, schema["items"], root) for item in value
            )
        case dict():
            parts, more = schema["properties"], schema.get("additionalProperties")
            return set(schema.get("required", ())) <= value.keys() and all(
                fits(item, parts.get(key, more), root) if parts.get(key, more) else False
                for key, item in value.items()
            )
    return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LlamaCppEngine, None]:
    options = WorkerOptions(model_path=str(BUNDLED), context=2048, slots=1, cache_ram_mib=0)
    shared = LlamaCppEngine(options, tmp_path_factory.mktemp("run"))
    await shared.ready()
    yield shared
    await shared.close()


async def written(
    engine: LlamaCppEngine,
    grammar: Grammar,
    seed: int,
    bias: list[Any] | None = None,
    tokens_max: int = 120,
) -> tuple[str, bool]:
    """A random text that the grammar allows, and whether it came to its end."""
    body: dict[str, Any] = {
        "prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        "n_predict": tokens_max,
        "temperature": 1.5,
        "seed": seed,
        "grammar": grammar.text,
        "samplers": ["temperature", "min_p"],
        "min_p": 1e-10,
        "logit_bias": [*ENDINGS, *(bias or [])],
    }
    if grammar.trigger is not None:
        body |= {
            "grammar_lazy": True,
            "grammar_triggers": [{"type": 1, "value": grammar.trigger}],
            "preserved_tokens": [grammar.trigger],
        }
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(engine.socket_path))) as session,
        session.post(
            "http://worker/completion",
            json=body,
            headers={"Authorization": f"Bearer {engine.key}"},
        ) as response,
    ):
        answer = await response.json()
        assert response.status == 200, answer
        return answer["content"], answer["stop_type"] == "eos"


def calls_in(text: str) -> list[tuple[str, Any]]:
    """The calls that `text` consists of; the last may be cut."""
    parser = OutputParser(tools=ToolSet(TOOLS))
    pieces: list[Piece] = joined(parser.feed(text) + parser.finish())
    calls: list[tuple[str, Any]] = []
    for start, arguments in zip(pieces[::2], pieces[1::2], strict=False):
        assert isinstance(start, CallStart)
        assert isinstance(arguments, CallArguments)
        calls.append((start.name, json.loads(arguments.arguments)))
    return calls


# Random tokens hardly ever spell the end of a raw string, so that in the XML form this one has choices.
CHOSEN = PLACE | {"properties": PLACE["properties"] | {"city": {"enum": ["Paris", "a\n</b>"]}}}


@pytest.mark.parametrize(
    ("name", "schema", "form"),
    [
        ("place", PLACE, ToolForm.JSON),
        ("tree", TREE, ToolForm.JSON),
        ("now", {}, ToolForm.JSON),
        ("place", CHOSEN, ToolForm.XML),
        ("now", {}, ToolForm.XML),
    ],
)
async def test_a_forced_call_is_right_by_construction(
    engine: LlamaCppEngine, name: str, schema: Any, form: ToolForm
) -> None:
    grammar = call_grammar([Tool(name, parameters=json.dumps(schema))], form, lazy=False)
    assert grammar.warnings == ()
    ends = 0
    for seed in range(8):
        text, ended = await written(engine, grammar, seed)
        if ended:
            ends += 1
            [(called, arguments)] = calls_in(text)
            assert called == name
            assert fits(arguments, {"type": "object", "properties": {}, **schema}, schema), text
        if ends:
            return
    assert ends


async def test_a_raw_string_is_free_until_its_end(engine: LlamaCppEngine) -> None:
    grammar = call_grammar([TOOLS[0]], ToolForm.XML, lazy=False)
    text, _ = await written(engine, grammar, 1, [["</", 8], ["<", 6], ["\n", 6]])
    [(_, arguments)] = calls_in(text)
    assert isinstance(arguments["city"], str)


@pytest.mark.parametrize("form", ToolForm)
async def test_one_or_more_of_several_tools(engine: LlamaCppEngine, form: ToolForm) -> None:
    one = call_grammar(TOOLS, form, lazy=False)
    several = call_grammar([TOOLS[2]], form, lazy=False, several=True)
    text, ended = await written(engine, one, 1)
    assert [name for name, _ in calls_in(text)] in [[tool.name] for tool in TOOLS] or not ended
    text, _ = await written(engine, several, 1)
    assert {name for name, _ in calls_in(text)} == {"now"}


@pytest.mark.parametrize("form", ToolForm)
async def test_a_call_that_the_model_opens_itself_is_right_from_there(
    engine: LlamaCppEngine, form: ToolForm
) -> None:
    grammar = call_grammar([TOOLS[2]], form, lazy=True)
    texts = [await written(engine, grammar, seed, [["<tool_call>", 9]]) for seed in range(12)]
    opened = [text for text, ended in texts if ended and "<tool_call>" in text]
    assert opened
    for text in opened:
        said, _, _ = text.partition("<tool_call>")
        parser = OutputParser(tools=ToolSet(TOOLS))
        pieces = joined(parser.feed(text) + parser.finish())
        assert pieces[-2:] == [CallStart(0, "now"), CallArguments(0, "{}")], (said, text)


WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "rain": {"type": "boolean"}},
    "required": ["city", "rain"],
}


@pytest.mark.parametrize("form", ToolForm)
async def test_a_model_that_may_call_or_answer_in_json_does_what_it_begins_with(
    engine: LlamaCppEngine, form: ToolForm
) -> None:
    tool = Tool("place", parameters=json.dumps(WEATHER))
    grammar = call_or_json_grammar([tool], form, json.dumps(WEATHER), several=False)
    text, ended = await written(engine, grammar, 1, [["<tool_call>", 20]])
    [(called, arguments)] = calls_in(text)
    assert ended
    assert called == "place"
    assert fits(arguments, WEATHER, WEATHER), text
    text, ended = await written(engine, grammar, 1, [["{", 20]])
    assert ended
    assert fits(json.loads(text), WEATHER, WEATHER), text


async def test_any_json_object(engine: LlamaCppEngine) -> None:
    for seed in range(8):
        text, ended = await written(engine, json_grammar(), seed)
        if ended:
            assert isinstance(json.loads(text), dict)
            return
    pytest.fail("no text came to its end")


async def test_json_that_fits_a_schema(engine: LlamaCppEngine) -> None:
    for schema in (PLACE, TREE):
        ends = 0
        for seed in range(8):
            text, ended = await written(engine, json_grammar(json.dumps(schema)), seed)
            if ended:
                ends += 1
                assert fits(json.loads(text), schema, schema), text
            if ends:
                break
        assert ends


HEAVY: dict[str, Any] = {
    "the longest run of optional keys": {"properties": {f"p{i}": {"type": "integer"} for i in range(100)}},
    "the most choices": {"properties": {"a": {"enum": [f"{i}" for i in range(200)]}}},
    "choices between objects": {
        "properties": {
            "a": {"anyOf": [{"properties": {f"k{j}": {} for j in range(i, i + 8)}} for i in range(20)]}
        }
    },
    "the longest repetitions": {
        "properties": {
            f"p{i}": {"type": "array", "items": {"type": "string", "maxLength": 490}, "maxItems": 490}
            for i in range(4)
        }
    },
    "the largest grammar": {
        "properties": {
            f"p{i}": {"properties": {f"{j}" + "k" * 60: {"type": "integer"} for j in range(13)}}
            for i in range(90)
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("schema", HEAVY.values(), ids=HEAVY)
async def test_the_heaviest_that_is_let_through_does_not_hold_up_the_engine(
    engine: LlamaCppEngine, schema: Any
) -> None:
    tool = Tool("f", parameters=json.dumps({"type": "object", **schema}))
    grammar = call_grammar([tool], ToolForm.JSON, lazy=False)
    assert grammar.warnings == ()
    text, _ = await written(engine, grammar, 1, tokens_max=30)
    assert text.startswith("<tool_call>")
