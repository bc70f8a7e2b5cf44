"""Whether the model thinks for one request, for how long, and what cannot be asked of it then.

The rules are the catalogue row's (`Model.thinking`), the refusals those of the real service, also where
they surprise: the open-source Qwen3 models think unless told not to, and think only in a stream, so a
plain call of one that is not streamed is refused. What a request leaves open is judged like what it says.
"""

from ownstudio.catalog import Model
from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.core.request import ChatPrompt, ResponseFormat
from ownstudio.dialects.fields import Fields, choice, integer, malformed

_ALWAYS = "The value of the enable_thinking parameter is restricted to True."
_STREAM_ONLY_MODEL = (
    "This model only support stream mode, please enable the stream parameter to access the model."
)
_STREAM_ONLY_THINKING = "parameter.enable_thinking must be set to false for non-streaming calls"
_NO_FORCED_CALL = (
    "The tool_choice parameter does not support being set to required or object in thinking mode"
)
_NO_JSON = "Json mode response is not supported when enable_thinking is true"
_NO_PARTIAL = "Partial mode is not supported when enable_thinking is true"


class CannotThink(StudioError):
    """A model that never thinks was asked to."""

    def __init__(self, model: str) -> None:
        super().__init__(
            ErrorKind.INVALID_PARAMETER,
            f"The model {model} does not support enable_thinking.",
            param="enable_thinking",
        )


def read_thinking(fields: Fields, model: Model, stream: bool) -> bool:
    """Whether the model is to think. Raises StudioError where it cannot, or cannot help it."""
    thinking = model.thinking
    asked = choice(fields, "enable_thinking")
    if thinking.mode == "none":
        if asked:
            raise CannotThink(model.name)
        return False
    if thinking.mode == "always":
        if asked is False:
            raise invalid_parameter("enable_thinking", _ALWAYS)
        if thinking.stream_only and not stream:
            raise invalid_parameter("stream", _STREAM_ONLY_MODEL)
        return True
    thinks = thinking.on if asked is None else asked
    if thinks and thinking.stream_only and not stream:
        raise malformed("enable_thinking", _STREAM_ONLY_THINKING)
    return thinks


def read_thinking_budget(fields: Fields, model: Model) -> int | None:
    """The most tokens of thinking. A model that never thinks needs no bound, so any will do for it."""
    if model.thinking.mode == "none":
        return None
    budget = integer(fields, "thinking_budget")
    if budget is not None and not 1 <= budget <= model.thinking_budget_max:
        raise invalid_parameter(
            "thinking_budget",
            "The thinking_budget parameter must be a positive integer and not greater than "
            f"{model.thinking_budget_max}",
        )
    return budget


def check_beside_thinking(prompt: ChatPrompt, response_format: ResponseFormat) -> None:
    """Refuse what fixes how an answer begins, since a model that thinks begins with its thoughts."""
    if not prompt.enable_thinking:
        return
    if prompt.tool_choice.mode == "required":
        raise invalid_parameter("tool_choice", _NO_FORCED_CALL)
    if response_format.kind != "text":
        raise invalid_parameter("response_format", _NO_JSON)
    if prompt.messages[-1].partial:
        raise invalid_parameter("messages", _NO_PARTIAL)
