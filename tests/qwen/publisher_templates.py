"""Goal: we render and read each family as its publisher's own chat template has it.

The templates are not ours to keep here: `make test-families TEMPLATES=DIRECTORY` names a directory that holds as many
FAMILY.jinja files as there are to test (the families are those in tests/support/families.py).
"""

import os
from pathlib import Path

import pytest

from ownstudio.core.errors import StudioError
from ownstudio.qwen.family import family_of
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate, TemplateError
from ownstudio.qwen.tokenizer import Tokenizer
from support.families import (
    CONVERSATIONS,
    FAMILIES,
    OPENED,
    differs_at,
    ending,
    ours,
    prompt_of,
    recorded,
    recorded_of,
    variables,
)

DIRECTORY = Path(os.environ["OWNSTUDIO_TEMPLATES"])
FOUND = [family for family in FAMILIES if (DIRECTORY / f"{family}.jinja").exists()]


def source_of(family: str) -> str:
    with (DIRECTORY / f"{family}.jinja").open(newline="") as file:
        return file.read()


def test_there_are_templates() -> None:
    assert FOUND, f"{DIRECTORY} holds none of {', '.join(FAMILIES)} as FAMILY.jinja"


@pytest.mark.parametrize("family", FOUND)
def test_the_family_is_told_from_its_template(family: str) -> None:
    assert family_of(source_of(family), ()) == FAMILIES[family]


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("family", FOUND)
def test_we_render_as_the_publisher_does(family: str, name: str, tokenizer: Tokenizer) -> None:
    template, conversation = ChatTemplate(source_of(family)), CONVERSATIONS[name]
    parts, renderer = recorded(family)[name], PromptRenderer(template, tokenizer)
    if parts is None:
        with pytest.raises(TemplateError) as refused:
            template.render(variables(conversation))
        assert refused.value.refused
        with pytest.raises(StudioError):
            renderer.render_chat(prompt_of(conversation))
        return
    difference = differs_at(template.render(variables(conversation)), parts)
    assert difference is None, f"recorded of the template with SHA-256 {recorded_of(family)}"
    rendered = renderer.render_chat(prompt_of(conversation))
    text = tokenizer.decode(rendered.token_ids)
    sent = conversation["messages"][0]["role"] == "system"
    if family.startswith("qwen2.5") and not sent and not conversation["tools"]:
        # The default text that stands in for a system message nobody sent is left out, as the service does.
        parts = [ours(parts).partition("<|im_end|>\n")[2]]
    assert differs_at(text, parts) is None
    assert rendered.opens_thinking == (ending(parts) == OPENED)
