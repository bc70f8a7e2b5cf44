"""The native dialect: what DashScope is known to answer."""

from typing import Unpack

from ownstudio.conformance import rules
from ownstudio.conformance.case import MODEL, Case, Json, More
from ownstudio.conformance.shapes import (
    Absent,
    Either,
    Fields,
    Items,
    JsonText,
    Null,
    Number,
    Shape,
    Text,
    Whole,
)

CODER_PAGE = "Qwen-Coder page, November 2025, DashScope"
REFERENCE = "Qwen API reference, DashScope, February 2026"
ERRORS_PAGE = "Error messages page, 2026"
PYTHON_SDK = "requests and parser of dashscope for Python, 1.24.6 to 2.0.2"
RECORDED = "answers recorded by users of the service, 2024 to 2026"
TOOLS_PAGE = "Function calling page, 2026, DashScope"

_TEXT_GENERATION = "/api/v1/services/aigc/text-generation/generation"
_SSE = {"X-DashScope-SSE": "enable"}
_SHORT = 12

_REQUEST_ID = Text(pattern=r".+")
_REASON = Text("stop", "length")
_ANY_REASON = Text("stop", "length", "null")
_USAGE = Fields(input_tokens=Whole(1), output_tokens=Whole(), total_tokens=Whole(1))
_ENVELOPE = Fields(usage=_USAGE, request_id=_REQUEST_ID).maybe(
    code=Either(Null(), Text("")), message=Either(Null(), Text(""))
)


def _message(reason: Shape) -> Fields:
    message = Fields(role=Text("assistant"), content=Text())
    choice = Fields(message=message, finish_reason=reason)
    return _ENVELOPE.but(output=Fields(choices=Items(choice, 1)))


def _text(reason: Shape) -> Fields:
    return _ENVELOPE.but(output=Fields(text=Text(), finish_reason=reason))


def _error(code: str, message: str | None = None) -> Fields:
    """`message` is a pattern that the message must hold."""
    pattern = None if message is None else f".*(?:{message}).*"
    return Fields(
        code=Text(code),
        message=Text(pattern=pattern) if pattern else Text(pattern=".+"),
        request_id=_REQUEST_ID,
        output=Absent(),
    )


def _ask(parameters: Json | None = None, **given: object) -> Json:
    body: Json = {
        "model": MODEL,
        "input": given or {"messages": [{"role": "user", "content": "Who are you?"}]},
    }
    if parameters is not None:
        body["parameters"] = parameters
    return body


def _case(name: str, source: str, body: Json | bytes, shape: Shape, **more: Unpack[More]) -> Case:
    rest: More = {"path": _TEXT_GENERATION, **more}
    return Case(name=name, dialect="dashscope", source=source, body=body, shape=shape, **rest)


_WHOLE = (rules.json_type, rules.usage_adds_up, rules.one_request_id)
_REFUSED = (rules.json_type, rules.one_request_id)

ANSWERS = (
    _case(
        "text is the default form",
        f"{REFERENCE}; {RECORDED}",
        _ask({"max_tokens": _SHORT}),
        _text(_REASON),
        rules=_WHOLE,
    ),
    _case(
        "the message form",
        CODER_PAGE,
        _ask({"result_format": "message", "max_tokens": _SHORT}),
        _message(_REASON),
        rules=_WHOLE,
    ),
    _case(
        "a prompt instead of messages",
        PYTHON_SDK,
        _ask({"max_tokens": _SHORT}, prompt="Who are you?"),
        _text(_REASON),
        rules=_WHOLE,
    ),
    _case(
        "an old-style history before the prompt",
        PYTHON_SDK,
        _ask({"max_tokens": _SHORT}, history=[{"user": "Hi", "bot": "Hello!"}], prompt="And you?"),
        _text(_REASON),
        rules=_WHOLE,
    ),
    _case(
        "`stream` among the parameters means nothing",
        PYTHON_SDK,
        _ask({"stream": True, "max_tokens": _SHORT}),
        _text(_REASON),
        rules=_WHOLE,
    ),
    _case(
        "two choices are told apart by index",
        f"{REFERENCE}; {PYTHON_SDK}",
        _ask({"result_format": "message", "n": 2, "max_tokens": _SHORT}),
        _ENVELOPE.but(
            output=Fields(
                choices=Items(
                    Fields(
                        index=Whole(),
                        finish_reason=_REASON,
                        message=Fields(role=Text("assistant"), content=Text()),
                    ),
                    2,
                    2,
                )
            )
        ),
        rules=_WHOLE,
    ),
    _case(
        "log probabilities",
        REFERENCE,
        _ask(
            {"result_format": "message", "logprobs": True, "top_logprobs": 1, "max_tokens": _SHORT}
        ),
        _ENVELOPE.but(
            output=Fields(
                choices=Items(
                    Fields(
                        logprobs=Fields(
                            content=Items(
                                Fields(
                                    token=Text(),
                                    logprob=Number(0.001),
                                    top_logprobs=Items(Fields()),
                                ),
                                1,
                            )
                        )
                    ),
                    1,
                )
            )
        ),
    ),
    _case(
        "partial mode goes on with the last message",
        CODER_PAGE,
        _ask(
            {"result_format": "message", "max_tokens": _SHORT},
            messages=[
                {"role": "user", "content": "Write a Python function that adds two numbers."},
                {"role": "assistant", "content": "def add(", "partial": True},
            ],
        ),
        _message(_REASON),
        rules=_WHOLE,
    ),
)

_TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
_FORCED: Json = {
    "result_format": "message",
    "tools": [_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "get_current_weather"}},
}
_ASKS_FOR_A_TOOL = [{"role": "user", "content": "What is the weather in Paris?"}]

TOOLS = (
    _case(
        "a call of a tool",
        f"{CODER_PAGE}; {TOOLS_PAGE}",
        _ask(_FORCED, messages=_ASKS_FOR_A_TOOL),
        _ENVELOPE.but(
            output=Fields(
                choices=Items(
                    Fields(
                        finish_reason=Text("tool_calls", "stop"),
                        message=Fields(
                            role=Text("assistant"),
                            content=Text(),
                            tool_calls=Items(
                                Fields(
                                    index=Whole(),
                                    id=Text(pattern=".+"),
                                    type=Text("function"),
                                    function=Fields(
                                        name=Text("get_current_weather"),
                                        arguments=JsonText(Fields(city=Text())),
                                    ),
                                ),
                                1,
                            ),
                        ),
                    ),
                    1,
                )
            )
        ),
        rules=_WHOLE,
    ),
    _case(
        "fragments of a call are text, never null",
        f"{TOOLS_PAGE}; parser of dashscope for Java 2.22.29",
        _ask({**_FORCED, "incremental_output": True}, messages=_ASKS_FOR_A_TOOL),
        _ENVELOPE.but(
            output=Fields(
                choices=Items(
                    Fields(
                        finish_reason=Text("tool_calls", "stop", "null"),
                        message=Fields(role=Text("assistant"), content=Text()).maybe(
                            tool_calls=Items(
                                Fields(
                                    index=Whole(),
                                    type=Text("function"),
                                    function=Fields(arguments=Text()).maybe(name=Text()),
                                ).maybe(id=Text())
                            )
                        ),
                    ),
                    1,
                )
            )
        ),
        headers=_SSE,
        streams=True,
        rules=rules.NATIVE_STREAM,
    ),
)

STREAMS = (
    _case(
        "a stream is cumulative unless asked",
        f"{REFERENCE}; dashscope for Python 1.24.6",
        _ask({"max_tokens": _SHORT}),
        _text(_ANY_REASON),
        headers=_SSE,
        streams=True,
        rules=(*rules.NATIVE_STREAM, rules.cumulative),
    ),
    _case(
        "a cumulative stream of messages",
        REFERENCE,
        _ask({"result_format": "message", "incremental_output": False, "max_tokens": _SHORT}),
        _message(_ANY_REASON),
        headers=_SSE,
        streams=True,
        rules=(*rules.NATIVE_STREAM, rules.cumulative),
    ),
    _case(
        "an incremental stream",
        CODER_PAGE,
        _ask({"result_format": "message", "incremental_output": True, "max_tokens": _SHORT}),
        _message(_ANY_REASON),
        headers=_SSE,
        streams=True,
        rules=(*rules.NATIVE_STREAM, rules.incremental),
    ),
)

_PREFIX = r"<400> InternalError\.Algo\.InvalidParameter: "


def _refused(
    name: str, source: str, body: Json | bytes, code: str, message: str | None, **more: Unpack[More]
) -> Case:
    rest: More = {"statuses": (400,), "rules": _REFUSED, **more}
    return _case(name, source, body, _error(code, message), **rest)


REFUSALS = (
    _refused(
        "no key",
        ERRORS_PAGE,
        _ask(),
        "InvalidApiKey",
        "No API-key provided|Invalid API-key provided",
        key="none",
        statuses=(401,),
    ),
    _refused(
        "a wrong key",
        RECORDED,
        _ask(),
        "InvalidApiKey",
        r"Invalid API-key provided\.",
        key="wrong",
        statuses=(401,),
    ),
    _refused(
        "a wrong path without a key",
        RECORDED,
        _ask(),
        "InvalidApiKey",
        None,
        key="none",
        path="/api/v1/no/such/path",
        statuses=(401,),
    ),
    _refused(
        "a body that is no JSON", ERRORS_PAGE, b"{", "InvalidParameter", "Required body invalid"
    ),
    _refused(
        "no model",
        ERRORS_PAGE,
        {"input": {"prompt": "Hi"}},
        "BadRequest.EmptyModel",
        'Required parameter "model" missing from request',
    ),
    _refused(
        "no input",
        ERRORS_PAGE,
        {"model": MODEL},
        "BadRequest.EmptyInput",
        "Required input parameter missing from request",
    ),
    _refused(
        "neither prompt nor messages",
        ERRORS_PAGE,
        _ask(messages=None),
        "InvalidParameter",
        'Either "prompt" or "messages" must exist',
    ),
    _refused(
        "an unknown model",
        RECORDED,
        _ask() | {"model": "no-such-model"},
        "InvalidParameter",
        r"Model not exist\.",
        statuses=(400, 404),
    ),
    _refused(
        "a temperature of 2",
        RECORDED,
        _ask({"temperature": 2.0}),
        "InvalidParameter",
        r"Temperature should be in \[0\.0, 2\.0\)",
    ),
    _refused(
        "a seed that is negative",
        ERRORS_PAGE,
        _ask({"seed": -1}),
        "InvalidParameter",
        _PREFIX + r"Range of seed should be \[0, 9223372036854775807\]",
    ),
    _refused(
        "too many choices",
        ERRORS_PAGE,
        _ask({"result_format": "message", "n": 5}),
        "InvalidParameter",
        r"Range of n should be \[1, 4\]",
    ),
    _refused(
        "too many tokens",
        RECORDED,
        _ask({"max_tokens": 100_000_000}),
        "InvalidParameter",
        r"Range of max_tokens should be \[1, \d+\]",
    ),
    _refused(
        "a wrong method",
        ERRORS_PAGE,
        b"",
        "InvalidParameter",
        r"Request method 'GET' is not supported\.",
        method="GET",
    ),
    _refused(
        "an asynchronous call",
        ERRORS_PAGE,
        _ask(),
        "AccessDenied",
        "Current user api does not support asynchronous calls",
        headers={"X-DashScope-Async": "enable"},
        statuses=(403, 429),
    ),
    Case(
        name="a stream that is refused keeps its status",
        dialect="dashscope",
        source=RECORDED,
        path=_TEXT_GENERATION,
        body=_ask({"temperature": 2.0}),
        headers=_SSE,
        statuses=(400,),
        rules=(rules.StreamRefusal(_error("InvalidParameter", "Temperature should be in")),),
    ),
)

SIDE = (
    _case(
        "a page of models",
        PYTHON_SDK,
        b"",
        Fields(
            request_id=_REQUEST_ID,
            output=Fields(
                total=Whole(1),
                page_no=Whole(1),
                page_size=Whole(1),
                models=Items(Fields(model=Text(pattern=".+")), 1, 2),
            ),
        ),
        path="/api/v1/models?page_no=1&page_size=2",
        method="GET",
        rules=_REFUSED,
    ),
    _case(
        "tokens of a text",
        PYTHON_SDK,
        _ask(prompt="如何做土豆炖猪脚?"),
        Fields(
            request_id=_REQUEST_ID,
            usage=Fields(input_tokens=Whole(1)),
            output=Fields(token_ids=Items(Whole(), 1), tokens=Items(Text(), 1)),
        ),
        path="/api/v1/tokenizer",
        rules=_REFUSED,
    ),
)

CASES = (*ANSWERS, *STREAMS, *TOOLS, *REFUSALS, *SIDE)
