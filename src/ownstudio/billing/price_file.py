"""An operator's prices as a TOML file, in the shape of the catalogue's; amounts are per million tokens.

An amount is a number or decimal text, and either is read exactly, digit by digit. `ownstudio price import --help` shows
a whole file.
"""

import tomllib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ownstudio.billing.prices import NO_DISCOUNT, PERCENT_MAX, NewPrice, Terms
from ownstudio.catalog import PriceTier
from ownstudio.core.money import AMOUNT_MAX, NANOS, parse_amount, plain_amount

_Amount = int | str
_Percent = Annotated[int, Meta(ge=0, le=PERCENT_MAX)]


class _TierRow(Struct, frozen=True, forbid_unknown_fields=True):
    input: _Amount
    output: _Amount
    thinking: _Amount | None = None
    upto: Annotated[int, Meta(ge=1, le=2**40)] | None = None

    def tier(self) -> PriceTier:
        output = _nanos(self.output)
        return PriceTier(
            upto=self.upto,
            input=_nanos(self.input),
            output=output,
            thinking_output=output if self.thinking is None else _nanos(self.thinking),
        )


class _CacheRow(Struct, frozen=True, forbid_unknown_fields=True):
    implicit_hit: _Percent = NO_DISCOUNT
    explicit_hit: _Percent = NO_DISCOUNT
    creation: _Percent = NO_DISCOUNT


class _PriceRow(Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    region: str
    tiers: tuple[_TierRow, ...]
    cache: _CacheRow = _CacheRow()

    def terms(self) -> Terms:
        return Terms(
            tuple(row.tier() for row in self.tiers),
            implicit_hit=self.cache.implicit_hit,
            explicit_hit=self.cache.explicit_hit,
            creation=self.cache.creation,
        )


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    price: list[dict[str, Any]]
    currency: str | None = None


def parse_prices(text: str, currency: str) -> list[NewPrice]:
    """The prices of a file, in `currency` where it names none. Raises ValueError, naming the row at fault."""
    try:
        file = msgspec.convert(tomllib.loads(text, parse_float=_number), _File)
    except ValueError as error:
        raise ValueError(f"the file holds no prices: {error}") from None
    prices = []
    for position, table in enumerate(file.price, start=1):
        try:
            row = msgspec.convert(table, _PriceRow)
            prices.append(NewPrice(row.model, row.region, file.currency or currency, row.terms()))
        except ValueError as error:
            where = f"{table.get('model', '?')!r} in {table.get('region', '?')!r}"
            raise ValueError(f"price {position} ({where}): {error}") from None
    return prices


def describe_terms(terms: Terms) -> dict[str, Any]:
    """`tiers` and `cache` as a file would give them, with amounts as decimal text."""
    return {
        "tiers": [
            ({} if tier.upto is None else {"upto": tier.upto})
            | {
                "input": plain_amount(tier.input),
                "output": plain_amount(tier.output),
                "thinking": plain_amount(tier.thinking_output),
            }
            for tier in terms.tiers
        ],
        "cache": {
            "implicit_hit": terms.implicit_hit,
            "explicit_hit": terms.explicit_hit,
            "creation": terms.creation,
        },
    }


def _number(text: str) -> str:
    """A TOML number with a decimal point, as it is written."""
    return text.replace("_", "")


def _nanos(amount: _Amount) -> int:
    if isinstance(amount, str):
        return parse_amount(amount)
    if not 0 <= amount <= AMOUNT_MAX // NANOS:
        raise ValueError(f"a price is {amount}: it may be neither negative nor that high")
    return amount * NANOS
