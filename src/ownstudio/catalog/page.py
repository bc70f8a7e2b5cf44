"""The page of models, made from the catalogue: `docs/models.md`."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from ownstudio.catalog.reading import Entry, read_entries
from ownstudio.catalog.terms import Offer, PriceTier
from ownstudio.core.money import show_amount

NOT_PUBLISHED = "not published"

_INTRODUCTION = """\
# Models

The names that Ownstudio knows, with what is published about each. This page is generated from
`src/ownstudio/catalog/catalog.toml`; do not edit it.

A name exists on your server when a deployment routes it. Its longest input and output are then the figures below
or one token less than the deployment's context, whichever is less. A deployment also answers to its own name, and to
any other name that you route to it; such names have every feature.

- A model ending in `-latest` and a dated snapshot inherit from the model they stand for, except where the sources
  tell them apart. Rate limits and cached prices are published for the names that carry them and are not inherited.
- "Not published" means that the sources named below give no figure. Where a length is not published, only the
  deployment's context bounds it.
- In the region `local` every model is to be had, without published prices, limits or free quota: these are yours
  to set.
"""


def models_page_markdown() -> str:
    """The whole page, ending in a newline."""
    entries = list(read_entries().values())
    parts = [
        _INTRODUCTION,
        _lengths(entries),
        _features(entries),
        _defaults(entries),
        _prices(entries),
        _limits(entries),
        _sources(entries),
    ]
    return "\n".join(parts)


def _section(title: str, note: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"## {title}", "", note, ""] if note else [f"## {title}", ""]
    lines += [_line(header), _line(["---"] * len(header)), *(_line(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _count(value: int | None) -> str:
    return NOT_PUBLISHED if value is None else f"{value:,}"


def _code(name: str) -> str:
    return f"`{name}`"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _lengths(entries: list[Entry]) -> str:
    note = "In tokens. Where a model thinks, the second figure holds while it does."
    header = ("model", "alias of", "context", "longest input", "longest output", "longest thinking")
    return _section("Lengths", note, header, (_length_row(entry) for entry in entries))


def _length_row(entry: Entry) -> tuple[str, ...]:
    thinks = entry.thinking.mode != "none"
    now, thinking = entry.window, entry.thinking_window
    return (
        _code(entry.name),
        _code(entry.alias_of) if entry.alias_of else "",
        _pair(now.context, thinking.context, thinks),
        _pair(now.input, thinking.input, thinks),
        _pair(now.output, thinking.output, thinks),
        _count(entry.thinking_budget) if thinks else "–",
    )


def _pair(value: int | None, thinking: int | None, thinks: bool) -> str:
    if not thinks or thinking == value:
        return _count(value)
    return f"{_count(value)} / {_count(thinking)}"


def _features(entries: list[Entry]) -> str:
    note = (
        "`n` is how many answers one request may ask for; with tools it is always 1. A model that can think takes"
        " partial mode and JSON only while it does not think. `completions` is the endpoint that fills in the middle."
    )
    header = (
        "model",
        "family",
        "regions",
        "thinking",
        "tools",
        "partial",
        "json",
        "`n`",
        "completions",
    )
    rows = (
        (
            _code(entry.name),
            entry.family,
            ", ".join(offer.region for offer in entry.offers if offer.region != "local"),
            _thinking(entry),
            _yes(entry.features.tools),
            _yes(entry.features.partial),
            _yes(entry.features.json),
            str(entry.n_max),
            _yes(entry.completions),
        )
        for entry in entries
    )
    return _section("Features", note, header, rows)


def _thinking(entry: Entry) -> str:
    thinking = entry.thinking
    if thinking.mode == "none":
        return "no"
    words = [
        "always" if thinking.mode == "always" else f"{'on' if thinking.on else 'off'} by default"
    ]
    if thinking.stream_only:
        words.append("in streams only")
    if thinking.prompt_switch:
        words.append("`/think`, `/no_think`")
    return ", ".join(words)


def _defaults(entries: list[Entry]) -> str:
    note = (
        "Neighbours with the same defaults share a row. Of two figures, the second holds while the model"
        " thinks. A value marked *fixed* cannot be changed by a native request."
    )
    header = (
        "models",
        "`temperature`",
        "`top_p`",
        "`top_k`",
        "`presence_penalty`",
        "`repetition_penalty`",
        "`result_format`",
        "`incremental_output`",
    )
    rows = (
        (", ".join(_code(entry.name) for entry in alike), *row)
        for row, alike in groupby(entries, key=_default_row)
    )
    return _section("Default parameters", note, header, rows)


def _default_row(entry: Entry) -> tuple[str, ...]:
    plain, thinking, native = entry.defaults, entry.thinking.defaults, entry.native
    hybrid = entry.thinking.mode == "hybrid"
    pairs = (
        (plain.temperature, thinking.temperature),
        (plain.top_p, thinking.top_p),
        (plain.top_k, thinking.top_k),
        (plain.presence_penalty, thinking.presence_penalty),
        (plain.repetition_penalty, thinking.repetition_penalty),
    )
    return (
        *(f"{a:g} / {b:g}" if hybrid and a != b else f"{a:g}" for a, b in pairs),
        native.result_format + (" (fixed)" if native.message_only else ""),
        str(native.incremental_output).lower() + (" (fixed)" if native.incremental_only else ""),
    )


def _prices(entries: list[Entry]) -> str:
    note = (
        "Per million tokens. The number of input tokens of a request chooses one tier, which holds for all of its"
        " tokens. Cached input is priced in percent of the price of input: hits found unasked / hits of a marked block"
        " / making a marked block."
    )
    header = (
        "model",
        "region",
        "input tokens",
        "input",
        "output",
        "output while thinking",
        "cached input",
    )
    rows = [
        (_code(entry.name), offer.region, *_tier_row(entry, offer, tier, lower), _cache(entry))
        for entry in entries
        for offer in entry.offers
        if offer.region != "local"
        for lower, tier in _tiers_with_lower_bound(offer)
    ]
    return _section("Prices", note, header, rows)


def _tiers_with_lower_bound(offer: Offer) -> list[tuple[int, PriceTier | None]]:
    if not offer.tiers:
        return [(0, None)]
    lowers = [0, *(tier.upto or 0 for tier in offer.tiers[:-1])]
    return list(zip(lowers, offer.tiers, strict=True))


def _tier_row(entry: Entry, offer: Offer, tier: PriceTier | None, lower: int) -> tuple[str, ...]:
    if tier is None:
        return (
            "any",
            NOT_PUBLISHED,
            NOT_PUBLISHED,
            "–" if entry.thinking.mode == "none" else NOT_PUBLISHED,
        )
    above = f"above {lower:,}" if lower else "any"
    bounds = above if tier.upto is None else f"up to {tier.upto:,}"
    thinking = (
        "–" if entry.thinking.mode == "none" else _price(tier.thinking_output, offer.currency)
    )
    return (
        bounds,
        _price(tier.input, offer.currency),
        _price(tier.output, offer.currency),
        thinking,
    )


def _price(nanos: int, currency: str) -> str:
    return show_amount(nanos, currency) if nanos else "free"


def _cache(entry: Entry) -> str:
    cache = entry.cache
    if cache is None:
        return "–"
    percents = (cache.implicit_hit, cache.explicit_hit, cache.creation)
    return " / ".join("–" if percent is None else f"{percent} %" for percent in percents)


def _limits(entries: list[Entry]) -> str:
    note = (
        "Per account and model, over all keys, each also per second. A model offered in Singapore comes there with"
        f" {_free_quota(entries)} free of charge. Models without a row have no published limit."
    )
    header = ("model", "region", "requests a minute", "tokens a minute")
    rows = [
        (
            _code(entry.name),
            offer.region,
            _count(offer.requests_per_minute),
            _count(offer.tokens_per_minute),
        )
        for entry in entries
        for offer in entry.offers
        if offer.requests_per_minute is not None
    ]
    return _section("Rate limits and free quota", note, header, rows)


def _free_quota(entries: list[Entry]) -> str:
    quotas = {
        (offer.free_tokens, offer.free_days)
        for entry in entries
        for offer in entry.offers
        if offer.region == "singapore"
    }
    return " or ".join(f"{tokens:,} tokens for {days} days" for tokens, days in sorted(quotas))


def _sources(entries: list[Entry]) -> str:
    header = ("group", "sources")
    groups = {entry.group: entry.sources for entry in entries}
    note = "The vendor's pages, as archived at the dates given. Nothing was checked against the live service."
    rows = ((group, "; ".join(sources)) for group, sources in groups.items())
    return _section("Sources", note, header, rows)
