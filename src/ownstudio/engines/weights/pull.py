"""Pulls a model from a hub into the data directory."""

import time
from collections.abc import Callable
from pathlib import Path

from ownstudio.engines.weights.download import Progress, download
from ownstudio.engines.weights.hubs import FILES_MAX, list_files
from ownstudio.engines.weights.places import repo_directory
from ownstudio.engines.weights.spec import (
    HubSpec,
    WeightsError,
    choose_file,
    is_safe_file,
    parts_of,
)


def pull(
    spec: HubSpec,
    data_dir: Path,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Bring the model that `spec` means here, all parts of it; the path of its first file. Raises WeightsError.

    Blocks until all is here. What was here already is not fetched again.
    """
    listed = list_files(spec)
    if len(listed) > FILES_MAX:
        raise WeightsError(f"{spec.hub}:{spec.repo} has more than {FILES_MAX} files")
    known = {file.name: file for file in listed if is_safe_file(file.name)}
    name = choose_file(list(known), spec.file, f"{spec.hub}:{spec.repo}")
    root = repo_directory(spec, data_dir)
    for part in parts_of(name):
        if part not in known:
            raise WeightsError(f"{spec.hub}:{spec.repo} lacks {part}, a part of {name}")
        download(known[part], root / part, progress, sleep)
    return root / name
