"""The shapes of `catalog.toml`: one class per table, each checking what it can see of itself.

A class refuses unknown fields and raises ValueError; `reading` adds the name of the row.
"""

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ownstudio.catalog.terms import PriceTier, Region, ThinkingMode
from ownstudio.core.money import NANOS
from ownstudio.core.request import Sampling

Family = Literal[
    "qwen1.5",
    "qwen2",
    "qwen2.5",
    "qwen2.5-coder",
    "qwen-math",
    "qwq",
    "qwen3",
    "qwen3-instruct",
    "qwen3-thinking",
    "qwen3-coder",
    "qwen3-next",
    "qwen3.5",
]
Feature = Literal["tools", "partial", "json", "json_word"]

PRICE_MAX = 10**6

Count = Annotated[int, Meta(ge=1, le=2**40)]
Share = Annotated[int, Meta(ge=0, le=1000)]


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """Published lengths in tokens; None where nothing is published."""

    context: Count | None = None
    input: Count | None = None
    output: Count | None = None

    def __post_init__(self) -> None:
        for name, length in (("input", self.input), ("output", self.output)):
            if self.context is not None and length is not None and length > self.context:
                raise ValueError(f"the longest {name} exceeds the context of {self.context}")


class ThinkingRow(Struct, frozen=True, forbid_unknown_fields=True):
    """How a model thinks. A length that is None is that of the model's `Window`."""

    mode: ThinkingMode = "none"
    on: bool = False
    budget: Count | None = None
    context: Count | None = None
    input: Count | None = None
    output: Count | None = None
    stream_only: bool = False
    prompt_switch: bool = False
    sampling: str = "thinking"

    def __post_init__(self) -> None:
        lengths = (self.budget, self.context, self.input, self.output)
        settings = (self.on, self.stream_only, self.prompt_switch, *lengths)
        if self.mode == "none" and any(settings):
            raise ValueError("a model that does not think has no settings of thinking")
        if self.mode == "always" and self.on:
            raise ValueError("`on` is for hybrid models")

    def window(self, window: Window) -> Window:
        """The lengths that hold while the model thinks. Raises ValueError where they disagree."""
        context = self.context or window.context
        if self.budget is not None and context is not None and self.budget > context:
            raise ValueError(f"the thinking budget exceeds the context of {context}")
        return Window(context, self.input or window.input, self.output or window.output)


class PriceRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One tier, in units of a currency per million tokens, read as exact decimals."""

    input: Decimal
    output: Decimal
    thinking: Decimal | None = None
    upto: Count | None = None

    def tier(self) -> PriceTier:
        """Raises ValueError for a price that is no whole, non-negative number of nano-units."""
        output = _nanos(self.output)
        return PriceTier(
            upto=self.upto,
            input=_nanos(self.input),
            output=output,
            thinking_output=output if self.thinking is None else _nanos(self.thinking),
        )


def _nanos(price: Decimal) -> int:
    if not price.is_finite() or not 0 <= price <= PRICE_MAX:
        raise ValueError(f"a price must lie between 0 and {PRICE_MAX}, not {price}")
    # Not by multiplying decimals, which rounds beyond 28 digits.
    numerator, denominator = price.as_integer_ratio()
    nanos, rest = divmod(numerator * NANOS, denominator)
    if rest:
        raise ValueError(f"the price {price} has more than nine decimal places")
    return nanos


def price_tiers(prices: list[PriceRow], input_max: int | None) -> tuple[PriceTier, ...]:
    """Raises ValueError unless the bounds ascend, below the longest input, and only the last is open."""
    tiers = tuple(price.tier() for price in prices)
    for lower, upper in pairwise(tiers):
        if lower.upto is None or (upper.upto is not None and upper.upto <= lower.upto):
            raise ValueError("the bounds of the price tiers do not ascend")
        if input_max is not None and lower.upto >= input_max:
            raise ValueError(f"a price tier begins above the longest input of {input_max}")
    return tiers


class ModelRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One model: the fields of its group with its own laid over them."""

    family: Family
    regions: tuple[Region, ...]
    window: Window = Window()
    features: tuple[Feature, ...] = ("tools", "partial", "json", "json_word")
    completions: bool = False
    n_max: Annotated[int, Meta(ge=1, le=4)] = 1
    sampling: str = "plain"
    native: str = "commercial"
    thinking: ThinkingRow = ThinkingRow()
    cache: str | None = None
    limits: dict[Region, tuple[Count, Count]] = {}
    prices: dict[Region, list[PriceRow]] = {}
    same_prices: dict[Region, Region] = {}
    alias_of: str | None = None

    def __post_init__(self) -> None:
        if not self.regions or "local" in self.regions:
            raise ValueError("`regions` names one or more of the vendor's regions")
        if len(set(self.regions)) < len(self.regions):
            raise ValueError("`regions` names a region twice")
        for field in ("limits", "prices", "same_prices"):
            for region in getattr(self, field):
                if region not in self.regions:
                    raise ValueError(f"`{field}` names {region}, which `regions` does not")
        if "json_word" in self.features and "json" not in self.features:
            raise ValueError("`json_word` is a rule of `json`, which `features` lacks")
        if self.thinking.mode == "none" and any(
            price.thinking is not None for prices in self.prices.values() for price in prices
        ):
            raise ValueError("a model that does not think has no price of thinking")


class GroupRow(Struct, frozen=True, forbid_unknown_fields=True):
    """What heads a group; the fields that its models inherit are checked with each of them."""

    name: str
    source: tuple[str, ...]
    models: Annotated[dict[str, dict[str, object]], Meta(min_length=1)]


class FreeQuotaRow(Struct, frozen=True, forbid_unknown_fields=True):
    """`tokens` free in the first `days` of a model's use."""

    tokens: Count
    days: Count
    source: str


class CacheRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Percent of the price of input."""

    implicit_hit: Share | None = None
    explicit_hit: Share | None = None
    creation: Share | None = None


class SamplingRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults within the ranges that a request would be held to."""

    temperature: Annotated[float, Meta(ge=0, lt=2)]
    top_p: Annotated[float, Meta(gt=0, le=1)]
    top_k: Annotated[int, Meta(ge=0, le=100)] = 0
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0

    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
        )


class NativeRow(Struct, frozen=True, forbid_unknown_fields=True):
    """The native dialect's defaults; see `NativeDefaults`."""

    result_format: Literal["text", "message"]
    incremental_output: bool
    message_only: bool = False
    incremental_only: bool = False


class CatalogTables(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file, but for the groups, which are read one by one so that an error can name its row."""

    sources: dict[str, str]
    free_quota: dict[Region, FreeQuotaRow]
    sampling: dict[str, SamplingRow]
    native: dict[str, NativeRow]
    cache: dict[str, CacheRow]
    group: list[dict[str, object]]
