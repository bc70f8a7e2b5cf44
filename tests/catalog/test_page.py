"""The page of models shows every row, and the committed page is the one that the data gives."""

from pathlib import Path

from ownstudio.catalog import models_page_markdown, read_entries

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def section(page: str, title: str) -> str:
    return page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == models_page_markdown()


def test_every_model_is_in_every_table_about_models() -> None:
    page = models_page_markdown()
    for title in ("Lengths", "Features", "Default parameters", "Prices"):
        table = section(page, title)
        assert [name for name in read_entries() if f"`{name}`" not in table] == []


def test_figures_are_written_as_published() -> None:
    page = models_page_markdown()
    assert "| `qwen3-coder-plus` | singapore | up to 32,000 | USD 1 | USD 5 | – |" in page
    assert "| `qwen3-coder-plus` | beijing | above 256,000 | USD 2.868 | USD 28.671 | – |" in page
    assert "| `qwen-plus` | beijing | up to 128,000 | USD 0.115 | USD 0.287 | USD 1.147 |" in page
    assert "| `qwen2.5-coder-3b-instruct` | beijing | any | free | free | – |" in page
    assert "| `qwen2-7b-instruct` |  | not published | not published | not published | – |" in page
    assert "1,000,000 tokens for 90 days" in page


def test_the_tables_are_well_formed() -> None:
    for block in models_page_markdown().split("\n\n"):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("|"):
            assert {line.count("|") for line in lines} == {lines[0].count("|")}
