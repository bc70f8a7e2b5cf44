"""Weights files: the good ones are read exactly, of the bad ones none gets past the reader."""

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownstudio.engines.gguf import WeightsError, read_gguf
from ownstudio.engines.gguf_header import GgufError, HeaderIncompleteError, parse_header
from ownstudio.engines.gguf_types import GGML_TYPES

WIDTH, HEADS, KV_HEADS, INNER, LAYERS, CONTEXT = 64, 4, 2, 96, 2, 128
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

Change = Callable[[gguf.GGUFWriter], None]
Damage = Callable[[bytes], bytes]


def tokens() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + place) for place in range(256 - len(printable))]
    return [*letters, "ab", *SPECIAL]


def write_small_model(path: Path, *, tensors: bool = True, change: Change | None = None) -> Path:
    """A Qwen3 with random weights and a vocabulary of bytes, complete enough for the engine to load."""
    random_numbers = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    names = tokens()
    writer.add_token_list(names)
    writer.add_token_types([1] * (len(names) - 3) + [3] * 3)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(names) - 1)
    writer.add_pad_token_id(len(names) - 3)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}")
    if change is not None:
        change(writer)
    if tensors:
        for name, shape in shapes(len(names)).items():
            values = random_numbers.standard_normal(shape, dtype=np.float32) * 0.05
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shapes(rows: int) -> dict[str, tuple[int, ...]]:
    size = WIDTH // HEADS
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, WIDTH)}
    for layer in range(LAYERS):
        found |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (WIDTH,),
                "attn_q": (WIDTH, WIDTH),
                "attn_k": (KV_HEADS * size, WIDTH),
                "attn_v": (KV_HEADS * size, WIDTH),
                "attn_output": (WIDTH, WIDTH),
                "attn_q_norm": (size,),
                "attn_k_norm": (size,),
                "ffn_norm": (WIDTH,),
                "ffn_gate": (INNER, WIDTH),
                "ffn_up": (INNER, WIDTH),
                "ffn_down": (WIDTH, INNER),
            }.items()
        }
    return found | {"output_norm.weight": (WIDTH,)}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("weights") / "good.gguf")


@pytest.fixture(scope="module")
def content(good: Path) -> bytes:
    return good.read_bytes()


def fault_of(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_gguf(path)
    assert path.name in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    return caught.value.fault


def with_number(content: bytes, key: str, value: int, letter: str = "I") -> bytes:
    """`content` with another number under `key`, which must be there once."""
    name = key.encode()
    start = content.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4
    packed = struct.pack("<" + letter, value)
    return content[:start] + packed + content[start + len(packed) :]


def with_tensor(content: bytes, name: str, place: int, letter: str, value: int) -> bytes:
    """`content` with another number at `place` bytes behind the name of a tensor."""
    start = content.index(name.encode()) + len(name) + place
    packed = struct.pack("<" + letter, value)
    return content[:start] + packed + content[start + len(packed) :]


def test_a_good_file_is_read_as_the_reference_reads_it(good: Path) -> None:
    ours = read_gguf(good)
    reference = gguf.GGUFReader(good)
    assert {tensor.name for tensor in ours.tensors} == {t.name for t in reference.tensors}
    for tensor, other in zip(ours.tensors, reference.tensors, strict=True):
        assert tensor.shape == tuple(other.shape)
        assert tensor.type == other.tensor_type.name
        assert (tensor.offset, tensor.size) == (other.data_offset, other.n_bytes)
    for key, value in ours.metadata.items():
        other_value = reference.fields[key].contents()
        assert value == (tuple(other_value) if isinstance(other_value, list) else other_value)
    assert (ours.architecture, ours.context_length) == ("qwen3", CONTEXT)
    assert ours.chat_template == "{{ messages }}"
    vocabulary = ours.vocabulary
    assert list(vocabulary.tokens) == tokens()
    assert vocabulary.merges == ("a b",)
    assert vocabulary.token_types[-3:] == (3, 3, 3)
    assert vocabulary.pre == "qwen2"
    assert vocabulary.named_ids == {"eos": 259, "padding": 257}


def test_block_sizes_are_those_of_the_reference() -> None:
    ours = {kind: (t.name, t.block_values, t.block_bytes) for kind, t in GGML_TYPES.items()}
    theirs = {
        kind.value: (kind.name, *sizes)
        for kind, sizes in gguf.GGML_QUANT_SIZES.items()
        if kind.value in ours
    }
    # The reference package gives Q8_1 two 4-byte factors; GGML stores two of 2 bytes.
    theirs[9] = ("Q8_1", 32, 36)
    assert ours == theirs


def test_long_lists_of_numbers_are_stepped_over(tmp_path: Path) -> None:
    path = write_small_model(
        tmp_path / "scores.gguf",
        change=lambda writer: writer.add_array("test.numbers", list(range(5000))),
    )
    assert read_gguf(path).metadata["test.numbers"] is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"GGUF", "cut off"),
        (b"GG", "not the mark"),
        (random.Random(0).randbytes(4096), "not the mark"),
        (b"<!DOCTYPE html>" * 99, "b'<!DO'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(64), "big-endian"),
        (b"GGUF" + struct.pack("<I", 99) + bytes(64), "version is 99"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(64), "version is 1"),
    ],
)
def test_what_is_no_gguf_file(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    assert words in fault_of(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in fault_of(tmp_path / "missing.gguf")
    (tmp_path / "folder.gguf").mkdir()
    assert "is a directory" in fault_of(tmp_path / "folder.gguf")


def test_every_truncation_is_refused(tmp_path: Path, good: Path, content: bytes) -> None:
    path = tmp_path / "cut.gguf"
    header_end = read_gguf(good).tensors[0].offset
    cuts = [*range(0, header_end, 7), *range(header_end, len(content), 20_011), len(content) - 1]
    for cut in cuts:
        path.write_bytes(content[:cut])
        assert cut < 8 or "cut off" in fault_of(path) or "can hold" in fault_of(path), cut


def number(key: str, value: int, letter: str = "I") -> Damage:
    return lambda content: with_number(content, key, value, letter)


def tensor(name: str, place: int, letter: str, value: int) -> Damage:
    return lambda content: with_tensor(content, name, place, letter, value)


def other(old: bytes, new: bytes) -> Damage:
    return lambda content: content.replace(old, new)


HOSTILE: dict[str, tuple[Damage, str]] = {
    "tensor count": (
        lambda c: c[:8] + struct.pack("<Q", 2**60) + c[16:],
        "claims 1152921504606846976 tensors",
    ),
    "key count": (lambda c: c[:16] + struct.pack("<Q", 2**60) + c[24:], "keys, more than"),
    "negative key count": (lambda c: c[:16] + struct.pack("<q", -1) + c[24:], "keys, more than"),
    "key length": (lambda c: c[:24] + struct.pack("<Q", 2**62) + c[32:], "65535 are allowed"),
    "architecture": (other(b"qwen3", b"qwenX"), "architecture is 'qwenX'"),
    "missing layer": (other(b"blk.1.", b"blk_1."), "no tensors of layer 1"),
    "tensor of no layer": (
        other(b"blk.1.attn_q.weight", b"blk.9.attn_q.weight"),
        "tensors of layer 9",
    ),
    "no layers": (number("qwen3.block_count", 0), "block_count is 0"),
    "a billion layers": (number("qwen3.block_count", 10**9), "block_count is 1000000000"),
    "more layers than there are": (number("qwen3.block_count", 3), "no tensors of layer 2"),
    "fewer layers than there are": (number("qwen3.block_count", 1), "tensors of layer 1"),
    "no heads": (number("qwen3.attention.head_count", 0), "head_count is 0"),
    "uneven heads": (number("qwen3.attention.head_count", 7), "do not divide"),
    "no key-value heads": (number("qwen3.attention.head_count_kv", 0), "head_count_kv is 0"),
    "no width": (number("qwen3.embedding_length", 0), "embedding_length is 0"),
    "no context": (number("qwen3.context_length", 0), "context_length is 0"),
    "no inner width": (number("qwen3.feed_forward_length", 0), "feed_forward_length is 0"),
    "no key length": (number("qwen3.attention.key_length", 0), "key_length is 0"),
    "eos outside": (number("tokenizer.ggml.eos_token_id", 2**31), "eos_token_id is 2147483648"),
    "pad outside": (number("tokenizer.ggml.padding_token_id", 260), "padding_token_id is 260"),
    "a bool that is none": (number("tokenizer.ggml.add_bos_token", 7, "B"), "holds 7"),
    "a value type that is none": (
        other(b"context_length\x04", b"context_length\x63"),
        "value type 99",
    ),
    "a list of lists": (other(b"merges\x09\0\0\0\x08", b"merges\x09\0\0\0\x09"), "list of lists"),
    "a list type that is none": (
        other(b"merges\x09\0\0\0\x08", b"merges\x09\0\0\0\x4d"),
        "value type 77",
    ),
    "a text for a number": (
        other(b"qwen3.context_length", b"qwen3.context_lengtH"),
        "context_length is missing",
    ),
    "a tensor twice": (other(b"blk.1.attn_q.weight", b"blk.1.attn_k.weight"), "comes twice"),
    "text that is not UTF-8": (other(b"<|im_start|>", b"<|im_\xff\xff\xff\xff\xff|>"), "not UTF-8"),
    "token type": (
        lambda c: c.replace(struct.pack("<iii", 3, 3, 3), struct.pack("<iii", 3, 77, 3)),
        "no token type",
    ),
    "embedding rows": (tensor("token_embd.weight", 12, "Q", 128), "shape [64, 128]"),
    "overflowing shape": (tensor("token_embd.weight", 4, "Q", 2**61), "impossible shape"),
    "empty shape": (tensor("token_embd.weight", 4, "Q", 0), "impossible shape"),
    "tensor type": (tensor("blk.0.attn_q.weight", 20, "I", 250), "type 250"),
    "retired tensor type": (tensor("blk.0.attn_q.weight", 20, "I", 4), "type 4"),
    "rows of half a block": (tensor("blk.0.ffn_down.weight", 20, "I", 12), "cannot store"),
    "offset far out": (tensor("blk.0.attn_q.weight", 24, "Q", 2**50), "cut off"),
    "offset unaligned": (tensor("blk.0.attn_q.weight", 24, "Q", 3), "no multiple of 32"),
    "five dimensions": (tensor("blk.0.attn_q.weight", 0, "I", 5), "5 dimensions"),
    "no dimensions": (tensor("blk.0.attn_q.weight", 0, "I", 0), "0 dimensions"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_numbers_are_refused(tmp_path: Path, content: bytes, name: str) -> None:
    damage, words = HOSTILE[name]
    damaged = damage(content)
    assert damaged != content
    path = tmp_path / "hostile.gguf"
    path.write_bytes(damaged)
    assert words in fault_of(path)


def add(key: str, value: object) -> Change:
    """Put a key of a good file to another value, or add a new one."""

    def change(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0].pop(key, None)
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)

    return change


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("general.alignment", 48, "power of two"),
        ("qwen3.attention.layer_norm_rms_epsilon", float("nan"), "above 0"),
        ("qwen3.attention.layer_norm_rms_epsilon", -1.0, "above 0"),
        ("qwen3.attention.layer_norm_rms_epsilon", None, "is None"),
        ("qwen3.rope.freq_base", float("inf"), "above 0"),
        ("qwen3.rope.dimension_count", 17, "rotates 17 of 16"),
        ("qwen3.rope.dimension_count", 32, "rotates 32 of 16"),
        ("qwen3.expert_count", 8, "uses 0 of 8 experts"),
        ("qwen3.expert_count", 10**6, "expert_count is 1000000"),
        ("qwen3.attention.head_count", [4, 4, 4], "3 numbers for 2 layers"),
        ("qwen3.attention.head_count", [0, 0], "none of its layers"),
        ("qwen3.attention.head_count", "four", "head_count is 'four'"),
        ("qwen3.context_length", 1.5, "context_length is 1.5"),
        ("tokenizer.ggml.tokens", ["a", "b"], "token_type has no number for each of its 2"),
        ("tokenizer.ggml.tokens", ["a"] * 260, "the same"),
        ("tokenizer.ggml.tokens", [1, 2], "not a list of texts"),
        ("tokenizer.ggml.tokens", None, "not a list of texts"),
        ("tokenizer.ggml.merges", None, "not a list of texts"),
        ("tokenizer.ggml.token_type", None, "token_type has no number"),
        ("tokenizer.ggml.model", "llama", "kind 'llama'"),
        ("tokenizer.chat_template", 3, "not a text"),
        ("split.count", "two", "no sensible number"),
    ],
)
def test_numbers_that_make_no_model_are_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    path = write_small_model(tmp_path / "odd.gguf", change=add(key, value))
    assert words in fault_of(path)


def test_a_key_that_comes_twice(content: bytes, tmp_path: Path) -> None:
    key = b"qwen3.attention.value_length"
    other = b"qwen3.attention.layer_norm_rms_epsilon"
    start = content.index(struct.pack("<Q", len(key)) + key)
    entry = content[start : start + 8 + len(key) + 8]
    (count,) = struct.unpack_from("<Q", content, 16)
    assert other in content
    path = tmp_path / "twice.gguf"
    path.write_bytes(
        content[:16] + struct.pack("<Q", count + 1) + content[24:start] + entry + content[start:]
    )
    assert "qwen3.attention.value_length comes twice" in fault_of(path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 40_000),
)
def test_changed_bytes_give_an_answer_or_a_fault(
    tmp_path: Path, good: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    content = good.read_bytes()
    damaged = bytearray(content if cut > len(content) // 8 else content[: len(content) - cut])
    for place, byte in changes:
        damaged[place] = byte
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged)
    try:
        model = read_gguf(path)
    except WeightsError as error:
        fault = str(error)
    else:
        fault = ""
        assert model.context_length > 0
        assert all(t.offset + t.size <= len(damaged) for t in model.tensors)
    assert fault.isprintable()


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_mark(tail: bytes) -> None:
    data = b"GGUF" + struct.pack("<I", 3) + tail
    with suppress(GgufError):
        assert parse_header(data, len(data)).version == 3


def test_a_header_longer_than_the_bytes_at_hand(content: bytes) -> None:
    whole = parse_header(content, len(content))
    header_end = whole.tensors[0].offset
    for cut in (*range(8, header_end - 64, 61),):
        with pytest.raises(HeaderIncompleteError):
            parse_header(content[:cut], len(content))
    assert parse_header(content[:header_end], len(content)) == whole


def write_split(folder: Path) -> list[Path]:
    paths = [folder / f"m-{number:05}-of-00002.gguf" for number in (1, 2)]

    def first(writer: gguf.GGUFWriter) -> None:
        writer.add_uint16("split.no", 0)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(shapes(260)))

    write_small_model(paths[0], tensors=False, change=first)
    writer = gguf.GGUFWriter(paths[1], "qwen3")
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 2)
    for name, shape in shapes(260).items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return paths


def test_a_split_model(tmp_path: Path) -> None:
    first, second = write_split(tmp_path)
    model = read_gguf(first)
    assert model.shards == (first, second)
    assert len(model.tensors) == len(shapes(260))
    assert "part 2 of 2" in fault_of(second)
    renamed = first.rename(tmp_path / "renamed.gguf")
    assert "-00001-of-00002.gguf" in fault_of(renamed)
    renamed.rename(first)
    os.truncate(second, second.stat().st_size - 40)
    with pytest.raises(WeightsError, match=r"m-00002-of-00002\.gguf.*cut off"):
        read_gguf(first)
    second.unlink()
    with pytest.raises(WeightsError, match=r"m-00002-of-00002\.gguf.*no such file"):
        read_gguf(first)


def test_the_bundled_model_is_read_quickly() -> None:
    path = Path(sys.modules["ownstudio"].__path__[0]) / "bundled" / "ownstudio-tiny.gguf"
    best = 1e9
    for _ in range(3):
        started = time.perf_counter()
        model = read_gguf(path)
        best = min(best, time.perf_counter() - started)
    assert len(model.vocabulary.tokens) == 151_936
    assert best < 1.0  # measured: 0.17 s on a busy core; the bound is for slow machines


LOADER = """
import os, sys
os.environ["GGML_NO_BACKTRACE"] = "1"
import xllamacpp
for path in sys.argv[1:]:
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.port = path, 64, 1, 0
    params.verbosity, params.warmup = -1, False
    try:
        server = xllamacpp.Server(params)
        server.handle_completions({"prompt": [1, 2, 3], "max_tokens": 2})
        print("loaded", flush=True)
    except RuntimeError:
        print("refused", flush=True)
os._exit(0)
"""


def test_what_is_accepted_does_not_abort_the_engine(tmp_path: Path, content: bytes) -> None:
    """The engine may refuse such a file, politely; it may not take its process along."""
    swapped = content.replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight")
    damages = {
        "good": content,
        "a tensor that the engine misses": swapped,
        "a shape that does not fit": with_number(content, "qwen3.feed_forward_length", 95),
        "one head for all": with_number(content, "qwen3.attention.head_count_kv", 1),
        "other heads": with_number(content, "qwen3.attention.head_count", 8),
        "long context": with_number(content, "qwen3.context_length", 2**31 - 1),
        "weights of ones": content[:40_000] + b"\xff" * (len(content) - 40_000),
        "an odd key length": with_number(content, "qwen3.attention.key_length", 17),
        "a huge key length": with_number(content, "qwen3.attention.key_length", 2**20),
    }
    paths = []
    for name, damaged in damages.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(damaged)
        read_gguf(path)
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *paths],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    words = done.stdout.split()
    assert done.returncode == 0, (list(damages)[len(words)], done.stderr[-500:])
    assert len(words) == len(paths)
    assert words[0] == "loaded"
