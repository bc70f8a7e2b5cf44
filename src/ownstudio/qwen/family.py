"""How a model is to be rendered and read, as its own chat template and vocabulary tell.

Nothing is known by a model's name: a template that a user puts in place of the publisher's is taken at its word.
"""

import re
from collections.abc import Container
from enum import Enum

from msgspec import Struct

from ownstudio.qwen.parser import THINK_CLOSE, THINK_OPEN
from ownstudio.qwen.render import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from ownstudio.qwen.tools import ToolForm
from ownstudio.qwen.xml_call import FUNCTION_OPEN

_GENERATION_PROMPT = "add_generation_prompt"
_JSON_FORM_MARK = "<tool_call>"
_CONDITION = re.compile(r"\bif\b")


class ThinkingKind(Enum):
    """Whether a model thinks before it answers: never, when asked to (`enable_thinking`), or always."""

    NONE = "none"
    HYBRID = "hybrid"
    ALWAYS = "always"


class Family(Struct, frozen=True):
    """The facts of one template and vocabulary.

    `tool_form` is None where the template knows no tools; `chooses_tool_form` says that it takes a variable of
    that name and can do either form. `keeps_thinking` says that it knows `preserve_thinking`.
    `fills_middle` says that the vocabulary has the fill-in-the-middle tokens.
    """

    tool_form: ToolForm | None
    thinking: ThinkingKind
    chooses_tool_form: bool = False
    keeps_thinking: bool = False
    fills_middle: bool = False


def family_of(template_source: str, special_tokens: Container[str]) -> Family:
    """`special_tokens` are the texts of the vocabulary's special tokens."""
    chooses = "tool_form" in template_source
    return Family(
        tool_form=_tool_form(template_source, chooses=chooses),
        thinking=_thinking(template_source),
        chooses_tool_form=chooses,
        keeps_thinking="preserve_thinking" in template_source,
        fills_middle=all(name in special_tokens for name in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)),
    )


def _tool_form(source: str, *, chooses: bool) -> ToolForm | None:
    if FUNCTION_OPEN in source and not chooses:
        return ToolForm.XML
    return ToolForm.JSON if _JSON_FORM_MARK in source else None


def _thinking(source: str) -> ThinkingKind:
    # Templates also mention the tags where they take thinking out of earlier turns: the end is what counts.
    ending = source.rpartition(_GENERATION_PROMPT)[2]
    opened = ending.count(THINK_OPEN) > ending.count(THINK_CLOSE)
    if opened and _CONDITION.search(ending) is None:
        # Such a template may still know `enable_thinking`, to refuse its being false.
        return ThinkingKind.ALWAYS
    if "enable_thinking" in source:
        return ThinkingKind.HYBRID
    return ThinkingKind.ALWAYS if opened else ThinkingKind.NONE
