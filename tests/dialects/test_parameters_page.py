"""The page of parameters shows every row, and the committed page is the one that the tables give."""

from pathlib import Path

import pytest

from ownstudio.dialects.dashscope_parameters import BODY, INPUT, PARAMETERS
from ownstudio.dialects.openai_parameters import CHAT, TEXT
from ownstudio.dialects.parameters import Parameters
from ownstudio.dialects.parameters_page import parameters_page_markdown

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == parameters_page_markdown()


@pytest.mark.parametrize(
    ("title", "parameters"),
    [
        ("Chat completions", CHAT),
        ("Completions", TEXT),
        ("Native: the body", BODY),
        ("Native: `input`", INPUT),
        ("Native: `parameters`", PARAMETERS),
    ],
)
def test_every_parameter_has_its_row(title: str, parameters: Parameters) -> None:
    section = parameters_page_markdown().split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    for table in (parameters.supported, parameters.harmless, parameters.refused):
        for name in table:
            assert section.count(f"\n| `{name}` | ") == 1, name


def test_the_tables_are_well_formed() -> None:
    blocks = [block.strip().splitlines() for block in parameters_page_markdown().split("\n\n")]
    tables = [lines for lines in blocks if lines and lines[0].startswith("|")]
    assert len(tables) == 14
    for lines in tables:
        assert {line.count("|") for line in lines} == {3}
