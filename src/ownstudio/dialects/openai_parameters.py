"""What becomes of each top-level field: served, harmless to ignore, or refused. Rules as data.

Serving one more parameter means moving its row to the served ones. A field that no table knows changes
nothing either, and the answer says so: it is listed in `Call.ignored`.
"""

import re
from collections.abc import Collection

from msgspec import Struct

from ownstudio.core.errors import invalid_parameter
from ownstudio.dialects.openai_body import Fields
from ownstudio.dialects.openai_errors import malformed

IGNORED_NAMES_MAX = 16
IGNORED_CHARACTERS_MAX = 64

_UNSAFE_IN_HEADER = re.compile(r"[^A-Za-z0-9_.\[\]-]")


class Refusal(Struct, frozen=True):
    """Why a parameter is not served, and the values (besides null) that ask for nothing and pass.

    `message` replaces the sentence made of the reason where the real service has its own.
    """

    reason: str
    idle: tuple[object, ...] = ()
    message: str = ""


class Parameters(Struct, frozen=True):
    """The three tables of one endpoint. `harmless` says why ignoring each is."""

    supported: frozenset[str]
    harmless: dict[str, str]
    refused: dict[str, Refusal]

    def sort_out(self, fields: Fields) -> list[str]:
        """Refuse what would change the answer and is not served; return the names no table knows."""
        return [
            name
            for name, value in fields.items()
            if name not in self.supported and not self._is_idle(name, value)
        ]

    def _is_idle(self, name: str, value: object) -> bool:
        if value is None or name in self.harmless:
            return True
        refusal = self.refused.get(name)
        if refusal is None:
            return False
        if value in refusal.idle:
            return True
        if refusal.message:
            raise invalid_parameter(name, refusal.message)
        raise malformed(name, f"The parameter '{name}' is not supported: {refusal.reason}.")


def ignored_names(names: Collection[str]) -> tuple[str, ...]:
    """Names that fit a header: bounded in number and length, odd characters replaced by `?`.

    When there are too many, the last entry says how many more there were: `+12`.
    """
    unique = list(dict.fromkeys(names))
    shown = [
        _UNSAFE_IN_HEADER.sub("?", name[:IGNORED_CHARACTERS_MAX])
        for name in unique[:IGNORED_NAMES_MAX]
    ]
    more = len(unique) - len(shown)
    return (*shown, f"+{more}") if more else tuple(shown)


_NO_TOOLS = "The tool call is not supported."

_SHARED_SUPPORTED = frozenset(
    {
        "frequency_penalty",
        "max_tokens",
        "model",
        "n",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
    }
)

_SHARED_HARMLESS = {
    "metadata": "labels for the caller's own records",
    "service_tier": "there is one tier",
    "store": "nothing is stored for later use either way",
    "user": "an end user's label, for the caller's own records",
}

CHAT = Parameters(
    supported=_SHARED_SUPPORTED | {"logprobs", "max_completion_tokens", "messages", "top_logprobs"},
    harmless=_SHARED_HARMLESS
    | {
        "cache_control": "marks what to cache; the answer is the same",
        "clear_thinking": "concerns earlier thinking, which the model's template decides on",
        "parallel_tool_calls": "has no meaning without tools, which are refused",
        "preserve_thinking": "concerns earlier thinking, which the model's template decides on",
        "prompt_cache_key": "steers a cache; the answer is the same",
        "prompt_cache_options": "steers a cache; the answer is the same",
        "prompt_cache_retention": "steers a cache; the answer is the same",
        "safety_identifier": "an end user's label, for the caller's own records",
        "search_options": "has no meaning without enable_search, which is refused",
        "thinking_budget": "bounds thinking, which is off",
        "tool_stream": "has no meaning without tools, which are refused",
        "vl_enable_image_hw_output": "concerns images, which are refused",
        "vl_high_resolution_images": "concerns images, which are refused",
    },
    refused={
        "asr_options": Refusal("no model here transcribes audio"),
        "audio": Refusal("no model here speaks"),
        "enable_code_interpreter": Refusal("no code interpreter is served", (False,)),
        "enable_search": Refusal("no web search is served", (False,)),
        "enable_thinking": Refusal("thinking is not served", (False,)),
        "function_call": Refusal("tools are not served", ("none", "auto"), _NO_TOOLS),
        "functions": Refusal("tools are not served", ([],), _NO_TOOLS),
        "logit_bias": Refusal("tokens cannot be biased", ({},)),
        "modalities": Refusal("answers are text", (["text"], [])),
        "moderation": Refusal("nothing moderates"),
        "prediction": Refusal("predicted outputs are not served"),
        "reasoning_effort": Refusal("thinking is not served", ("none", "minimal")),
        "response_format": Refusal("answers are free text", ({"type": "text"},)),
        "tool_choice": Refusal("tools are not served", ("none", "auto"), _NO_TOOLS),
        "tools": Refusal("tools are not served", ([],), _NO_TOOLS),
        "translation_options": Refusal("no model here is a translation model"),
        "verbosity": Refusal("the length of answers cannot be steered", ("medium",)),
        "web_search_options": Refusal("no web search is served"),
    },
)

TEXT = Parameters(
    supported=_SHARED_SUPPORTED | {"prompt", "suffix"},
    harmless=_SHARED_HARMLESS,
    refused={
        "best_of": Refusal("one completion is made for each prompt", (1,)),
        "echo": Refusal("the prompt is not repeated in the answer", (False,)),
        "logit_bias": Refusal("tokens cannot be biased", ({},)),
        # The vendor's page: "This parameter is always empty", so 0 alternatives ask for nothing.
        "logprobs": Refusal("completions have no log probabilities", (0,)),
    },
)
