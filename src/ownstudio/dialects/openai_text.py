"""`POST /completions`: raw text or token ids in, their continuation out, without a chat template.

Served for the models whose catalogue row allows it, one prompt and one answer at a time. The answer has
an empty `system_fingerprint`, as the vendor's page says, and beyond that page what OpenAI's own endpoint
had: `echo` puts the prompt before the answer, `logprobs` (0 to 5 rivals) gives the log probability of each
written token. There are none of the prompt's tokens, so the two exclude each other. `suffix` asks for the
text between prompt and suffix; an empty one still does, and a suffix alone cannot be completed.
"""

from collections.abc import Callable, Sequence

import msgspec

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.events import (
    Completion,
    FinishReason,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from ownstudio.core.request import GenerationRequest, TextPrompt
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.answer_json import Json, finite
from ownstudio.dialects.fields import (
    Fields,
    boolean,
    integer_within,
    malformed,
    missing,
    read_object,
    text,
    wrong_type,
)
from ownstudio.dialects.openai_errors import error_body
from ownstudio.dialects.openai_parameters import TEXT
from ownstudio.dialects.openai_request import read_model_name, read_stream
from ownstudio.dialects.openai_stream import StreamEncoder, usage_json
from ownstudio.dialects.parameters import ignored_names
from ownstudio.dialects.sampling import (
    TOP_LOGPROBS_MAX,
    read_max_tokens,
    read_n,
    read_sampling,
    read_stop,
    read_token_ids,
)

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
        prompt = _prompt(fields, model.input_max)
        request = GenerationRequest(
            model=model.name,
            prompt=prompt,
            sampling=read_sampling(fields, model.defaults, SEED_MAX),
            max_tokens=read_max_tokens(fields, model, "max_tokens"),
            n=read_n(fields, _N_MAX),
            stop=read_stop(fields),
            top_logprobs=integer_within(fields, "logprobs", 0, TOP_LOGPROBS_MAX),
        )
        return Call(
            request=request,
            model=model,
            stream=stream,
            include_usage=include_usage,
            echo=_echo(fields, prompt, request.top_logprobs is not None),
            ignored=ignored_names(ignored) if ignored else (),
        )

    def render(self, completion: Completion, call: Call, identity: Identity) -> bytes:
        chunks = _TextChunks(call, identity)
        scored = call.request.top_logprobs is not None
        choices = [
            _choice(
                choice.index,
                call.echo + choice.text,
                choice.finish_reason,
                chunks.logprobs(choice.index, choice.logprobs) if scored else None,
            )
            for choice in completion.choices
        ]
        return msgspec.json.encode(chunks.chunk(choices, completion.usage))

    def encoder(self, call: Call, identity: Identity) -> StreamEncoder:
        return StreamEncoder(
            _TextChunks(call, identity),
            scored=call.request.top_logprobs is not None,
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


def _echo(fields: Fields, prompt: TextPrompt, scored: bool) -> str:
    """The text to begin the answer with: the prompt's, where it is asked for."""
    if not boolean(fields, "echo"):
        return ""
    if not isinstance(prompt.text, str):
        raise malformed("echo", "'echo' needs a prompt that is text, not token ids.")
    if scored:
        raise malformed(
            "echo", "'echo' and 'logprobs' exclude each other: a prompt has no log probabilities."
        )
    return prompt.text


def _check_length(fits: bool, input_max: int) -> None:
    if not fits:
        raise invalid_parameter("prompt", f"Range of input length should be [1, {input_max}]")


def _choice(
    index: int, text: str, reason: FinishReason | None, logprobs: Json | None = None
) -> Json:
    return {
        "text": text,
        "finish_reason": None if reason is None else reason.value,
        "index": index,
        "logprobs": logprobs,
    }


def _rivals(token: TokenLogprob) -> dict[str, float]:
    """The strongest tokens, the chosen one among them. Of two that are spelled alike the stronger counts."""
    rivals = {top.token: finite(top.logprob) for top in reversed(token.top)}
    rivals.setdefault(token.token, finite(token.logprob))
    return rivals


class _TextChunks:
    def __init__(self, call: Call, identity: Identity) -> None:
        self._model = call.request.model
        self._echo = call.echo
        self._rivals = call.request.top_logprobs
        self._scored_characters: dict[int, int] = {}
        self._created = identity.created
        self._id = _ID_PREFIX + identity.request_id

    def opening(self, choice: int) -> Json | None:
        return self.chunk([_choice(choice, self._echo, None)]) if self._echo else None

    def delta(self, choice: int, text: str, logprobs: Json | None) -> Json:
        return self.chunk([_choice(choice, text, None, logprobs)])

    def logprobs(self, choice: int, tokens: Sequence[TokenLogprob]) -> Json:
        """The form of this endpoint: four lists; an offset counts the characters of the answer before a token."""
        offset = self._scored_characters.get(choice, 0)
        offsets = []
        for token in tokens:
            offsets.append(offset)
            # A character may be spread over tokens: it belongs to the one that holds its first byte.
            offset += sum(byte & 0xC0 != 0x80 for byte in token.bytes)
        self._scored_characters[choice] = offset
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [finite(token.logprob) for token in tokens],
            "top_logprobs": [_rivals(token) for token in tokens] if self._rivals else None,
            "text_offset": offsets,
        }

    def reasoning(self, choice: int, text: str) -> Json:
        raise TypeError("raw text has no thoughts")

    def tool_call(self, event: ToolCallStart | ToolCallDelta) -> Json:
        raise TypeError("raw text calls nothing")

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
