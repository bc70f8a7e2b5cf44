"""`POST /chat/completions`: the OpenAI chat dialect as Model Studio speaks it.

Key order and constants are those of the real service (`system_fingerprint` null, `usage` null in every
chunk but the last). `max_tokens` and `max_completion_tokens` may both be given; both hold, so the smaller
one decides. The name in the answer is the one of the catalogue, which is what the client asked for.
"""

from collections.abc import Callable

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import StudioError, invalid_parameter
from ownstudio.core.events import Choice, Completion, FinishReason, Usage
from ownstudio.core.request import ChatPrompt, GenerationRequest
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.openai_body import Fields, boolean, integer_within, read_object
from ownstudio.dialects.openai_errors import error_body
from ownstudio.dialects.openai_messages import read_messages
from ownstudio.dialects.openai_parameters import CHAT, ignored_names
from ownstudio.dialects.openai_sampling import (
    read_max_tokens,
    read_model_name,
    read_n,
    read_sampling,
    read_stop,
    read_stream,
)
from ownstudio.dialects.openai_stream import Json, StreamEncoder, logprobs_json, usage_json

SEED_MAX = 2**64 - 1
TOP_LOGPROBS_MAX = 5

_ID_PREFIX = "chatcmpl-"


class OpenAIChat:
    """The chat dialect; see `Dialect` for what each method owes."""

    def parse(self, body: bytes, resolve: Callable[[str], Model]) -> Call:
        fields = read_object(body)
        model = resolve(read_model_name(fields))
        ignored = CHAT.sort_out(fields)
        messages = read_messages(fields, ignored)
        stream, include_usage = read_stream(fields)
        request = GenerationRequest(
            model=model.name,
            prompt=ChatPrompt(messages),
            sampling=read_sampling(fields, model.defaults, SEED_MAX),
            max_tokens=read_max_tokens(fields, model, "max_tokens", "max_completion_tokens"),
            n=read_n(fields, model.n_max),
            stop=read_stop(fields),
            top_logprobs=_top_logprobs(fields),
        )
        return Call(
            request=request,
            model=model,
            stream=stream,
            include_usage=include_usage,
            ignored=ignored_names(ignored) if ignored else (),
        )

    def render(self, completion: Completion, call: Call, identity: Identity) -> bytes:
        scored = call.request.top_logprobs is not None
        return msgspec.json.encode(
            {
                "choices": [_choice(choice, scored) for choice in completion.choices],
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
            _ChatChunks(call.request.model, identity),
            scored=call.request.top_logprobs is not None,
            include_usage=call.include_usage,
            request_id=identity.request_id,
            id_prefix=_ID_PREFIX,
        )

    def error(self, error: StudioError, request_id: str) -> bytes:
        return error_body(error, request_id, _ID_PREFIX)


def _top_logprobs(fields: Fields) -> int | None:
    top = integer_within(fields, "top_logprobs", 0, TOP_LOGPROBS_MAX)
    if boolean(fields, "logprobs"):
        return top or 0
    if top:
        raise invalid_parameter("top_logprobs", "'top_logprobs' needs 'logprobs' to be true")
    return None


def _choice(choice: Choice, scored: bool) -> Json:
    return {
        "message": {"content": choice.text, "role": "assistant"},
        "finish_reason": choice.finish_reason.value,
        "index": choice.index,
        "logprobs": logprobs_json(choice.logprobs) if scored else None,
    }


class _ChatChunks:
    def __init__(self, model: str, identity: Identity) -> None:
        self._model = model
        self._created = identity.created
        self._id = _ID_PREFIX + identity.request_id

    def opening(self, choice: int) -> Json:
        return self._chunk(
            {
                "delta": {"content": "", "role": "assistant"},
                "index": choice,
                "logprobs": None,
                "finish_reason": None,
            }
        )

    def delta(self, choice: int, text: str, logprobs: Json | None) -> Json:
        return self._chunk(
            {
                "finish_reason": None,
                "logprobs": logprobs,
                "delta": {"content": text},
                "index": choice,
            }
        )

    def finish(self, choice: int, reason: FinishReason) -> Json:
        return self._chunk(
            {
                "finish_reason": reason.value,
                "delta": {"content": ""},
                "index": choice,
                "logprobs": None,
            }
        )

    def usage(self, usage: Usage) -> Json:
        return self._chunk(None, usage_json(usage))

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
