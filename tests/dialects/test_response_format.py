"""`response_format`: its three forms, the word that one of them needs, and refusals by name."""

import json
from collections.abc import Callable

import msgspec
import pytest

from ownstudio.catalog import Catalog, Features, Model
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import ResponseFormat
from ownstudio.dialects.openai_chat import OpenAIChat

Resolve = Callable[[str], Model]

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
WORD_RULE = (
    "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
    "'json_object'."
)


def ask(resolve: Resolve, value: object, content: object = "hi") -> ResponseFormat:
    body = {
        "model": "qwen-plus",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": content},
        ],
        "response_format": value,
    }
    return OpenAIChat().parse(json.dumps(body).encode(), resolve).request.response_format


def refusal(resolve: Resolve, value: object, content: object = "hi") -> StudioError:
    with pytest.raises(StudioError) as caught:
        ask(resolve, value, content)
    return caught.value


def schema_format(**fields: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "X", "schema": SCHEMA, **fields}}


@pytest.mark.parametrize("value", [None, {"type": "text"}])
def test_free_text(value: object, resolve: Resolve) -> None:
    assert ask(resolve, value) == ResponseFormat()


@pytest.mark.parametrize("content", ["as json", "JSON!", [{"type": "text", "text": "JsonLines"}]])
def test_a_json_object_needs_the_word(content: object, resolve: Resolve) -> None:
    wanted = {"type": "json_object"}
    assert ask(resolve, wanted, content) == ResponseFormat("json_object")
    error = refusal(resolve, wanted)
    assert (error.param, error.message, error.from_engine) == ("messages", WORD_RULE, True)


def test_a_row_of_the_catalogue_can_switch_the_word_off(models: list[Model]) -> None:
    wordless = msgspec.structs.replace(models[0], features=Features(json_word=False))
    wanted = {"type": "json_object"}
    assert ask(Catalog([wordless]).resolve, wanted) == ResponseFormat("json_object")


@pytest.mark.parametrize(("strict", "read"), [(None, False), (False, False), (True, True)])
def test_a_schema_is_kept_as_text_and_needs_no_word(
    strict: object, read: bool, resolve: Resolve
) -> None:
    asked = ask(resolve, schema_format(strict=strict, description="what for"))
    assert asked == ResponseFormat(
        "json_schema", schema=json.dumps(SCHEMA, separators=(",", ":")), name="X", strict=read
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("json_object", "json_object"),
        (["json_object"], "list"),
        ({}, "NoneType"),
        ({"type": "xml"}, "xml"),
        ({"type": "x" * 1000}, "x" * 64),
        ({"type": {"type": "json_object"}}, "dict"),
    ],
)
def test_other_formats_are_refused_in_the_services_words(
    value: object, shown: str, resolve: Resolve
) -> None:
    error = refusal(resolve, value)
    assert error.param == "response_format"
    assert error.message == (
        "Unknown format of response_format, response_format should be a dict, includes 'type' "
        "and an optional key 'json_schema'. The response_format type from user is " + shown + "."
    )


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"type": "json_schema"}, ""),
        ({"type": "json_schema", "json_schema": "X"}, ""),
        (schema_format(name=None), ".name"),
        (schema_format(name="a b"), ".name"),
        (schema_format(name="a" * 65), ".name"),
        (schema_format(schema=None), ".schema"),
        (schema_format(schema="{}"), ".schema"),
        (schema_format(schema=True), ".schema"),
        (schema_format(schema={"description": "x" * 256 * 1024}), ".schema"),
        (schema_format(strict="yes"), ".strict"),
    ],
)
def test_a_schema_of_the_wrong_shape_is_refused_where_it_stands(
    value: object, param: str, resolve: Resolve
) -> None:
    error = refusal(resolve, value)
    assert error.param == "response_format.json_schema" + param
    assert error.kind in (ErrorKind.INVALID_PARAMETER, ErrorKind.MISSING_PARAMETER)


def test_a_model_without_json_says_so(models: list[Model]) -> None:
    plain = Catalog([msgspec.structs.replace(models[0], features=Features(json=False))])
    for value in ({"type": "json_object"}, schema_format()):
        error = refusal(plain.resolve, value, "as json")
        assert error.param == "response_format"
        assert error.message == (
            f"The model qwen-plus does not support response_format {value['type']}."
        )
    assert ask(plain.resolve, {"type": "text"}) == ResponseFormat()
