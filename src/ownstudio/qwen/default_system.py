"""A template's own system text, which nobody sent, taken out of the prompt again.

Qwen2.5's template writes a system turn of its own where a conversation has none. The real service does not: a prompt
that has 11 tokens there would have 32. An empty system message is no remedy, since it leaves an empty turn.
So the turn is cut from the text, and only where the template shows that its text merely stands in for a message:
given one, it writes the turn with that message and nothing else, and all that follows is the same. What a
template writes around a client's message (a date, a switch for thinking) it means to be read, so it stays.
Beside tools everything stays: there the real service has such a text as well.
"""

from collections.abc import Mapping
from typing import Any

from ownstudio.qwen.template import ChatTemplate, TemplateError

TURN_OPEN = "<|im_start|>system\n"
TURN_CLOSE = "<|im_end|>\n"

_SENT = {"role": "system", "content": "Be brief."}
_ASKED = {"role": "user", "content": "Who are you?"}


class WithoutDefaultSystem:
    """Renders as `template` does, less such a turn. `role_tokens` are what the template knows besides a request."""

    def __init__(self, template: ChatTemplate, role_tokens: Mapping[str, str]) -> None:
        self._template = template
        self._stands_in = all(
            _stands_in(template, {**role_tokens, "enable_thinking": thinks})
            for thinks in (False, True)
        )

    def render(self, variables: Mapping[str, Any]) -> str:
        """As `ChatTemplate.render`: no control token in `variables` may be one to the tokenizer."""
        text = self._template.render(variables)
        if not self._stands_in or variables["tools"] or _has_system(variables["messages"]):
            return text
        opened, _, rest = text.partition(TURN_CLOSE)
        return rest if opened.startswith(TURN_OPEN) else text


def _has_system(messages: list[dict[str, Any]]) -> bool:
    return bool(messages) and messages[0]["role"] == "system"


def _stands_in(template: ChatTemplate, known: Mapping[str, Any]) -> bool:
    """Whether the template begins with a system turn of its own exactly where there is no system message."""
    shared = {**known, "tools": None, "add_generation_prompt": True, "preserve_thinking": False}
    try:
        sent = template.render({**shared, "messages": [_SENT, _ASKED]})
        unsent = template.render({**shared, "messages": [_ASKED]})
    except TemplateError:
        return False
    turn = f"{TURN_OPEN}{_SENT['content']}{TURN_CLOSE}"
    opened, closed, rest = unsent.partition(TURN_CLOSE)
    return opened.startswith(TURN_OPEN) and bool(closed) and sent == turn + rest
