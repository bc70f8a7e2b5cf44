"""Goal: a container's limits count, and an engine leaves a core to the server."""

import os
from pathlib import Path

import pytest

from ownstudio.settings.machine import cores, engine_threads, memory_bytes


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [("400000 100000", 4), ("50000 100000", 1), ("max 100000", 16), ("rubbish", 16), ("1 0", 16)],
)
def test_the_quota_of_a_control_group_limits_the_cores(tmp_path: Path, quota: str, expected: int):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores(tmp_path) == expected
    assert engine_threads(0, tmp_path) == max(1, expected - 1)
    assert engine_threads(7, tmp_path) == 7


@pytest.mark.usefixtures("many_cores")
def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path):
    assert cores(tmp_path) == 16
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert cores(tmp_path) == 2


def test_the_memory_limit_of_a_control_group_counts(tmp_path: Path):
    machine = memory_bytes(tmp_path)
    assert machine > 0
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory_bytes(tmp_path) == 1048576
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == machine
