"""The vocabulary: Qwen's own byte-pair tokens, and which rows of the embedding are trained.

Owns token ids. The 151,643 ordinary tokens come from the file that the `dashscope` package ships;
the special tokens stand behind them at the ids of the real Qwen3 models.
"""

from __future__ import annotations

import base64
import importlib.util
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

ORDINARY_COUNT = 151_643
ROWS = 151_936  # as the published models: the rows behind the special tokens are padding
COMMON_TOKENS = 5_000  # the lowest ids are the most frequent tokens: always trained

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
# Qwen's own files mark these as added but not special: an engine shows them as text when written.
VISIBLE_TOKENS = frozenset(SPECIAL_TOKENS[SPECIAL_TOKENS.index("<tool_call>") :])

END_OF_TEXT = ORDINARY_COUNT
IM_START = ORDINARY_COUNT + 1
IM_END = ORDINARY_COUNT + 2

# How Qwen2 and Qwen3 cut text before merging bytes.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def vocabulary_file() -> Path:
    # Found without importing dashscope, whose import opens an HTTP client.
    spec = importlib.util.find_spec("dashscope")
    if spec is None or spec.origin is None:
        raise RuntimeError("dashscope is not installed: pip install -r training/requirements.txt")
    return Path(spec.origin).parent / "resources" / "qwen.tiktoken"


@cache
def ranks() -> dict[bytes, int]:
    table: dict[bytes, int] = {}
    for line in vocabulary_file().read_bytes().splitlines():
        token, rank = line.split()
        table[base64.b64decode(token)] = int(rank)
    if len(table) != ORDINARY_COUNT:
        raise RuntimeError(f"expected {ORDINARY_COUNT} tokens, the file has {len(table)}")
    return table


@cache
def byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte, which GGUF and tokenizers both expect."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    hidden = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def spell(token: bytes) -> str:
    letters = byte_letters()
    return "".join(letters[byte] for byte in token)


def halves(token: bytes, rank: int, table: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge makes this one: what byte-pair encoding reaches just before."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        found = [
            (merged, place)
            for place in range(len(parts) - 1)
            if (merged := table.get(parts[place] + parts[place + 1])) is not None and merged < rank
        ]
        _, place = min(found)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


@cache
def ordinary_tokens() -> list[str]:
    table = ranks()
    return [spell(token) for token in sorted(table, key=table.__getitem__)]


@cache
def merges() -> list[tuple[str, str]]:
    table = ranks()
    pairs: list[tuple[str, str]] = []
    for token in sorted(table, key=table.__getitem__):
        if len(token) > 1:
            left, right = halves(token, table[token], table)
            pairs.append((spell(left), spell(right)))
    return pairs


@cache
def tokenizer() -> Tokenizer:
    vocabulary = {token: rank for rank, token in enumerate(ordinary_tokens())}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=merges()))
    built.normalizer = normalizers.NFC()
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return built


def common_share(text: str) -> float:
    """How much of the text is made of frequent tokens; 1 for all of it."""
    ids = tokenizer().encode(text, add_special_tokens=False).ids
    return sum(token_id < COMMON_TOKENS for token_id in ids) / max(1, len(ids))
