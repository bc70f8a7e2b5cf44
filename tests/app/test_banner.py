"""What `serve` prints is what it was given, whatever signs stand in it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ownstudio.app.banner import print_banner
from ownstudio.settings import load_settings
from ownstudio.store.directory import DataDirectory


@pytest.mark.parametrize("key_is_here", [True, False])
def test_paths_and_addresses_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key_is_here: bool
) -> None:
    data = tmp_path / "[red]own[/]" / ":bug:"
    data.mkdir(parents=True)
    directory = DataDirectory(data)
    if key_is_here:
        directory.first_key.touch()
    settings = load_settings(environ={}, overrides={"data": str(data)}).settings
    studio: Any = SimpleNamespace(deployments={}, faults={})
    print_banner(studio, "http://[fe80::1]:8000", settings, directory)
    printed = capsys.readouterr().out
    assert str(directory.first_key if key_is_here else data) in printed
    assert str(directory.admin_token) in printed
    assert "  DashScope         http://[fe80::1]:8000/api/v1" in printed
