"""The parts of a catalogue row: what a model can do, what its defaults are, and on what terms it is offered."""

from typing import Literal

from msgspec import Struct

from ownstudio.core.request import Sampling

Region = Literal["local", "singapore", "virginia", "beijing"]
REGIONS: tuple[Region, ...] = ("local", "singapore", "virginia", "beijing")

ThinkingMode = Literal["none", "hybrid", "always"]


class Features(Struct, frozen=True):
    """`json` is structured output; a model that can think has it only while it does not.

    `json_word` is the rule that whoever asks for a JSON object without a schema says the word in a message.
    """

    tools: bool = True
    partial: bool = True
    json: bool = True
    json_word: bool = True


class Thinking(Struct, frozen=True):
    """Whether and how a model thinks before it answers.

    `on` says what a request gets that does not choose; it always holds for mode `always`. `stream_only`
    models think only in a stream. `prompt_switch` models heed `/think` and `/no_think` in the text.
    `defaults` take the place of the model's own while it thinks.
    """

    mode: ThinkingMode = "none"
    on: bool = False
    stream_only: bool = False
    prompt_switch: bool = False
    defaults: Sampling = Sampling()


class NativeDefaults(Struct, frozen=True):
    """What the native dialect assumes. The `_only` flags say that the other value is not to be had."""

    result_format: Literal["text", "message"] = "text"
    incremental_output: bool = False
    message_only: bool = False
    incremental_only: bool = False


class CachePercents(Struct, frozen=True):
    """The price of cached input in percent of the price of input; None where the cache is not offered.

    `implicit_hit` is for a prefix found unasked, `explicit_hit` and `creation` for a marked block.
    """

    implicit_hit: int | None = None
    explicit_hit: int | None = None
    creation: int | None = None


class PriceTier(Struct, frozen=True):
    """Prices for requests of at most `upto` input tokens; None is as many as the model takes.

    Prices are integers: nano-units of the offer's currency per million tokens, so that 0.029 dollars
    per million tokens is 29,000,000. `thinking_output` is the price of output while the model thinks.
    """

    upto: int | None
    input: int
    output: int
    thinking_output: int


class Offer(Struct, frozen=True):
    """The terms in one region. Requests and tokens are per minute; None and no tiers: not published.

    One tier holds for all tokens of a request, chosen by its input tokens. A request above the last
    tier's `upto` has no published price.
    """

    region: Region
    currency: str = "USD"
    tiers: tuple[PriceTier, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    free_tokens: int = 0
    free_days: int = 0
