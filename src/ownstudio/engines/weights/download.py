"""Brings one file here: resumed after a break, checked by its hash, put in place whole.

What has come lies in `<name>.<hash>.part`, so a later pull goes on where an earlier one stopped, and never with the
bytes of another version. The file gets its name only when its SHA-256 is right; if it is not, the bytes are deleted.
"""

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import httpx2

from ownstudio.engines.weights.hubs import RemoteFile
from ownstudio.engines.weights.places import CHECKSUM_SUFFIX
from ownstudio.engines.weights.spec import WeightsError

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 60.0
# Attempts in a row that bring nothing; one that brings bytes begins the count anew.
TRIES = 5
BACKOFF_S = 0.5
BACKOFF_MAX_S = 8.0
SPARE_BYTES = 64 * 1024**2

_SHA256 = re.compile(r"[0-9a-f]{64}")
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


class Progress(Protocol):
    """Told how a pull goes: `begin` for each file, then `advance` by bytes (negative where some came for nothing)."""

    def begin(self, name: str, total_bytes: int) -> None: ...

    def advance(self, count: int) -> None: ...


class _Broken(Exception):
    """The transfer stopped, and trying again may help."""


def download(
    file: RemoteFile,
    target: Path,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Put `file` at `target`, which need not be missing. Raises WeightsError."""
    if not _SHA256.fullmatch(file.sha256):
        raise WeightsError(
            f"the hub gives no SHA-256 of {file.name}, so what comes could not be checked"
        )
    progress.begin(file.name, file.size)
    if _is_here(file, target):
        progress.advance(file.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{file.sha256[:16]}.part")
    with _locked(partial) as sink:
        _check_room(file, partial, sink)
        progress.advance(sink.seek(0, os.SEEK_END))
        _fetch(file, sink, progress, sleep)
        _verify(file, partial, sink)
        os.fsync(sink.fileno())
        partial.replace(target)
    checksum = target.with_name(target.name + CHECKSUM_SUFFIX)
    checksum.write_text(f"{file.sha256}  {target.name}\n", encoding="utf-8")


def _is_here(file: RemoteFile, target: Path) -> bool:
    """Whether an earlier pull brought this very file: it checked the hash then, and wrote it down."""
    checksum = target.with_name(target.name + CHECKSUM_SUFFIX)
    return (
        target.is_file()
        and target.stat().st_size == file.size
        and checksum.is_file()
        and checksum.read_text("utf-8", errors="replace").startswith(file.sha256)
    )


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """The file of what has come, ours alone: two pulls that append to it would spoil it."""
    try:
        with partial.open("a+b") as sink:
            try:
                fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WeightsError(
                    f"another pull of {partial.name} is under way: wait for it"
                ) from None
            yield sink
    except OSError as error:
        raise WeightsError(f"{partial} cannot be written: {error.strerror or error}") from error


def _check_room(file: RemoteFile, partial: Path, sink: BinaryIO) -> None:
    missing = file.size - sink.seek(0, os.SEEK_END)
    free = shutil.disk_usage(partial.parent).free
    if missing + SPARE_BYTES > free:
        raise WeightsError(
            f"{file.name} needs {missing / 1e9:.1f} GB more on the disk of {partial.parent}, "
            f"which has {free / 1e9:.1f} GB free"
        )


def _fetch(
    file: RemoteFile, sink: BinaryIO, progress: Progress, sleep: Callable[[float], None]
) -> None:
    timeout = httpx2.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    tries = 0
    with httpx2.Client(timeout=timeout, follow_redirects=True) as client:
        while (offset := sink.seek(0, os.SEEK_END)) != file.size:
            try:
                _transfer(client, file, sink, progress)
            except _Broken as error:
                tries = 0 if sink.seek(0, os.SEEK_END) > offset else tries + 1
                if tries == TRIES:
                    raise WeightsError(
                        f"{file.name} stopped at {sink.tell()} of {file.size} bytes: {error}; "
                        "the same command goes on from there"
                    ) from None
                sleep(min(BACKOFF_S * 2**tries, BACKOFF_MAX_S))


def _transfer(client: httpx2.Client, file: RemoteFile, sink: BinaryIO, progress: Progress) -> None:
    """One request for what is missing, appended to `sink` as it comes. Raises _Broken, WeightsError."""
    offset = sink.seek(0, os.SEEK_END)
    if offset > file.size:
        _restart(sink, progress)
        offset = 0
    # Compressed bytes would have other offsets than the file's.
    headers = {**file.headers, "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        with client.stream("GET", file.url, headers=headers) as response:
            if response.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                _restart(sink, progress)
                raise _Broken("the hub has fewer bytes than it had")
            _check_status(file, response)
            if offset and not _goes_on_at(offset, response):
                _restart(sink, progress)
            # Pieces as the network brings them: a larger one would be lost whole where the connection breaks.
            for chunk in response.iter_raw():
                if sink.tell() + len(chunk) > file.size:
                    _restart(sink, progress)
                    raise WeightsError(
                        f"the hub sends more than the {file.size} bytes that it announced for {file.name}"
                    )
                sink.write(chunk)
                progress.advance(len(chunk))
            sink.flush()
    except httpx2.TransportError as error:
        sink.flush()
        raise _Broken(str(error) or type(error).__name__) from error
    if sink.tell() == offset:
        raise _Broken("the hub sent nothing")


def _check_status(file: RemoteFile, response: httpx2.Response) -> None:
    if response.is_success:
        return
    reason = f"the hub answered {response.status_code}"
    if response.status_code in _RETRIED:
        raise _Broken(reason)
    raise WeightsError(f"{file.name} cannot be had: {reason}")


def _goes_on_at(offset: int, response: httpx2.Response) -> bool:
    """Whether the answer begins at `offset`. A server may also send the file from its start, or another part."""
    if response.status_code != httpx2.codes.PARTIAL_CONTENT:
        return False
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _restart(sink: BinaryIO, progress: Progress) -> None:
    progress.advance(-sink.seek(0, os.SEEK_END))
    sink.truncate(0)
    sink.seek(0)


def _verify(file: RemoteFile, partial: Path, sink: BinaryIO) -> None:
    sink.flush()
    sink.seek(0)
    digest = hashlib.file_digest(sink, "sha256").hexdigest()  # type: ignore[arg-type]  # it can readinto
    if digest != file.sha256:
        partial.unlink()
        raise WeightsError(
            f"{file.name} came with other content than the hub's checksum says ({digest[:12]}…, not "
            f"{file.sha256[:12]}…); it was deleted: pull it again"
        )
