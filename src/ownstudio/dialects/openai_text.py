"""`POST /completions`: raw text or token ids in, their continuation out, without a chat template.

Served for the models whose catalogue row allows it, one prompt and one answer at a time. The answer has
no log probabilities and an empty `system_fingerprint`, as the vendor's page says. `suffix` asks for the
text between prompt and suffix; an empty one still does, and a suffix alone cannot be completed.
"""

from collections.abc import Callable

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.events import Completion, FinishReason, Usage
from ownstudio.core.request import GenerationRequest, TextPrompt
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.openai_body import Fields, read_object, text
from ownstudio.dialects.openai_errors import error_body, malformed, missing, wrong_type
from ownstudio.dialects.openai_parameters import TEXT, ignored_names
from ownstudio.dialects.openai_sampling import (
    read_max_tokens,
    read_model_name,
    read_n,
    read_sampling,
    read_stop,
    read_stream,
    read_token_ids,
)
from ownstudio.dialects.openai_stream import Json, StreamEncoder, usage_json

SEED_MAX = 2**31 - 1

_N_MAX = 1
_ID_PREFIX = "cmpl-"


class OpenAIText:
    """The text dialect; see `Dialect` for what each method owes."""

    def parse(self, body: bytes, resolve: Callable[[str], Model]) -> Call:
        fields = read_object(body)
        model = resolve(read_model_name(fields))
        if not model.completions:
            raise StudioError(
                ErrorKind.MODEL_NOT_SUPPORTED,
                f"Unsupported model {model.name} for OpenAI compatibility mode.",
                param="model",
            )
        ignored = TEXT.sort_out(fields)
        stream, include_usage = read_stream(fields)
        request = GenerationRequest(
            model=model.name,
            prompt=_prompt(fields, model.input_max),
            sampling=read_sampling(fields, model.defaults, SEED_MAX),
            max_tokens=read_max_tokens(fields, model, "max_tokens"),
            n=read_n(fields, _N_MAX),
            stop=read_stop(fields),
        )
        return Call(
            request=request,
            model=model,
            stream=stream,
            include_usage=include_usage,
            ignored=ignored_names(ignored) if ignored else (),
        )

    def render(self, completion: Completion, call: Call, identity: Identity) -> bytes:
        chunks = _TextChunks(call.request.model, identity)
        return msgspec.json.encode(
            chunks.chunk(
                [
                    _choice(choice.index, choice.text, choice.finish_reason)
                    for choice in completion.choices
                ],
                completion.usage,
            )
        )

    def encoder(self, call: Call, identity: Identity) -> StreamEncoder:
        return StreamEncoder(
            _TextChunks(call.request.model, identity),
            scored=False,
            include_usage=call.include_usage,
            request_id=identity.request_id,
            id_prefix=_ID_PREFIX,
        )

    def error(self, error: StudioError, request_id: str) -> bytes:
        return error_body(error, request_id, _ID_PREFIX)


def _prompt(fields: Fields, input_max: int) -> TextPrompt:
    """One prompt in any of its four forms: text, token ids, or a list that holds one of these."""
    prompt = fields.get("prompt")
    if prompt is None:
        raise missing("prompt")
    if type(prompt) is list and len(prompt) == 1 and type(prompt[0]) in (str, list):
        prompt = prompt[0]
    elif type(prompt) is list and prompt and type(prompt[0]) in (str, list):
        raise malformed("prompt", "Only one prompt is allowed in a request.")
    suffix = text(fields, "suffix")
    if suffix is not None and not prompt:
        raise malformed("suffix", "A suffix without a prompt before it cannot be completed.")
    if type(prompt) is str:
        _check_length(len(prompt) > 0, input_max)
        return TextPrompt(prompt, suffix)
    if type(prompt) is not list:
        raise wrong_type("prompt", "String or Array")
    if suffix is not None:
        raise malformed("suffix", "A suffix needs a prompt that is text, not token ids.")
    _check_length(0 < len(prompt) <= input_max, input_max)
    return TextPrompt(read_token_ids(prompt, "prompt"))


def _check_length(fits: bool, input_max: int) -> None:
    if not fits:
        raise invalid_parameter("prompt", f"Range of input length should be [1, {input_max}]")


def _choice(index: int, text: str, reason: FinishReason | None) -> Json:
    return {
        "text": text,
        "finish_reason": None if reason is None else reason.value,
        "index": index,
        "logprobs": None,
    }


class _TextChunks:
    def __init__(self, model: str, identity: Identity) -> None:
        self._model = model
        self._created = identity.created
        self._id = _ID_PREFIX + identity.request_id

    def opening(self, choice: int) -> None:
        """A choice begins with its text."""

    def delta(self, choice: int, text: str, logprobs: Json | None) -> Json:
        return self.chunk([_choice(choice, text, None)])

    def finish(self, choice: int, reason: FinishReason) -> Json:
        return self.chunk([_choice(choice, "", reason)])

    def usage(self, usage: Usage) -> Json:
        return self.chunk([], usage)

    def chunk(self, choices: list[Json], usage: Usage | None = None) -> Json:
        return {
            "id": self._id,
            "choices": choices,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "",
            "object": "text_completion",
            "usage": None if usage is None else usage_json(usage),
        }
