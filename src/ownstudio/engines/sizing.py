"""How much context and how many slots an engine gets when nobody says: what the model allows and the machine holds.

A slot's KV cache is allocated when the engine starts, so the sum of all slots has to fit beside the weights.
"""

from msgspec import Struct

# A quarter of the memory for KV caches leaves room for weights, prompts and everybody else.
KV_SHARE_OF_MEMORY = 0.25
# More context than this is rarely used and always paid for; a setting raises it.
CONTEXT_MAX_UNASKED = 32_768
SLOTS_UNASKED = 16
SLOTS_UNASKED_LARGE = 4
LARGE_WEIGHTS_BYTES = 1 << 30
CONTEXT_STEP = 256


class Sizing(Struct, frozen=True):
    """`context` is tokens per slot, a multiple of 256 where the model allows."""

    context: int
    slots: int


def size(
    *,
    context_asked: int,
    slots_asked: int,
    model_context: int,
    kv_bytes_per_token: int,
    weights_bytes: int,
    memory_bytes: int,
) -> Sizing:
    """Fill in what was asked as 0. Raises ValueError, with a sentence, for a context beyond the model's."""
    if context_asked > model_context:
        raise ValueError(
            f"context = {context_asked} is more than the {model_context} tokens of the model"
        )
    slots = slots_asked or (
        SLOTS_UNASKED_LARGE if weights_bytes >= LARGE_WEIGHTS_BYTES else SLOTS_UNASKED
    )
    if context_asked:
        return Sizing(context_asked, slots)
    budget = int(memory_bytes * KV_SHARE_OF_MEMORY)
    affordable = budget // (slots * max(1, kv_bytes_per_token))
    context = min(model_context, CONTEXT_MAX_UNASKED, max(CONTEXT_STEP, affordable))
    return Sizing(max(1, context // CONTEXT_STEP) * CONTEXT_STEP, slots)
