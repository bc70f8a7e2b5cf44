"""What this machine offers a process: the cores and the memory that it may really use.

A container sees all cores of its host, yet its control group may allow two; an engine with a thread for each would
spend its time waiting for itself.
"""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cores(cgroup: Path = CGROUP) -> int:
    """How many cores this process may keep busy: its affinity, cut to its control group's quota; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, quota))


def engine_threads(threads: int, cgroup: Path = CGROUP) -> int:
    """The threads of an engine that was given `threads`, where 0 leaves one core to the server."""
    return threads or max(1, cores(cgroup) - 1)


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """How much memory this process may use: the machine's, cut to its control group's limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _text(cgroup / name)
        if limit.isdigit():
            return min(machine, int(limit))
    return machine


def _quota(cgroup: Path) -> int | None:
    """Whole cores of the control group's CPU quota, version 2 or 1; None where there is no limit."""
    limit, _, period = _text(cgroup / "cpu.max").partition(" ")
    if not limit:
        limit = _text(cgroup / "cpu/cpu.cfs_quota_us")
        period = _text(cgroup / "cpu/cpu.cfs_period_us")
    if not limit.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(limit) // int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
