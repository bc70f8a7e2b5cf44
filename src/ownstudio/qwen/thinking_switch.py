"""`/think` and `/no_think`: what a conversation itself says about thinking, the last word counts.

Models that were trained on them heed the words in the text; the prompt is rendered to match, so that a
`/no_think` also costs no empty thoughts.
"""

import re

import msgspec

from ownstudio.core.request import ChatPrompt

_SWITCH = re.compile(r"(?:^|\s)/(no_)?think(?=\s|$)")


def switched(prompt: ChatPrompt) -> ChatPrompt:
    """The prompt with thinking off where it is on and the last switch in it says `/no_think`."""
    if not prompt.enable_thinking:
        return prompt
    for message in reversed(prompt.messages):
        if message.role in ("user", "system"):
            switches = _SWITCH.findall(message.content)
            if switches:
                return msgspec.structs.replace(prompt, enable_thinking=not switches[-1])
    return prompt
