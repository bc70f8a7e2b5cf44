"""Finds weights on this machine. Nothing here opens a socket or reads more of a file than its first bytes."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from msgspec import Struct

from ownstudio.engines.weights.spec import (
    HUB_NAMES,
    HubSpec,
    WeightsError,
    choose_file,
    parse_spec,
    parts_of,
)

BUNDLED_FILE = "ownstudio-tiny.gguf"
CHECKSUM_SUFFIX = ".sha256"
GGUF_MAGIC = b"GGUF"


class Pulled(Struct, frozen=True):
    """A model in the data directory: what to write as `weights`, its first file, its size over all files."""

    spec: str
    path: Path
    size_bytes: int
    sha256: str


def resolve_weights(spec: str, data_dir: Path) -> Path:
    """The GGUF file that a spec means; of a split model its first part. Raises WeightsError."""
    parsed = parse_spec(spec)
    try:
        if parsed is None:
            path = Path(str(files("ownstudio") / "bundled" / BUNDLED_FILE))
        elif isinstance(parsed, HubSpec):
            path = _pulled(parsed, data_dir)
        else:
            path = _on_disk(parsed)
        _check(path)
    except OSError as error:
        raise WeightsError(
            f"the weights {error.filename or spec} cannot be read: {error.strerror or error}"
        ) from None
    return path


def repo_directory(spec: HubSpec, data_dir: Path) -> Path:
    return data_dir / "models" / spec.hub / spec.repo


def pulled_models(data_dir: Path) -> Iterator[Pulled]:
    """Every model that was pulled whole, in the order of their specs."""
    for hub in HUB_NAMES:
        root = data_dir / "models" / hub
        for checksum in sorted(root.glob(f"*/*/**/*{CHECKSUM_SUFFIX}")):
            path = checksum.with_name(checksum.name.removesuffix(CHECKSUM_SUFFIX))
            owner, name, *inside = path.relative_to(root).parts
            parts = [path.with_name(Path(part).name) for part in parts_of(path.name)]
            if path.name != parts[0].name or not all(part.is_file() for part in parts):
                continue
            yield Pulled(
                spec=str(HubSpec(hub, f"{owner}/{name}", "/".join(inside))),
                path=path,
                size_bytes=sum(part.stat().st_size for part in parts),
                sha256=checksum.read_text("ascii", errors="replace")[:64],
            )


def _pulled(spec: HubSpec, data_dir: Path) -> Path:
    root = repo_directory(spec, data_dir)
    # A file has its checksum beside it only when it came whole.
    names = [
        checksum.relative_to(root).as_posix().removesuffix(CHECKSUM_SUFFIX)
        for checksum in sorted(root.rglob(f"*{CHECKSUM_SUFFIX}"))
    ]
    if not names:
        raise WeightsError(
            f"{spec} is not on this machine: pull it first with\n  ownstudio model pull {spec}"
        )
    name = choose_file(names, spec.file, f"what was pulled of {spec.hub}:{spec.repo}")
    missing = [part for part in parts_of(name) if not (root / part).is_file() or part not in names]
    if missing:
        raise WeightsError(
            f"{spec} is not here whole, {missing[0]} is missing: pull it again with\n  ownstudio model pull {spec}"
        )
    return root / name


def _on_disk(path: Path) -> Path:
    if path.is_dir():
        names = [found.relative_to(path).as_posix() for found in sorted(path.glob("*.gguf"))]
        if not names:
            raise WeightsError(f"the directory {path} has no GGUF file")
        return path / choose_file(names, "", f"the directory {path}")
    return path


def _check(path: Path) -> None:
    """Refuse what cannot be a GGUF file at all; what is inside is for the engine to judge."""
    with path.open("rb") as file:
        magic = file.read(len(GGUF_MAGIC))
    if magic != GGUF_MAGIC:
        raise WeightsError(f"the weights {path} are not a GGUF file: it does not begin with GGUF")
