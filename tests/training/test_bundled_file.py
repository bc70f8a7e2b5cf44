"""The bundled weights: what is in the file, without running it."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

import gguf
import numpy as np

BUNDLED = Path(__file__).parents[2] / "src" / "ownstudio" / "bundled" / "ownstudio-tiny.gguf"
MEBIBYTE = 2**20


@cache
def reader() -> gguf.GGUFReader:
    return gguf.GGUFReader(BUNDLED)


def field(name: str) -> object:
    return reader().fields[name].contents()


def test_file_stays_small() -> None:
    whole = BUNDLED.read_bytes()
    assert len(whole) <= 40 * MEBIBYTE
    assert len(zlib.compress(whole)) <= 12 * MEBIBYTE


def test_names_itself_and_takes_long_prompts() -> None:
    assert field("general.architecture") == "qwen3"
    assert field("general.name") == "ownstudio-tiny"
    assert int(str(field("qwen3.context_length"))) >= 4096


def test_three_to_twelve_million_parameters_outside_the_embedding() -> None:
    sizes = {tensor.name: int(np.prod(tensor.shape)) for tensor in reader().tensors}
    assert "output.weight" not in sizes  # tied
    embedding = sizes.pop("token_embd.weight")
    assert embedding % 151_936 == 0
    assert 3_000_000 <= sum(sizes.values()) <= 12_000_000


def test_special_tokens_have_the_ids_of_the_real_models() -> None:
    tokens = reader().fields["tokenizer.ggml.tokens"]
    assert len(tokens.data) == 151_936
    known = {
        151_643: "<|endoftext|>",
        151_644: "<|im_start|>",
        151_645: "<|im_end|>",
        151_657: "<tool_call>",
        151_659: "<|fim_prefix|>",
        151_660: "<|fim_middle|>",
        151_661: "<|fim_suffix|>",
        151_665: "<tool_response>",
        151_667: "<think>",
        151_668: "</think>",
    }
    assert {token_id: tokens.contents(token_id) for token_id in known} == known
    assert field("tokenizer.ggml.eos_token_id") == 151_645


def test_untrained_rows_are_one_row() -> None:
    """Equal rows are what git compresses to nothing."""
    rows = next(t.data for t in reader().tensors if t.name == "token_embd.weight")
    assert (rows == rows[-1]).all(axis=1).sum() > 130_000
