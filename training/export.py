"""Writes the GGUF file: Qwen's whole vocabulary around the few rows that were trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from training import chat, vocabulary
from training.shape import Shape

MODEL_NAME = "ownstudio-tiny"
EMBEDDING = "token_embd.weight"

Weights = Mapping[str, NDArray[np.float32]]

FILE_TYPES = {
    gguf.GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}


def spread_rows(trained: NDArray[np.float32], token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """One row per token. The last trained row stands for every token that training never saw."""
    whole = np.repeat(trained[-1:], vocabulary.ROWS, axis=0)
    whole[token_ids] = trained[:-1]
    return whole


def write_model(
    path: Path,
    shape: Shape,
    weights: Weights,
    token_ids: NDArray[np.int64],
    *,
    body: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
    embedding: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q4_0,
) -> None:
    """Replaces `path` in one step, so that a reader sees the old file or the new one."""
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, "qwen3")
    _add_shape(writer, shape)
    writer.add_file_type(FILE_TYPES[body])
    _add_vocabulary(writer)
    for name, values in weights.items():
        if name == EMBEDDING:
            values = spread_rows(values, token_ids)
        if values.ndim == 1:
            writer.add_tensor(name, values.astype(np.float32))
            continue
        kind = embedding if name == EMBEDDING else body
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(unfinished, path)


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(MODEL_NAME)
    writer.add_description("The very small model that ships with Ownstudio.")
    writer.add_license("apache-2.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    ordinary = vocabulary.ordinary_tokens()
    named = [*ordinary, *vocabulary.SPECIAL_TOKENS]
    padding = [f"[PAD{token_id}]" for token_id in range(len(named), vocabulary.ROWS)]
    kinds = [gguf.TokenType.NORMAL] * len(ordinary)
    kinds += [
        gguf.TokenType.USER_DEFINED
        if token in vocabulary.VISIBLE_TOKENS
        else gguf.TokenType.CONTROL
        for token in vocabulary.SPECIAL_TOKENS
    ]
    kinds += [gguf.TokenType.UNUSED] * len(padding)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*named, *padding])
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges()])
    writer.add_eos_token_id(vocabulary.IM_END)
    writer.add_pad_token_id(vocabulary.END_OF_TEXT)
    writer.add_bos_token_id(vocabulary.END_OF_TEXT)
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat.template_text())
