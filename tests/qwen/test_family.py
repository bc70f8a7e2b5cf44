"""The facts that templates give away. These templates are written for the tests, each with the habits of a family."""

from pathlib import Path

import pytest

from ownstudio.qwen.family import Family, ThinkingKind, family_of
from ownstudio.qwen.tools import ToolForm

BUNDLED = Path(__file__).parents[2] / "training" / "chat_template.jinja"
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

JSON_CALLS = r"""{{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}"""
XML_CALLS = r"""{{- '<tool_call>\n<function=' + call.name + '>\n' }}"""
OLD_THINKING = "{%- set content = content.split('</think>')[-1] %}"
PROMPT = r"{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
ALWAYS = r"{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
CLOSED_WHEN_OFF = PROMPT + (
    r"{%- if enable_thinking is defined and not enable_thinking %}"
    r"{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)
OPEN_UNLESS_OFF = PROMPT + (
    r"{%- if enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}"
    r"{%- else %}{{- '<think>\n' }}{%- endif %}{%- endif %}"
)

OFF_IS_REFUSED = (
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- raise_exception('No.') }}{%- endif %}"
)


@pytest.mark.parametrize(
    ("source", "tool_form", "thinking"),
    [
        (JSON_CALLS + PROMPT + "{%- endif %}", ToolForm.JSON, ThinkingKind.NONE),
        (JSON_CALLS + OLD_THINKING + CLOSED_WHEN_OFF, ToolForm.JSON, ThinkingKind.HYBRID),
        (JSON_CALLS + OLD_THINKING + PROMPT + "{% endif %}", ToolForm.JSON, ThinkingKind.NONE),
        (JSON_CALLS + OLD_THINKING + ALWAYS, ToolForm.JSON, ThinkingKind.ALWAYS),
        (XML_CALLS + PROMPT + "{%- endif %}", ToolForm.XML, ThinkingKind.NONE),
        (XML_CALLS + OLD_THINKING + OPEN_UNLESS_OFF, ToolForm.XML, ThinkingKind.HYBRID),
        (XML_CALLS + OFF_IS_REFUSED + ALWAYS, ToolForm.XML, ThinkingKind.ALWAYS),
        ("{{ messages }}", None, ThinkingKind.NONE),
    ],
    ids=["2.5", "3", "3 instruct", "QwQ and 3 thinking", "3 coder", "3.5", "3.8 max", "no tools"],
)
def test_families(source: str, tool_form: ToolForm | None, thinking: ThinkingKind) -> None:
    assert family_of(source, ()) == Family(tool_form, thinking)


def test_the_bundled_model() -> None:
    assert family_of(BUNDLED.read_text(), FIM) == Family(
        ToolForm.JSON,
        ThinkingKind.HYBRID,
        chooses_tool_form=True,
        keeps_thinking=True,
        fills_middle=True,
    )
