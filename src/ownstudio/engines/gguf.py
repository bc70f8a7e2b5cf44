"""Reads GGUF weights and refuses what native code should not see.

The native loader trusts a file: a hostile or damaged one can abort the process that loads it. So the whole
header is read here first: `gguf_header` checks every count and length against the bytes that are really
there, `gguf_model` asks whether the numbers make a model. Tensor data is never read, only its place.

Rules: every fault is a `WeightsError`; nothing else leaves `read_gguf`. The file is read, not mapped: one
that shrinks meanwhile gives an error, not a bus error.
"""

import re
from pathlib import Path
from typing import cast

from msgspec import Struct

from ownstudio.engines import weights
from ownstudio.engines.gguf_header import (
    GgufError,
    Header,
    HeaderIncompleteError,
    Tensor,
    Value,
    parse_header,
)
from ownstudio.engines.gguf_model import check_model

HEADER_BYTES_FIRST = 16 * 1024 * 1024
HEADER_BYTES_MAX = 512 * 1024 * 1024
SHARDS_MAX = 1024

_SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_TOKENIZER = "tokenizer.ggml."


class WeightsError(weights.WeightsError):
    """A weights file that cannot be used. The text names the file and the fault and is safe to show."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"The weights file {path.name} cannot be used: {fault}.")
        self.path = path
        self.fault = fault


class Vocabulary(Struct, frozen=True):
    """The tokens of a model in id order, with all that is needed to split text into them.

    `token_types` are GGUF's numbers: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    `named_ids` are the ids to which the file gives a role, such as `eos` or `padding`.
    """

    tokens: tuple[str, ...]
    token_types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str
    named_ids: dict[str, int]


class GgufFile(Struct, frozen=True):
    """A checked GGUF file; of a split one, all shards together.

    `metadata` has every key; a long list of numbers that nobody asks for is None. The place of a
    tensor is within its shard.
    """

    path: Path
    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    shards: tuple[Path, ...]

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    @property
    def context_length(self) -> int:
        """How many tokens the model was made for."""
        value = self.metadata[f"{self.architecture}.context_length"]
        return value if isinstance(value, int) else 0

    @property
    def kv_bytes_per_token(self) -> int:
        """What one token takes in a KV cache of 16-bit numbers, keys and values of all layers, in bytes."""

        def number(key: str, otherwise: int = 0) -> int:
            value = self.metadata.get(f"{self.architecture}.{key}")
            return value if isinstance(value, int) else otherwise

        heads = number("attention.head_count", 1)
        head_size = number("embedding_length") // max(1, heads)
        key_size = number("attention.key_length", head_size)
        value_size = number("attention.value_length", head_size)
        kv_heads = number("attention.head_count_kv", heads)
        return 2 * number("block_count") * kv_heads * (key_size + value_size)

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja template, if it has one."""
        return self.text("tokenizer.chat_template") or None

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(
            tokens=cast("tuple[str, ...]", self.metadata[_TOKENIZER + "tokens"]),
            token_types=cast("tuple[int, ...]", self.metadata[_TOKENIZER + "token_type"]),
            merges=cast("tuple[str, ...]", self.metadata[_TOKENIZER + "merges"]),
            pre=self.text(_TOKENIZER + "pre"),
            named_ids={
                key.removeprefix(_TOKENIZER).removesuffix("_token_id"): value
                for key, value in self.metadata.items()
                if key.startswith(_TOKENIZER)
                and key.endswith("_token_id")
                and isinstance(value, int)
            },
        )

    def text(self, key: str) -> str:
        """The text under `key`, empty where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""


def read_gguf(path: Path) -> GgufFile:
    """Read and check `path`; of a split model, its first shard. Raises WeightsError."""
    first = _read_header(path)
    shards = _shards(path, first)
    tensors = list(first.tensors)
    for shard in shards[1:]:
        tensors += _read_header(shard).tensors
    try:
        _check_split(first, tensors)
        check_model(first.metadata, tensors)
    except GgufError as fault:
        raise WeightsError(path, str(fault)) from None
    return GgufFile(
        path=path,
        version=first.version,
        metadata=first.metadata,
        tensors=tuple(tensors),
        shards=shards,
    )


def _read_header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            wanted = HEADER_BYTES_FIRST
            while True:
                file.seek(0)
                data = file.read(min(wanted, size))
                try:
                    return parse_header(data, size)
                except HeaderIncompleteError:
                    if len(data) < min(wanted, size):
                        raise GgufError("it became shorter while it was read") from None
                    if wanted >= HEADER_BYTES_MAX:
                        raise GgufError(
                            f"its header is longer than {HEADER_BYTES_MAX} bytes"
                        ) from None
                wanted *= 4
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise WeightsError(path, f"the system says: {reason}") from None
    except GgufError as fault:
        raise WeightsError(path, str(fault)) from None


def _shards(path: Path, first: Header) -> tuple[Path, ...]:
    """All files of the model in order. The first one says how many there are, their names follow from its own."""
    count = first.metadata.get("split.count", 1)
    number = first.metadata.get("split.no", 0)
    if not isinstance(count, int) or not isinstance(number, int) or not 0 <= count <= SHARDS_MAX:
        raise WeightsError(path, "split.count or split.no is no sensible number")
    if number != 0:
        raise WeightsError(path, f"it is part {number + 1} of {count}; give the first part")
    if count <= 1:
        return (path,)
    name = _SHARD_NAME.fullmatch(path.name)
    if name is None or int(name["count"]) != count or int(name["number"]) != 1:
        raise WeightsError(
            path, f"as the first of {count} parts, its name must end in -00001-of-{count:05}.gguf"
        )
    return tuple(
        path.with_name(f"{name['stem']}-{place:05}-of-{count:05}.gguf")
        for place in range(1, count + 1)
    )


def _check_split(first: Header, tensors: list[Tensor]) -> None:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise GgufError("a tensor is in two of its parts")
    claimed = first.metadata.get("split.tensors.count", len(tensors))
    if claimed != len(tensors):
        raise GgufError(
            f"its parts should have {claimed} tensors together, but have {len(tensors)}"
        )
