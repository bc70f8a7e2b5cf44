"""`POST /chat/completions`: the OpenAI chat dialect as Model Studio speaks it.

Key order and constants are those of the real service (`system_fingerprint` null, `usage` null in every
chunk but the last). `max_tokens` bounds the answer, `max_completion_tokens` the answer with the thinking
before it; where nothing is thought both mean the same, and the smaller one decides. The name in the
answer is the one of the catalogue, which is what the client asked for.

Answers of a request that thinks have a `reasoning_content` in every message and delta, null where a delta
says something else; those of other requests only where the model thought unasked. Calls of tools carry
their `index` also outside of streams, beside a `content` that is empty, never null.
"""

from collections.abc import Callable, Sequence

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import StudioError, invalid_parameter
from ownstudio.core.events import (
    Choice,
    Completion,
    FinishReason,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from ownstudio.core.request import ChatPrompt, GenerationRequest, ResponseFormat
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.answer_json import Json, logprobs_json
from ownstudio.dialects.fields import Fields, boolean, integer_within, read_object
from ownstudio.dialects.messages import read_messages
from ownstudio.dialects.openai_errors import error_body
from ownstudio.dialects.openai_parameters import CHAT
from ownstudio.dialects.openai_request import read_model_name, read_stream
from ownstudio.dialects.openai_stream import StreamEncoder, usage_json
from ownstudio.dialects.parameters import ignored_names
from ownstudio.dialects.response_format import read_response_format
from ownstudio.dialects.sampling import read_n, read_sampling, read_stop, read_top_logprobs
from ownstudio.dialects.thinking import (
    check_beside_thinking,
    read_thinking,
    read_thinking_budget,
)
from ownstudio.dialects.tools import read_tool_choice, read_tools

SEED_MAX = 2**64 - 1

_ID_PREFIX = "chatcmpl-"


class OpenAIChat:
    """The chat dialect; see `Dialect` for what each method owes."""

    def parse(self, body: bytes, resolve: Callable[[str], Model]) -> Call:
        fields = read_object(body)
        model = resolve(read_model_name(fields))
        ignored = CHAT.sort_out(fields)
        stream, include_usage = read_stream(fields)
        prompt = _prompt(fields, model, stream, ignored)
        response_format = read_response_format(fields, model, prompt.messages)
        check_beside_thinking(prompt, response_format)
        return Call(
            request=_request(fields, model, prompt, response_format),
            model=model,
            stream=stream,
            include_usage=include_usage,
            ignored=ignored_names(ignored) if ignored else (),
        )

    def render(self, completion: Completion, call: Call, identity: Identity) -> bytes:
        scored = call.request.top_logprobs is not None
        thinks = _thinks(call)
        return msgspec.json.encode(
            {
                "choices": [_choice(choice, scored, thinks) for choice in completion.choices],
                "object": "chat.completion",
                "usage": usage_json(completion.usage),
                "created": identity.created,
                "system_fingerprint": None,
                "model": call.request.model,
                "id": _ID_PREFIX + identity.request_id,
            }
        )

    def encoder(self, call: Call, identity: Identity) -> StreamEncoder:
        return StreamEncoder(
            _ChatChunks(call.request.model, identity, _thinks(call)),
            scored=call.request.top_logprobs is not None,
            include_usage=call.include_usage,
            request_id=identity.request_id,
            id_prefix=_ID_PREFIX,
        )

    def error(self, error: StudioError, request_id: str) -> bytes:
        return error_body(error, request_id, _ID_PREFIX)


def _prompt(fields: Fields, model: Model, stream: bool, ignored: list[str]) -> ChatPrompt:
    messages = read_messages(fields, ignored)
    if messages[-1].partial and not model.features.partial:
        raise invalid_parameter(
            "messages", f"The model {model.name} does not support partial mode."
        )
    tools = read_tools(fields, model)
    return ChatPrompt(
        messages=messages,
        tools=tools,
        tool_choice=read_tool_choice(fields, tools),
        parallel_tool_calls=boolean(fields, "parallel_tool_calls"),
        enable_thinking=read_thinking(fields, model, stream),
        preserve_thinking=boolean(fields, "preserve_thinking"),
    )


def _request(
    fields: Fields, model: Model, prompt: ChatPrompt, response_format: ResponseFormat
) -> GenerationRequest:
    thinks = prompt.enable_thinking
    output_max = model.thinking_output_max if thinks else model.output_max
    answer_max = integer_within(fields, "max_tokens", 1, output_max)
    whole_max = integer_within(fields, "max_completion_tokens", 1, output_max)
    bounds = [bound for bound in (answer_max, whole_max) if bound is not None]
    n = read_n(fields, model.n_max)
    if n > 1 and prompt.tools:
        raise invalid_parameter("n", "Range of n should be [1, 1] where there are tools")
    return GenerationRequest(
        model=model.name,
        prompt=prompt,
        sampling=read_sampling(
            fields, model.thinking.defaults if thinks else model.defaults, SEED_MAX
        ),
        max_tokens=min(bounds, default=None),
        n=n,
        stop=read_stop(fields),
        top_logprobs=read_top_logprobs(fields),
        thinking_budget=read_thinking_budget(fields, model),
        response_format=response_format,
        max_completion_tokens=whole_max if thinks else None,
    )


def _thinks(call: Call) -> bool:
    prompt = call.request.prompt
    return isinstance(prompt, ChatPrompt) and prompt.enable_thinking


def _choice(choice: Choice, scored: bool, thinks: bool) -> Json:
    message: Json = {"content": choice.text, "role": "assistant"}
    if thinks or choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [
            _tool_call(index, call) for index, call in enumerate(choice.tool_calls)
        ]
    return {
        "message": message,
        "finish_reason": choice.finish_reason.value,
        "index": choice.index,
        "logprobs": logprobs_json(choice.logprobs) if scored else None,
    }


def _tool_call(index: int, call: ToolCall) -> Json:
    return {
        "index": index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _tool_call_fragment(event: ToolCallDelta) -> Json:
    return {
        "index": event.call,
        "id": "",
        "type": "function",
        "function": {"arguments": event.arguments},
    }


class _ChatChunks:
    def __init__(self, model: str, identity: Identity, thinks: bool) -> None:
        self._model = model
        self._created = identity.created
        self._id = _ID_PREFIX + identity.request_id
        # What a delta that is no thought says of thoughts.
        self._no_thought: Json = {"reasoning_content": None} if thinks else {}
        self._opening: Json = {"content": "", "role": "assistant"}
        if thinks:
            self._opening = {"content": None, "role": "assistant", "reasoning_content": ""}

    def opening(self, choice: int) -> Json:
        return self._chunk(
            {
                "delta": self._opening,
                "index": choice,
                "logprobs": None,
                "finish_reason": None,
            }
        )

    def delta(self, choice: int, text: str, logprobs: Json | None) -> Json:
        return self._delta(choice, {"content": text, **self._no_thought}, logprobs)

    def logprobs(self, choice: int, tokens: Sequence[TokenLogprob]) -> Json:
        return logprobs_json(tokens)

    def reasoning(self, choice: int, text: str) -> Json:
        return self._delta(choice, {"content": None, "reasoning_content": text})

    def tool_call(self, event: ToolCallStart | ToolCallDelta) -> Json:
        """The first fragment of a call has its id and name, the others an id that is empty."""
        if isinstance(event, ToolCallStart):
            call = _tool_call(event.call, ToolCall(event.name, "", event.id))
        else:
            call = _tool_call_fragment(event)
        return self._delta(
            event.choice, {"content": None, **self._no_thought, "tool_calls": [call]}
        )

    def finish(self, choice: int, reason: FinishReason) -> Json:
        return self._chunk(
            {
                "finish_reason": reason.value,
                "delta": {"content": "", **self._no_thought},
                "index": choice,
                "logprobs": None,
            }
        )

    def usage(self, usage: Usage) -> Json:
        return self._chunk(None, usage_json(usage))

    def _delta(self, choice: int, delta: Json, logprobs: Json | None = None) -> Json:
        return self._chunk(
            {"finish_reason": None, "logprobs": logprobs, "delta": delta, "index": choice}
        )

    def _chunk(self, choice: Json | None, usage: Json | None = None) -> Json:
        return {
            "choices": [] if choice is None else [choice],
            "object": "chat.completion.chunk",
            "usage": usage,
            "created": self._created,
            "system_fingerprint": None,
            "model": self._model,
            "id": self._id,
        }
