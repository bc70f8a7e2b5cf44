"""Reads the catalogue's data into entries: everything published about a name, whoever serves it.

Data that contradicts itself is refused as a ValueError that names the row, so that a wrong figure is
found when the program starts and not on a bill.
"""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from ownstudio.catalog.rows import (
    CatalogTables,
    GroupRow,
    ModelRow,
    ThinkingRow,
    Window,
    price_tiers,
)
from ownstudio.catalog.terms import (
    CachePercents,
    Features,
    NativeDefaults,
    Offer,
    PriceTier,
    Region,
    Thinking,
)
from ownstudio.core.request import Sampling

PACKAGED = Path(__file__).with_name("catalog.toml")

_GROUP_FIELDS = frozenset(GroupRow.__struct_fields__)

_T = TypeVar("_T")


class Entry(Struct, frozen=True, kw_only=True):
    """What is published about one name; `sources` says where. Lengths are None where nothing is.

    `thinking_window` holds while the model thinks, `thinking_budget` bounds its thoughts.
    """

    name: str
    group: str
    family: str
    sources: tuple[str, ...]
    alias_of: str | None
    window: Window
    thinking_window: Window
    thinking_budget: int | None
    features: Features
    thinking: Thinking
    n_max: int
    completions: bool
    defaults: Sampling
    native: NativeDefaults
    cache: CachePercents | None
    offers: tuple[Offer, ...]


def read_entries() -> dict[str, Entry]:
    """The entries of the catalogue that comes with this package, by name, in the order of the file."""
    return parse_entries(PACKAGED.read_text(encoding="utf-8"))


def parse_entries(text: str) -> dict[str, Entry]:
    """Entries by name. Raises ValueError, naming the row, for data that is not a valid catalogue."""
    try:
        tables = msgspec.convert(tomllib.loads(text, parse_float=Decimal), CatalogTables)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"the catalogue is not valid: {error}") from error
    profiles = _Profiles(tables)
    entries: dict[str, Entry] = {}
    for position, table in enumerate(tables.group, start=1):
        for entry in _group_entries(table, position, profiles):
            if entry.name in entries:
                raise ValueError(f"catalogue row {entry.name!r}: the name is taken")
            entries[entry.name] = entry
    return entries


class _Profiles:
    """The tables that rows refer to by name."""

    def __init__(self, tables: CatalogTables) -> None:
        self.sources = tables.sources
        self.free_quota = tables.free_quota
        self.sampling = {name: row.sampling() for name, row in tables.sampling.items()}
        self.native = {
            name: NativeDefaults(
                row.result_format, row.incremental_output, row.message_only, row.incremental_only
            )
            for name, row in tables.native.items()
        }
        self.cache = {
            name: CachePercents(row.implicit_hit, row.explicit_hit, row.creation)
            for name, row in tables.cache.items()
        }


def _named(profiles: dict[str, _T], name: str, what: str) -> _T:
    try:
        return profiles[name]
    except KeyError:
        raise ValueError(f"there is no {what} {name!r}") from None


def _group_entries(table: dict[str, object], position: int, profiles: _Profiles) -> list[Entry]:
    try:
        group = msgspec.convert({key: table[key] for key in _GROUP_FIELDS & table.keys()}, GroupRow)
        sources = tuple(_named(profiles.sources, name, "source") for name in group.source)
        if not sources:
            raise ValueError("a group names its source")
    except ValueError as error:
        raise ValueError(f"catalogue group {table.get('name', position)!r}: {error}") from error
    inherited = {key: value for key, value in table.items() if key not in _GROUP_FIELDS}
    entries = []
    for name, own in group.models.items():
        try:
            row = msgspec.convert(inherited | own, ModelRow)
            if row.alias_of is not None and row.alias_of not in group.models:
                raise ValueError(f"it is an alias of {row.alias_of!r}, which its group lacks")
            entries.append(_entry(name, row, group.name, sources, profiles))
        except ValueError as error:
            raise ValueError(f"catalogue row {name!r}: {error}") from error
    return entries


def _entry(
    name: str, row: ModelRow, group: str, sources: tuple[str, ...], profiles: _Profiles
) -> Entry:
    thinks = row.thinking.mode != "none"
    return Entry(
        name=name,
        group=group,
        family=row.family,
        sources=sources,
        alias_of=row.alias_of,
        window=row.window,
        thinking_window=row.thinking.window(row.window) if thinks else Window(),
        thinking_budget=row.thinking.budget,
        features=Features(*(feature in row.features for feature in Features.__struct_fields__)),
        thinking=_thinking(row.thinking, profiles) if thinks else Thinking(),
        n_max=row.n_max,
        completions=row.completions,
        defaults=_named(profiles.sampling, row.sampling, "sampling"),
        native=_named(profiles.native, row.native, "native"),
        cache=None if row.cache is None else _named(profiles.cache, row.cache, "cache"),
        offers=_offers(row, profiles),
    )


def _thinking(row: ThinkingRow, profiles: _Profiles) -> Thinking:
    return Thinking(
        mode=row.mode,
        on=row.on or row.mode == "always",
        stream_only=row.stream_only,
        prompt_switch=row.prompt_switch,
        defaults=_named(profiles.sampling, row.sampling, "sampling"),
    )


def _offers(row: ModelRow, profiles: _Profiles) -> tuple[Offer, ...]:
    """The vendor's regions, and `local`, where every model may be served and the operator sets the terms."""
    tiers: dict[Region, tuple[PriceTier, ...]] = {
        region: price_tiers(prices, row.window.input) for region, prices in row.prices.items()
    }
    for region, other in row.same_prices.items():
        if region in tiers:
            raise ValueError(f"`prices` and `same_prices` both name {region}")
        tiers[region] = tiers.get(other, ())
    offers = [Offer("local")]
    for region in row.regions:
        requests, tokens = row.limits.get(region, (None, None))
        free = profiles.free_quota.get(region)
        offers.append(
            Offer(
                region=region,
                tiers=tiers.get(region, ()),
                requests_per_minute=requests,
                tokens_per_minute=tokens,
                free_tokens=0 if free is None else free.tokens,
                free_days=0 if free is None else free.days,
            )
        )
    return tuple(offers)
