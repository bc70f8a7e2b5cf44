"""The machine that the figures come from, in words that name no host: processor, memory, versions, neighbours."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from ownstudio.settings.machine import cores, memory_bytes

PACKAGES = ("granian", "uvloop", "aiohttp", "msgspec", "tokenizers", "xllamacpp")


class Machine(Struct, frozen=True):
    """`load` is the average number of runnable processes in the minute before the run: the neighbours."""

    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str
    versions: dict[str, str]
    load: float

    def words(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.cores} cores of {self.processor}, {self.memory_gib} GiB of memory, {self.system}; "
            f"Python {self.python}, {versions}; load average {self.load:.1f} before the run"
        )


def machine() -> Machine:
    return Machine(
        processor=_processor(),
        cores=cores(),
        memory_gib=round(memory_bytes() / 2**30),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
        load=os.getloadavg()[0],
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "an unnamed processor"
