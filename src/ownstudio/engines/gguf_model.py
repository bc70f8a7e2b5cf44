"""Whether the numbers of a GGUF header make a model that the engine can build.

The native loader checks tensor shapes itself and refuses politely. What it only asserts, or divides by,
or indexes with, is checked here: layer, head and expert counts, the vocabulary, and ids that point into
it. A fault is a `GgufError`.
"""

import math
import re
from collections.abc import Mapping, Sequence

from ownstudio.engines.gguf_header import GgufError, Tensor, Value

ARCHITECTURES = (
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen3moe",
    "qwen3next",
    "qwen3vl",
    "qwen3vlmoe",
    "qwen35",
    "qwen35moe",
)
TOKENIZER_MODEL = "gpt2"
LAYERS_MAX = 512
WIDTH_MAX = 2**20
HEADS_MAX = 4096
EXPERTS_MAX = 512
CONTEXT_MAX = 2**31 - 1
TOKENS_MAX = 2**24
# Norms and biases are added to activations, and the engine adds nothing but F32 to those.
VECTOR_TYPE = "F32"
# Types that GGML computes with in passing, or for positions, but not as weights.
NO_WEIGHT_TYPES = frozenset(("F64", "I8", "I16", "I32", "I64", "Q8_1", "Q8_K"))
TOKEN_TYPES = frozenset(range(7))

_LAYER = re.compile(r"blk\.(\d{1,9})\.")


def check_model(metadata: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    """Raises GgufError when no engine should be asked to load this model."""
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise GgufError(
            f"its architecture is {_shown(architecture)}; known are {', '.join(ARCHITECTURES)}"
        )
    numbers = _Numbers(metadata, f"{architecture}.")
    layers = numbers.integer("block_count", 1, LAYERS_MAX)
    numbers.integer("context_length", 1, CONTEXT_MAX)
    width = numbers.integer("embedding_length", 1, WIDTH_MAX)
    _check_heads(numbers, layers, width)
    _check_experts(numbers, layers)
    numbers.positive("attention.layer_norm_rms_epsilon", below=1.0, required=True)
    numbers.positive("rope.freq_base")
    numbers.positive("rope.scaling.factor")
    _check_layers(tensors, layers, numbers.optional("nextn_predict_layers", 0, layers - 1) or 0)
    _check_types(tensors)
    rows = _check_vocabulary(metadata)
    _check_embedding(tensors, width, rows)


class _Numbers:
    """The numbers of one architecture, by the part of the key behind its name."""

    def __init__(self, metadata: Mapping[str, Value], prefix: str) -> None:
        self._metadata = metadata
        self._prefix = prefix

    def integer(self, key: str, least: int, most: int) -> int:
        value = self.optional(key, least, most)
        if value is None:
            raise GgufError(f"the key {self._prefix}{key} is missing")
        return value

    def optional(self, key: str, least: int, most: int) -> int | None:
        value = self._metadata.get(self._prefix + key)
        if value is None:
            return None
        return _in_range(self._prefix + key, value, least, most)

    def per_layer(self, key: str, layers: int, least: int, most: int) -> tuple[int, ...]:
        """One number for each layer; a file may give a single one for all."""
        full = self._prefix + key
        value = self._metadata.get(full)
        if value is None:
            raise GgufError(f"the key {full} is missing")
        if not isinstance(value, tuple):
            return (_in_range(full, value, least, most),) * layers
        if len(value) != layers:
            raise GgufError(f"{full} has {len(value)} numbers for {layers} layers")
        return tuple(_in_range(full, number, 0, most) for number in value)

    def positive(self, key: str, *, below: float = math.inf, required: bool = False) -> None:
        value = self._metadata.get(self._prefix + key)
        if value is None and not required:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < below:
            raise GgufError(
                f"{self._prefix}{key} is {_shown(value)}; it must be a finite number above 0"
            )


def _check_heads(numbers: _Numbers, layers: int, width: int) -> None:
    heads = numbers.per_layer("attention.head_count", layers, 1, HEADS_MAX)
    shared = numbers.per_layer("attention.head_count_kv", layers, 1, HEADS_MAX)
    for layer, (count, count_kv) in enumerate(zip(heads, shared, strict=True)):
        if count_kv and count % count_kv:  # a layer without attention has none
            raise GgufError(
                f"layer {layer} has {count} attention heads on {count_kv} key-value heads,"
                " which do not divide them"
            )
    if not max(heads):
        raise GgufError("none of its layers has attention heads")
    key_length = numbers.optional("attention.key_length", 1, WIDTH_MAX)
    numbers.optional("attention.value_length", 1, WIDTH_MAX)
    if key_length is None:
        if width % max(heads):
            raise GgufError(
                f"its width of {width} cannot be divided among {max(heads)} attention heads"
            )
        key_length = width // max(heads)
    rotated = numbers.optional("rope.dimension_count", 1, WIDTH_MAX)
    if rotated is not None and (rotated > key_length or rotated % 2):
        raise GgufError(f"it rotates {rotated} of {key_length} values in each attention head")


def _check_experts(numbers: _Numbers, layers: int) -> None:
    experts = numbers.optional("expert_count", 0, EXPERTS_MAX) or 0
    used = numbers.optional("expert_used_count", 0, EXPERTS_MAX) or 0
    if used > experts or (experts and not used):
        raise GgufError(f"it uses {used} of {experts} experts")
    numbers.optional("expert_feed_forward_length", 1, WIDTH_MAX)
    if not experts:
        numbers.per_layer("feed_forward_length", layers, 1, WIDTH_MAX)


def _check_layers(tensors: Sequence[Tensor], layers: int, optional_at_end: int) -> None:
    """Every layer has tensors and every tensor a layer. Layers that predict further tokens may be left out."""
    found = {int(match[1]) for tensor in tensors if (match := _LAYER.match(tensor.name))}
    wanted = set(range(layers - optional_at_end))
    if missing := wanted - found:
        raise GgufError(f"it claims {layers} layers, but has no tensors of layer {min(missing)}")
    if extra := found - set(range(layers)):
        raise GgufError(f"it claims {layers} layers, but has tensors of layer {max(extra)}")


def _check_types(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        vector = len(tensor.shape) == 1 or "ssm_conv1d" in tensor.name
        if tensor.type in NO_WEIGHT_TYPES or (vector and tensor.type != VECTOR_TYPE):
            raise GgufError(
                f"the tensor {_shown(tensor.name)} has the type {tensor.type}, which does not fit it"
            )


def _check_vocabulary(metadata: Mapping[str, Value]) -> int:
    """The number of tokens."""
    model = metadata.get("tokenizer.ggml.model")
    if model != TOKENIZER_MODEL:
        raise GgufError(
            f"its tokenizer is of the kind {_shown(model)}; Qwen's is {TOKENIZER_MODEL}"
        )
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    _strings(metadata, "tokenizer.ggml.merges")
    rows = len(tokens)
    if not 1 <= rows <= TOKENS_MAX:
        raise GgufError(f"it has {rows} tokens; 1 to {TOKENS_MAX} are allowed")
    if len(set(tokens)) != rows:
        raise GgufError("two of its tokens are the same")
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, tuple) or len(types) != rows:
        raise GgufError(f"tokenizer.ggml.token_type has no number for each of its {rows} tokens")
    if not set(types) <= TOKEN_TYPES:
        raise GgufError("tokenizer.ggml.token_type has a number that is no token type")
    for key, value in metadata.items():
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            _in_range(ascii(key[:80])[1:-1], value, 0, rows - 1)
    template = metadata.get("tokenizer.chat_template", "")
    if not isinstance(template, str):
        raise GgufError("tokenizer.chat_template is not a text")
    return rows


def _strings(metadata: Mapping[str, Value], key: str) -> tuple[str, ...]:
    value = metadata.get(key)
    if not isinstance(value, tuple) or (value and not isinstance(value[0], str)):
        raise GgufError(f"{key} is not a list of texts")
    return value  # type: ignore[return-value]


def _check_embedding(tensors: Sequence[Tensor], width: int, rows: int) -> None:
    for tensor in tensors:
        if tensor.name == "token_embd.weight":
            if tensor.shape != (width, rows):
                raise GgufError(
                    f"token_embd.weight has the shape {list(tensor.shape)},"
                    f" but {rows} tokens of width {width} are {[width, rows]}"
                )
            return
    raise GgufError("the tensor token_embd.weight is missing")


def _in_range(key: str, value: Value, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise GgufError(
            f"{key} is {_shown(value)}; a whole number from {least} to {most} is allowed"
        )
    return value


def _shown(value: Value) -> str:
    """A value out of a file that nobody trusts: short and printable."""
    return ascii(value if not isinstance(value, str | tuple) else value[:20])[:80]
