"""A native body: `model`, `input` and `parameters` to the neutral request.

`input` holds `messages`, or a `prompt` after an optional `history` of `user` and `bot` pairs; a prompt
beside messages is one more user message, as the vendor's SDK has it. `parameters` may be missing. Thoughts,
tool calls, scores and several choices have no place in the `text` form, so they need the `message` form.
"""

from collections.abc import Callable
from typing import Literal

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.request import ChatPrompt, GenerationRequest, Message
from ownstudio.dialects import Call
from ownstudio.dialects.dashscope_parameters import BODY, INPUT, PARAMETERS
from ownstudio.dialects.fields import (
    Fields,
    boolean,
    choice,
    integer_within,
    malformed,
    text,
    wrong_type,
)
from ownstudio.dialects.messages import MESSAGES_MAX, read_messages
from ownstudio.dialects.parameters import ignored_names
from ownstudio.dialects.response_format import read_response_format
from ownstudio.dialects.sampling import (
    read_n,
    read_sampling,
    read_stop,
    read_top_logprobs,
)
from ownstudio.dialects.thinking import (
    check_beside_thinking,
    read_thinking,
    read_thinking_budget,
)
from ownstudio.dialects.tools import read_tool_choice, read_tools

SEED_MAX = 2**63 - 1
CHOICES_MAX = 4
MODEL_NAME_CHARACTERS_MAX = 256

ResultFormat = Literal["text", "message"]

_NEITHER = 'Either "prompt" or "messages" must exist and cannot both be none'


def read_model_name(fields: Fields) -> str:
    name = text(fields, "model")
    if not name:
        raise _missing("model", 'Required parameter "model" missing from request.')
    if len(name) > MODEL_NAME_CHARACTERS_MAX:
        raise malformed("model", f"'model' is longer than {MODEL_NAME_CHARACTERS_MAX} characters")
    return name


def read_input(fields: Fields) -> Fields:
    value = fields.get("input")
    if value is None or value == {}:
        raise _missing("input", "Required input parameter missing from request.")
    if type(value) is not dict:
        raise malformed("input", "The input parameter requires json format.")
    return value


def read_conversation(given: Fields, ignored: list[str]) -> tuple[Message, ...]:
    """The messages of an `input`, in whichever of its forms."""
    prompt = text(given, "prompt")
    history = given.get("history")
    messages = given.get("messages")
    if messages is None:
        if not prompt and not history:
            raise _missing("messages", _NEITHER)
        messages = _turns(history)
    elif history:
        raise malformed("history", "Either history or messages can be given, not both.")
    if prompt:
        if type(messages) is not list:
            raise wrong_type("messages", "Array")
        messages = [*messages, {"role": "user", "content": prompt}]
    return read_messages({"messages": messages}, ignored)


def _turns(history: object) -> list[Fields]:
    """The turns of an old-style history as messages."""
    if history is None:
        return []
    if type(history) is not list:
        raise wrong_type("history", "Array")
    if 2 * len(history) >= MESSAGES_MAX:
        raise invalid_parameter("history", f"Range of history length should be [0, {MESSAGES_MAX}]")
    turns: list[Fields] = []
    for place, pair in enumerate(history):
        if type(pair) is not dict:
            raise wrong_type(f"history[{place}]", "Object")
        user, bot = text(pair, "user"), text(pair, "bot")
        if user is None:
            raise malformed(f"history[{place}]", f"Field required: history[{place}].user")
        turns.append({"role": "user", "content": user})
        if bot is not None:
            turns.append({"role": "assistant", "content": bot})
    return turns


def read_call(
    fields: Fields, resolve: Callable[[str], Model], *, stream: bool, list_content: bool
) -> Call:
    """`list_content` is how the multimodal path answers; it knows only the `message` form."""
    name = read_model_name(fields)
    given = read_input(fields)
    parameters = fields.get("parameters")
    if parameters is None:
        parameters = {}
    if type(parameters) is not dict:
        raise wrong_type("parameters", "Object")
    model = resolve(name)
    ignored = BODY.sort_out(fields)
    ignored += [f"input.{name}" for name in INPUT.sort_out(given)]
    ignored += [f"parameters.{name}" for name in PARAMETERS.sort_out(parameters)]
    prompt = _prompt(given, parameters, model, stream, ignored)
    request = _request(parameters, model, prompt)
    result_format = _result_format(parameters, model, list_content=list_content)
    if result_format == "text":
        result_format = _checked_text(request, asked=boolean(parameters, "enable_thinking"))
    return Call(
        request=request,
        model=model,
        stream=stream,
        result_format=result_format,
        incremental=_incremental(parameters, model, stream=stream),
        ignored=ignored_names(ignored) if ignored else (),
    )


def _prompt(
    given: Fields, parameters: Fields, model: Model, stream: bool, ignored: list[str]
) -> ChatPrompt:
    messages = read_conversation(given, ignored)
    if messages[-1].partial and not model.features.partial:
        raise invalid_parameter(
            "messages", f"The model {model.name} does not support partial mode."
        )
    tools = read_tools(parameters, model)
    return ChatPrompt(
        messages,
        tools=tools,
        tool_choice=read_tool_choice(parameters, tools),
        parallel_tool_calls=boolean(parameters, "parallel_tool_calls"),
        enable_thinking=read_thinking(parameters, model, stream),
        preserve_thinking=boolean(parameters, "preserve_thinking"),
    )


def _request(parameters: Fields, model: Model, prompt: ChatPrompt) -> GenerationRequest:
    response_format = read_response_format(parameters, model, prompt.messages)
    check_beside_thinking(prompt, response_format)
    thinks = prompt.enable_thinking
    output_max = model.thinking_output_max if thinks else model.output_max
    answer_max = integer_within(parameters, "max_tokens", 1, output_max)
    whole_max = integer_within(parameters, "max_completion_tokens", 1, output_max)
    bounds = [bound for bound in (answer_max, whole_max) if bound is not None]
    # The real service does not refuse several choices beside tools, whatever the model; it makes one.
    n = read_n(parameters, CHOICES_MAX if prompt.tools else model.n_max)
    return GenerationRequest(
        model=model.name,
        prompt=prompt,
        sampling=read_sampling(
            parameters, model.thinking.defaults if thinks else model.defaults, SEED_MAX
        ),
        max_tokens=min(bounds, default=None),
        n=1 if prompt.tools else n,
        stop=read_stop(parameters),
        top_logprobs=read_top_logprobs(parameters),
        thinking_budget=read_thinking_budget(parameters, model),
        max_completion_tokens=whole_max if thinks else None,
        response_format=response_format,
    )


def _result_format(parameters: Fields, model: Model, *, list_content: bool) -> ResultFormat:
    asked = text(parameters, "result_format")
    if asked not in (None, "", "text", "message"):
        raise malformed(
            "result_format", 'The result_format parameter must be one of ["text", "message"]'
        )
    if list_content or model.native.message_only:
        return "message"
    if not asked:
        return model.native.result_format
    return "text" if asked == "text" else "message"


def _checked_text(request: GenerationRequest, *, asked: bool) -> ResultFormat:
    """The `text` form, unless the answer has parts that it cannot hold.

    A model that thinks without being asked to answers in the `message` form; any wish is refused.
    """
    prompt = request.prompt
    if not isinstance(prompt, ChatPrompt):
        raise TypeError("a native prompt is a conversation")
    for needs, reason in (
        (asked, "enable_thinking is true"),
        (prompt.tools, "tools are given"),
        (request.n > 1, "n is greater than 1"),
        (request.top_logprobs is not None, "logprobs is true"),
    ):
        if needs:
            raise malformed(
                "result_format", f'The result_format parameter must be "message" when {reason}'
            )
    return "message" if prompt.enable_thinking else "text"


def _incremental(parameters: Fields, model: Model, *, stream: bool) -> bool:
    asked = choice(parameters, "incremental_output")
    if asked is None:
        return model.native.incremental_output
    if stream and not asked and model.native.incremental_only:
        raise malformed(
            "incremental_output",
            "The incremental_output parameter of this model cannot be set to False.",
        )
    return asked


def _missing(param: str, message: str) -> StudioError:
    return StudioError(ErrorKind.MISSING_PARAMETER, message, param=param)
