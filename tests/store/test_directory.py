"""Goal: nobody else on the machine reads what the data directory holds."""

import os
import stat
from pathlib import Path

import pytest

from ownstudio.store.directory import DataDirectory, StoreError, create_private, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_the_directory_is_made_with_its_parents_and_closed_to_others(tmp_path: Path):
    directory = DataDirectory(tmp_path / "a/b/data")
    directory.prepare()
    directory.prepare()
    assert mode(directory.path) == 0o700


def test_a_place_where_no_directory_can_be_is_refused_in_words(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made: .*choose another with --data"):
        DataDirectory(tmp_path / "file/data").prepare()


def test_a_private_file_is_put_in_place_whole(tmp_path: Path):
    path = tmp_path / "secret"
    path.write_text("old")
    write_private(path, "new\n")
    assert (path.read_text(), mode(path)) == ("new\n", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_that_cannot_be_written_leaves_no_draft(tmp_path: Path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_private(tmp_path / "taken", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_existing_file_is_kept(tmp_path: Path):
    path = tmp_path / "x"
    create_private(path)
    assert mode(path) == 0o600
    path.write_text("kept")
    create_private(path)
    assert path.read_text() == "kept"
