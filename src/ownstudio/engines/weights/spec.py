"""What a spec says, and which file of several it means. Pure: names in, names out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

BUNDLED = "bundled"

Hub = Literal["hf", "ms"]
HUB_NAMES: dict[Hub, str] = {"hf": "Hugging Face", "ms": "ModelScope"}

# When a repository holds several GGUF files and none was named: the first of these that exactly one file has.
# Q4_K_M is what llama.cpp itself takes; Q8_0 is twice its size and close to the original.
PREFERRED = ("Q4_K_M", "Q8_0")

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FILE = re.compile(r"[^/\\\x00-\x1f]{1,255}(/[^/\\\x00-\x1f]{1,255}){0,7}")
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


class WeightsError(Exception):
    """There are no such weights, or they could not be pulled. The text says what is wrong and what to do."""


class HubSpec(Struct, frozen=True):
    """A repository of a hub and, unless empty, a file in it: its name, or a part such as `Q8_0`."""

    hub: Hub
    repo: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.hub}:{self.repo}" + (f":{self.file}" if self.file else "")


def parse_spec(spec: str) -> HubSpec | Path | None:
    """A repository, a path, or None for the bundled model. Raises WeightsError."""
    if spec == BUNDLED:
        return None
    hub, colon, rest = spec.partition(":")
    if not colon or hub not in HUB_NAMES:
        return Path(spec)
    repo, _, file = rest.partition(":")
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise WeightsError(f"{spec}: {repo!r} is not a repository such as Qwen/Qwen3-0.6B-GGUF")
    if file and not is_safe_file(file):
        raise WeightsError(f"{spec}: {file!r} is not the name of a file in a repository")
    return HubSpec("hf" if hub == "hf" else "ms", repo, file)


def is_safe_file(name: str) -> bool:
    """Whether a name, also one that a hub sent, stays inside the directory that it is joined to."""
    parts = name.split("/")
    return bool(_FILE.fullmatch(name)) and not any(part in {".", ".."} for part in parts)


def choose_file(names: Sequence[str], wanted: str, place: str) -> str:
    """The one GGUF file of `names` that is meant, the first of its parts if it is split. Raises WeightsError.

    `wanted` is its name, or a part of its name that no other file has, or empty. Then it is the only file, or else the
    only one with a mark of `PREFERRED`.
    """
    models = [name for name in names if _is_model(name)]
    if not models:
        raise WeightsError(
            f"{place} has no GGUF file: choose a repository whose name ends in -GGUF"
        )
    if wanted in models:
        return wanted
    marks = (wanted,) if wanted else ("", *PREFERRED)
    for mark in marks:
        found = [name for name in models if mark.lower() in name.lower()]
        if len(found) == 1:
            return found[0]
    listing = "\n".join(f"  {name}" for name in sorted(models))
    reason = f"has no single GGUF file named {wanted!r}" if wanted else "has several GGUF files"
    raise WeightsError(f"{place} {reason}; name one of these after a colon:\n{listing}")


def parts_of(name: str) -> list[str]:
    """All files that a model split into parts consists of, given its first; else the file alone."""
    shard = _SHARD.fullmatch(name)
    if shard is None:
        return [name]
    count = shard["count"]
    suffix = name[-len(".gguf") :]
    return [f"{shard['stem']}-{n:05}-of-{count}{suffix}" for n in range(1, int(count) + 1)]


def _is_model(name: str) -> bool:
    """Whether a name is that of a language model's file, or the first of its parts.

    Projectors of vision models and importance matrices are GGUF files, too, and no models.
    """
    base = name.rpartition("/")[2].lower()
    if not base.endswith(".gguf") or "mmproj" in base or "imatrix" in base:
        return False
    shard = _SHARD.fullmatch(base)
    return shard is None or int(shard["number"]) == 1
