"""The OpenAI dialect: what the compatible mode of Model Studio is known to answer."""

from typing import Unpack

from ownstudio.conformance import rules
from ownstudio.conformance.case import CODER, MODEL, Case, Json, More
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

CHAT_PAGE = "OpenAI compatible - Chat, November 2025 and 2026"
CODER_PAGE = "Qwen-Coder page, November 2025, OpenAI compatible"
COMPLETIONS_PAGE = "OpenAI compatible - Completions, November 2025"
ERRORS_PAGE = "Error messages page, 2026"
RECORDED = "answers recorded by users of the service, 2024 to 2026"
CLIENTS = "requests of openai 3.54.0 and langchain-openai 1.7.3 for Python"
TOOLS_PAGE = "Function calling page, 2026, OpenAI compatible"

_CHAT = "/compatible-mode/v1/chat/completions"
_COMPLETIONS = "/compatible-mode/v1/completions"
_MODELS = "/compatible-mode/v1/models"
_SHORT = 12

_REASON = Text("stop", "length")
_USAGE = Fields(prompt_tokens=Whole(1), completion_tokens=Whole(), total_tokens=Whole(1))
_HEAD = Fields(created=Whole(1), model=Text(pattern=".+"))
_WHOLE_HEAD = _HEAD.but(
    id=Text(pattern="chatcmpl-.+"), object=Text("chat.completion"), usage=_USAGE
)
_MESSAGE = Fields(role=Text("assistant"), content=Text())
_CHOICE = Fields(index=Whole(), finish_reason=_REASON, message=_MESSAGE)
_CHUNK = _HEAD.but(
    id=Text(pattern="chatcmpl-.+"),
    object=Text("chat.completion.chunk"),
    choices=Items(
        Fields(
            index=Whole(),
            finish_reason=Either(Null(), _REASON),
            delta=Fields().maybe(role=Text("assistant"), content=Either(Text(), Null())),
        )
    ),
).maybe(usage=Either(Null(), _USAGE))


def _ask(**fields: object) -> Json:
    asked: Json = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Who are you?"},
        ],
        "max_tokens": _SHORT,
    }
    return {name: value for name, value in {**asked, **fields}.items() if value is not ...}


def _case(
    name: str, source: str, body: Json | bytes, shape: Shape | None, **more: Unpack[More]
) -> Case:
    rest: More = {"path": _CHAT, **more}
    return Case(name=name, dialect="openai", source=source, body=body, shape=shape, **rest)


_WHOLE = (rules.json_type, rules.usage_adds_up, rules.one_request_id)

ANSWERS = (
    _case(
        "a chat",
        f"{CHAT_PAGE}; {CODER_PAGE}",
        _ask(),
        _WHOLE_HEAD.but(choices=Items(_CHOICE, 1, 1)),
        rules=_WHOLE,
    ),
    _case(
        "two choices",
        CHAT_PAGE,
        _ask(n=2),
        _WHOLE_HEAD.but(choices=Items(_CHOICE, 2, 2)),
        rules=_WHOLE,
    ),
    _case(
        "`max_completion_tokens` and list content, as LangChain sends them",
        CLIENTS,
        _ask(
            max_tokens=...,
            max_completion_tokens=_SHORT,
            messages=[{"role": "user", "content": [{"type": "text", "text": "Who are you?"}]}],
        ),
        _WHOLE_HEAD.but(choices=Items(_CHOICE, 1, 1)),
        rules=_WHOLE,
    ),
    _case(
        "log probabilities",
        CHAT_PAGE,
        _ask(logprobs=True, top_logprobs=1),
        _WHOLE_HEAD.but(
            choices=Items(
                Fields(
                    logprobs=Fields(
                        content=Items(
                            Fields(
                                token=Text(), logprob=Number(0.001), top_logprobs=Items(Fields())
                            ),
                            1,
                        )
                    )
                ),
                1,
            )
        ),
        rules=_WHOLE,
    ),
    _case(
        "partial mode goes on with the last message",
        CODER_PAGE,
        _ask(
            messages=[
                {"role": "user", "content": "Write a Python function that adds two numbers."},
                {"role": "assistant", "content": "def add(", "partial": True},
            ]
        ),
        _WHOLE_HEAD.but(choices=Items(_CHOICE, 1, 1)),
        rules=_WHOLE,
    ),
)

STREAMS = (
    _case(
        "a stream without usage",
        f"{CHAT_PAGE}; {CLIENTS}",
        _ask(stream=True),
        _CHUNK,
        streams=True,
        rules=(*rules.OPENAI_STREAM, rules.no_usage),
    ),
    _case(
        "a stream with usage",
        f"{CHAT_PAGE}; {CODER_PAGE}",
        _ask(stream=True, stream_options={"include_usage": True}),
        _CHUNK,
        streams=True,
        rules=(*rules.OPENAI_STREAM, rules.usage_at_the_end),
    ),
)

_FORCED: Json = {
    "max_tokens": ...,
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [
        {
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
    ],
    "tool_choice": {"type": "function", "function": {"name": "get_current_weather"}},
}

TOOLS = (
    _case(
        "a call of a tool",
        f"{CODER_PAGE}; {TOOLS_PAGE}",
        _ask(**_FORCED),
        _WHOLE_HEAD.but(
            choices=Items(
                Fields(
                    index=Whole(),
                    finish_reason=Text("tool_calls", "stop"),
                    message=_MESSAGE.but(
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
                        )
                    ),
                ),
                1,
                1,
            )
        ),
        rules=_WHOLE,
    ),
)

_COMPLETION = _HEAD.but(
    id=Text(pattern=".+"),
    object=Text("text_completion"),
    usage=_USAGE,
    choices=Items(Fields(text=Text(), index=Whole(), finish_reason=_REASON), 1, 1),
)

COMPLETIONS = (
    _case(
        "code after a prefix",
        COMPLETIONS_PAGE,
        {
            "model": CODER,
            "prompt": "<|fim_prefix|>def quick_sort(arr):<|fim_suffix|>",
            "max_tokens": _SHORT,
        },
        _COMPLETION,
        path=_COMPLETIONS,
        rules=(rules.json_type, rules.usage_adds_up),
    ),
    _case(
        "a list of one prompt and nulls, as LangChain sends them",
        CLIENTS,
        {
            "model": CODER,
            "prompt": ["def quick_sort(arr):"],
            "max_tokens": _SHORT,
            "seed": None,
            "logprobs": None,
            "n": 1,
        },
        _COMPLETION,
        path=_COMPLETIONS,
        rules=(rules.json_type, rules.usage_adds_up),
    ),
)

_MODEL = Fields(id=Text(pattern=".+"), object=Text("model"), created=Whole(), owned_by=Text())

MODELS = (
    _case(
        "the list of models",
        f"{RECORDED}; {CLIENTS}",
        b"",
        Fields(object=Text("list"), data=Items(_MODEL, 1)),
        path=_MODELS,
        method="GET",
        rules=(rules.json_type,),
    ),
)


def _error(code: str, kind: str, message: str | None) -> Fields:
    told = Text(pattern=".+" if message is None else f".*(?:{message}).*")
    error = Fields(message=told, type=Text(kind), code=Text(code)).maybe(
        param=Either(Null(), Text())
    )
    return Fields(error=error, choices=Absent())


def _refused(
    name: str,
    source: str,
    body: Json | bytes,
    code: str,
    message: str | None = None,
    **more: Unpack[More],
) -> Case:
    shape = _error(code, "invalid_request_error", message)
    rest: More = {"statuses": (400,), "rules": (rules.json_type, rules.one_request_id), **more}
    return _case(name, source, body, shape, **rest)


_PARAMETER = "invalid_parameter_error"

REFUSALS = (
    _refused(
        "a wrong key",
        RECORDED,
        _ask(),
        "invalid_api_key",
        "Incorrect API key provided",
        key="wrong",
        statuses=(401,),
    ),
    _case(
        "a wrong path without a key",
        RECORDED,
        _ask(),
        None,
        path="/compatible-mode/v1/no/such/path",
        key="none",
        statuses=(401,),
    ),
    _refused("a body that is no JSON", ERRORS_PAGE, b"{", _PARAMETER),
    _refused(
        "an unknown model",
        RECORDED,
        _ask(model="no-such-model"),
        "model_not_found",
        r"The model `no-such-model` does not exist or you do not have access to it\.",
        statuses=(404,),
    ),
    _refused(
        "a temperature of 2",
        RECORDED,
        _ask(temperature=2.0),
        _PARAMETER,
        r"Temperature should be in \[0\.0, 2\.0\)",
    ),
    _refused(
        "a top_p of 1.5", ERRORS_PAGE, _ask(top_p=1.5), _PARAMETER, "Range of top_p should be"
    ),
    _refused(
        "too many choices", ERRORS_PAGE, _ask(n=5), _PARAMETER, r"Range of n should be \[1, 4\]"
    ),
    _refused(
        "too many tokens",
        RECORDED,
        _ask(max_tokens=100_000_000),
        _PARAMETER,
        r"Range of max_tokens should be \[1, \d+\]",
    ),
    _refused("no messages", RECORDED, _ask(messages=[]), _PARAMETER),
    _refused(
        "a tool's answer to no call",
        RECORDED,
        _ask(messages=[{"role": "user", "content": "Hi"}, {"role": "tool", "content": "x"}]),
        _PARAMETER,
        'must be a response to a preceeding message with "tool_calls"',
    ),
    _refused(
        "a call that nobody answered",
        RECORDED,
        _ask(
            messages=[
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "user", "content": "And now?"},
            ]
        ),
        _PARAMETER,
        "must be followed by tool messages",
    ),
    _case(
        "a stream that is refused keeps its status",
        RECORDED,
        _ask(temperature=2.0, stream=True),
        None,
        statuses=(400,),
        rules=(
            rules.StreamRefusal(
                _error(_PARAMETER, "invalid_request_error", "Temperature should be in")
            ),
        ),
    ),
)

CASES = (*ANSWERS, *STREAMS, *TOOLS, *COMPLETIONS, *MODELS, *REFUSALS)
