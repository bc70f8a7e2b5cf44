"""The pages that are made from the code are those in the repository, and a stale one is found."""

from pathlib import Path

import pytest

from ownstudio.app.documents import PAGES, main

ROOT = Path(__file__).parents[2]


def test_the_pages_in_the_repository_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], ROOT) == 0, capsys.readouterr().err


def test_a_stale_page_is_found_and_written_anew(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert main(["--check"], tmp_path) == 1
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert all((tmp_path / path).read_text("utf-8") for path in PAGES)
