"""The bytes of a GGUF header: keys, values and tensor descriptions, each checked before it is believed.

Knows the format (versions 2 and 3, little-endian) and nothing of models. A length is compared with the bytes
that the file still has before anything of that length is made, so a hostile header costs no more memory
than its own size.
"""

import struct
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ownstudio.engines.gguf_types import GGML_TYPES

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_DEFAULT = 32
ALIGNMENT_MAX = 1024 * 1024
KEYS_MAX = 65_536
KEY_BYTES_MAX = 65_535
TENSORS_MAX = 262_144
TENSOR_NAME_BYTES_MAX = 63
DIMENSIONS_MAX = 4
NUMBERS_KEPT_MAX = 1024
"""Longer lists of numbers are stepped over, unless `KEPT_LISTS` names them."""
KEPT_LISTS = frozenset({"tokenizer.ggml.token_type"})

Scalar = int | float | bool | str
Value = Scalar | tuple[int, ...] | tuple[float, ...] | tuple[bool, ...] | tuple[str, ...] | None

STRING, ARRAY = 8, 9
# Format letter and size in bytes of each scalar type.
NUMBERS = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("?", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
KEY_BYTES_MIN = 8 + 1 + 4 + 1
TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8

_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from


class GgufError(Exception):
    """What is wrong with the file, as the second half of a sentence."""


class HeaderIncompleteError(Exception):
    """The header is longer than the bytes at hand; the file has more."""


class Tensor(Struct, frozen=True, gc=False):
    """Where one tensor lies: `offset` from the start of its file and `size`, both in bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int


class Header(Struct, frozen=True):
    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]


def parse_header(data: bytes, file_size: int) -> Header:
    """Read the header of a file of `file_size` bytes from its first bytes. Raises GgufError, HeaderIncompleteError."""
    return _Parser(data, file_size).header()


class _Parser:
    def __init__(self, data: bytes, file_size: int) -> None:
        self._data = data
        self._size = file_size
        self._at = 0
        self._place = "the header"

    def header(self) -> Header:
        self._check_magic()
        version = self._check_version()
        tensor_count = self._count("tensors", TENSORS_MAX, TENSOR_BYTES_MIN)
        key_count = self._count("keys", KEYS_MAX, KEY_BYTES_MIN)
        metadata: dict[str, Value] = {}
        for _ in range(key_count):
            self._place = (
                f"the key after {_shown(next(reversed(metadata)))}" if metadata else "the first key"
            )
            key = self._string(KEY_BYTES_MAX)
            if key in metadata:
                raise GgufError(f"the key {_shown(key)} comes twice")
            self._place = f"the key {_shown(key)}"
            metadata[key] = self._value(key)
        alignment = _alignment(metadata)
        described: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for number in range(tensor_count):
            self._place = f"the description of tensor {number}"
            name = self._string(TENSOR_NAME_BYTES_MAX)
            if name in described:
                raise GgufError(f"the tensor {_shown(name)} comes twice")
            self._place = f"the description of the tensor {_shown(name)}"
            described[name] = self._tensor()
        data_start = -(-self._at // alignment) * alignment
        tensors = tuple(
            _placed(name, *description, data_start, alignment, self._size)
            for name, description in described.items()
        )
        return Header(version=version, metadata=metadata, tensors=tensors)

    def _check_magic(self) -> None:
        head = self._data[:4]
        if not self._data:
            raise GgufError("it is empty")
        if head != MAGIC:
            if self._data.startswith(b"version https://git-lfs"):
                raise GgufError("it is a Git LFS pointer, not the weights themselves")
            raise GgufError(f"it begins with {head!r}, which is not the mark of a GGUF file")

    def _check_version(self) -> int:
        self._at = 4
        version: int = self._number(_u32, 4)
        if version not in VERSIONS:
            if version & 0xFFFF == 0:
                raise GgufError("it is a big-endian GGUF file; only little-endian ones can be read")
            raise GgufError(f"its GGUF version is {version}; versions 2 and 3 can be read")
        return version

    def _require(self, wanted: int) -> None:
        """Make sure that `wanted` bytes follow. They must be in the file, and they should be at hand."""
        end = self._at + wanted
        if end > self._size:
            raise GgufError(
                f"{self._place} reaches to byte {end}, but the file ends at byte {self._size}"
                " (it is cut off or damaged)"
            )
        if end > len(self._data):
            raise HeaderIncompleteError

    def _number(self, unpack: Callable[[bytes, int], tuple[Any, ...]], size: int) -> Any:
        self._require(size)
        (value,) = unpack(self._data, self._at)
        self._at += size
        return value

    def _count(self, what: str, most: int, bytes_min: int) -> int:
        """A number of things that are at least `bytes_min` bytes long each."""
        count: int = self._number(_u64, 8)
        if count > min(most, (self._size - self._at) // bytes_min):
            raise GgufError(
                f"it claims {count} {what}, more than a file of {self._size} bytes can hold"
            )
        return count

    def _string(self, bytes_max: int | None = None) -> str:
        length: int = self._number(_u64, 8)
        if bytes_max is not None and length > bytes_max:
            raise GgufError(f"{self._place} has a name of {length} bytes; {bytes_max} are allowed")
        self._require(length)
        start, self._at = self._at, self._at + length
        try:
            return self._data[start : self._at].decode()
        except UnicodeDecodeError:
            raise GgufError(f"{self._place} has text that is not UTF-8") from None

    def _value(self, key: str) -> Value:
        kind: int = self._number(_u32, 4)
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array(key)
        letter, size = self._scalar_type(kind)
        if letter == "?":
            return self._bool()
        value: int | float = self._number(struct.Struct(f"<{letter}").unpack_from, size)
        return value

    def _scalar_type(self, kind: int) -> tuple[str, int]:
        if kind not in NUMBERS:
            raise GgufError(f"{self._place} has the value type {kind}, which does not exist")
        return NUMBERS[kind]

    def _bool(self) -> bool:
        self._require(1)
        value = self._data[self._at]
        self._at += 1
        if value > 1:
            raise GgufError(f"{self._place} should be true or false but holds {value}")
        return value == 1

    def _array(self, key: str) -> Value:
        kind: int = self._number(_u32, 4)
        if kind == ARRAY:
            raise GgufError(f"{self._place} is a list of lists, which no loader reads")
        letter, size = ("", 8) if kind == STRING else self._scalar_type(kind)
        count: int = self._number(_u64, 8)
        if count > (self._size - self._at) // size:
            raise GgufError(
                f"{self._place} claims a list of {count}, more than the file can hold"
                " (it is cut off or damaged)"
            )
        if kind == STRING:
            return self._strings(count)
        self._require(count * size)
        start, self._at = self._at, self._at + count * size
        if count > NUMBERS_KEPT_MAX and key not in KEPT_LISTS:
            return None
        numbers: tuple[int, ...] = struct.unpack_from(f"<{count}{letter}", self._data, start)
        return numbers

    def _strings(self, count: int) -> tuple[str, ...]:
        """Two long lists of strings are most of a header, so this loop is written for speed."""
        data, at, end = self._data, self._at, len(self._data)
        unpack = _u64
        found: list[str] = []
        append = found.append
        try:
            for _ in range(count):
                start = at + 8
                at = start + unpack(data, at)[0]
                if at > end:
                    break
                append(data[start:at].decode())
        except struct.error:
            at += 8
        except UnicodeDecodeError:
            raise GgufError(
                f"{self._place} has text that is not UTF-8 at place {len(found)}"
            ) from None
        if len(found) < count:
            self._require(at - self._at)
        self._at = at
        return tuple(found)

    def _tensor(self) -> tuple[tuple[int, ...], int, int]:
        """Shape, type id, and offset from the start of the data."""
        dimensions: int = self._number(_u32, 4)
        if not 1 <= dimensions <= DIMENSIONS_MAX:
            raise GgufError(
                f"{self._place} has {dimensions} dimensions; 1 to {DIMENSIONS_MAX} are allowed"
            )
        self._require(8 * dimensions + 12)
        *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", self._data, self._at)
        self._at += 8 * dimensions + 12
        return tuple(shape), kind, offset


def _alignment(metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", ALIGNMENT_DEFAULT)
    if (
        not isinstance(alignment, int)
        or not 1 <= alignment <= ALIGNMENT_MAX
        or alignment & (alignment - 1)
    ):
        raise GgufError(
            f"general.alignment is {_shown(str(alignment))}; a power of two up to {ALIGNMENT_MAX} is allowed"
        )
    return alignment


def _placed(
    name: str,
    shape: tuple[int, ...],
    kind: int,
    offset: int,
    data_start: int,
    alignment: int,
    file_size: int,
) -> Tensor:
    """The tensor with its place in the file, once its data is known to lie inside."""
    if kind not in GGML_TYPES:
        raise GgufError(f"the tensor {_shown(name)} has the type {kind}, which does not exist")
    stored = GGML_TYPES[kind]
    values = 1
    for length in shape:
        values *= length
    if not 1 <= values < 2**63:
        raise GgufError(f"the tensor {_shown(name)} has the impossible shape {list(shape)}")
    if shape[0] % stored.block_values:
        raise GgufError(
            f"the tensor {_shown(name)} has rows of {shape[0]} values,"
            f" which {stored.name} cannot store: it takes {stored.block_values} at a time"
        )
    size = values // stored.block_values * stored.block_bytes
    if offset % alignment:
        raise GgufError(
            f"the tensor {_shown(name)} lies at {offset}, which is no multiple of {alignment}"
        )
    end = data_start + offset + size
    if end > file_size:
        raise GgufError(
            f"the tensor {_shown(name)} reaches to byte {end}, but the file ends at byte {file_size}"
            " (it is cut off or damaged)"
        )
    return Tensor(name=name, shape=shape, type=stored.name, offset=data_start + offset, size=size)


def _shown(text: str) -> str:
    """A name out of a file that nobody trusts: short and printable."""
    return ascii(text[:80])[1:-1]
