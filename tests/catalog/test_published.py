"""The packaged catalogue has every name of the vendor's pages, with the figures that the sources give."""

import pytest

from ownstudio.catalog import Entry, PriceTier, read_entries

CHAT_2025_11 = """
qwen-max qwen-max-latest qwen-max-2025-01-25 qwen-plus qwen-plus-latest qwen-plus-2025-04-28 qwen-plus-2025-01-25
qwen-turbo qwen-turbo-latest qwen-turbo-2025-04-28 qwen-turbo-2024-11-01 qwq-32b qwen3-235b-a22b qwen3-32b
qwen3-30b-a3b qwen3-14b qwen3-8b qwen3-4b qwen3-1.7b qwen3-0.6b qwen2.5-14b-instruct-1m qwen2.5-7b-instruct-1m
qwen2.5-72b-instruct qwen2.5-32b-instruct qwen2.5-14b-instruct qwen2.5-7b-instruct qwen2-72b-instruct
qwen2-7b-instruct qwen1.5-110b-chat qwen1.5-72b-chat qwen1.5-32b-chat qwen1.5-14b-chat qwen1.5-7b-chat
"""
CHAT_2026_OPEN = """
qwen3-next-80b-a3b-thinking qwen3-next-80b-a3b-instruct qwen3-235b-a22b-thinking-2507
qwen3-235b-a22b-instruct-2507 qwen3-30b-a3b-thinking-2507 qwen3-30b-a3b-instruct-2507 qwen3-235b-a22b qwen3-32b
qwen3-30b-a3b qwen3-14b qwen3-8b
"""
CHAT_2026_GLOBAL = """
qwen3-max qwen3-max-preview qwen3-max-2025-09-23 qwen-plus qwen-plus-latest qwen-plus-2025-01-25 qwen-flash
qwen-flash-2025-07-28
"""
CHAT_2026_US = "qwen-plus-us qwen-plus-2025-12-01-us qwen-flash-us qwen-flash-2025-07-28-us"
CHAT_2026_BOTH = """
qwen-max qwen-max-latest qwen3.5-plus qwen3.5-plus-2026-02-15 qwen-turbo qwen-turbo-latest qwen3-coder-plus
qwen3-coder-plus-2025-07-22 qwen3-coder-flash qwen3-coder-flash-2025-07-28 qwq-plus qwen3.5-397b-a17b qwen3-4b
qwen3-1.7b qwen3-0.6b qwen2.5-14b-instruct-1m qwen2.5-7b-instruct-1m qwen2.5-72b-instruct qwen2.5-32b-instruct
qwen2.5-14b-instruct qwen2.5-7b-instruct
"""
CHAT_2026_INTERNATIONAL = f"""
{CHAT_2026_GLOBAL} {CHAT_2026_OPEN} {CHAT_2026_BOTH} qwen-max-2025-01-25 qwen-turbo-2024-11-01
"""
CHAT_2026_MAINLAND = f"""
{CHAT_2026_GLOBAL} {CHAT_2026_OPEN} {CHAT_2026_BOTH} qwen-max-2024-09-19 qwen-plus-2024-12-20
qwen-turbo-2025-04-28 qwen-coder-plus qwen-coder-plus-latest qwen-coder-plus-2024-11-06 qwen-coder-turbo
qwen-coder-turbo-latest qwen-coder-turbo-2024-09-19 qwq-plus-latest qwq-plus-2025-03-05 qwen-math-plus
qwen-math-plus-latest qwen-math-plus-2024-08-16 qwen-math-turbo qwen-math-turbo-latest
qwen-math-turbo-2024-09-19 qwen2.5-3b-instruct qwen2.5-1.5b-instruct qwen2.5-0.5b-instruct
"""
COMPLETIONS = """
qwen2.5-coder-0.5b-instruct qwen2.5-coder-1.5b-instruct qwen2.5-coder-3b-instruct qwen2.5-coder-7b-instruct
qwen2.5-coder-14b-instruct qwen2.5-coder-32b-instruct qwen-coder-turbo-0919 qwen-coder-turbo-latest
qwen-coder-turbo
"""


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    return read_entries()


def regions(entry: Entry) -> set[str]:
    return {offer.region for offer in entry.offers}


def tiers(entry: Entry, region: str) -> tuple[PriceTier, ...]:
    return next(offer.tiers for offer in entry.offers if offer.region == region)


def limits(entry: Entry, region: str) -> tuple[int | None, int | None]:
    offer = next(offer for offer in entry.offers if offer.region == region)
    return offer.requests_per_minute, offer.tokens_per_minute


def dollars(tier: PriceTier) -> tuple[float, float, float]:
    """For reading expectations only: the code itself never makes a price a float."""
    return tier.input / 10**9, tier.output / 10**9, tier.thinking_output / 10**9


@pytest.mark.parametrize("name", CHAT_2025_11.split())
def test_the_older_chat_page_is_covered(entries: dict[str, Entry], name: str) -> None:
    assert name in entries


@pytest.mark.parametrize(
    ("region", "names"),
    [
        ("virginia", f"{CHAT_2026_GLOBAL} {CHAT_2026_OPEN} {CHAT_2026_US}"),
        ("singapore", CHAT_2026_INTERNATIONAL),
        ("beijing", CHAT_2026_MAINLAND),
        ("local", CHAT_2025_11),
        ("local", CHAT_2026_MAINLAND),
    ],
)
def test_models_are_offered_in_the_regions_of_the_newer_chat_page(
    entries: dict[str, Entry], region: str, names: str
) -> None:
    assert [name for name in names.split() if region not in regions(entries[name])] == []


def test_virginia_offers_nothing_else(entries: dict[str, Entry]) -> None:
    offered = {name for name, entry in entries.items() if "virginia" in regions(entry)}
    later_snapshots = {"qwen3-max-2026-01-23", "qwen-plus-2025-04-28"}
    named = f"{CHAT_2026_GLOBAL} {CHAT_2026_OPEN} {CHAT_2026_US}".split()
    assert offered == {*named, *later_snapshots}


def test_completions_are_served_by_the_models_of_that_page(entries: dict[str, Entry]) -> None:
    serving = {name for name, entry in entries.items() if entry.completions}
    # The page has this snapshot under its short name.
    assert serving == {*COMPLETIONS.split(), "qwen-coder-turbo-2024-09-19"}
    assert entries["qwen-coder-turbo-0919"].alias_of == "qwen-coder-turbo-2024-09-19"


def test_qwen3_coder_plus(entries: dict[str, Entry]) -> None:
    model = entries["qwen3-coder-plus"]
    window = model.window
    assert (window.context, window.input, window.output) == (1_000_000, 997_952, 65_536)
    assert model.family == "qwen3-coder"
    assert model.thinking.mode == "none"
    assert [(t.upto, *dollars(t)[:2]) for t in tiers(model, "singapore")] == [
        (32_000, 1, 5),
        (128_000, 1.8, 9),
        (256_000, 3, 15),
        (None, 6, 60),
    ]
    assert tiers(model, "beijing")[0].input == 574_000_000
    assert tiers(model, "beijing")[3].output == 28_671_000_000
    assert limits(model, "singapore") == (2_400, 2_000_000)
    assert limits(model, "beijing") == (5_000, 5_000_000)
    assert model.cache is not None
    assert (model.cache.implicit_hit, model.cache.explicit_hit, model.cache.creation) == (
        20,
        10,
        125,
    )
    assert (model.defaults.temperature, model.defaults.top_p, model.defaults.top_k) == (
        0.7,
        0.8,
        20,
    )
    assert model.defaults.presence_penalty == 0


def test_qwen_plus(entries: dict[str, Entry]) -> None:
    model = entries["qwen-plus"]
    assert (model.window.input, model.thinking_window.input) == (997_952, 995_904)
    assert (model.window.output, model.thinking_budget) == (32_768, 81_920)
    assert (model.thinking.mode, model.thinking.on, model.n_max) == ("hybrid", False, 4)
    assert [(t.upto, *dollars(t)) for t in tiers(model, "beijing")] == [
        (128_000, 0.115, 0.287, 1.147),
        (256_000, 0.345, 2.868, 3.441),
        (None, 0.689, 6.881, 9.175),
    ]
    assert tiers(model, "virginia") == tiers(model, "beijing")
    assert limits(model, "beijing") == (30_000, 5_000_000)
    assert limits(model, "singapore") == (None, None)
    assert (model.native.result_format, model.native.incremental_output) == ("text", False)


def test_the_first_open_source_qwen3_thinks_by_default_and_only_in_streams(
    entries: dict[str, Entry],
) -> None:
    sizes = ("235b-a22b", "32b", "30b-a3b", "14b", "8b", "4b", "1.7b", "0.6b")
    for model in (entries[f"qwen3-{size}"] for size in sizes):
        thinking = model.thinking
        assert (thinking.mode, thinking.on, thinking.stream_only) == ("hybrid", True, True)
        assert thinking.prompt_switch
        assert model.native.incremental_only
        assert model.defaults.presence_penalty == 1.5
        assert thinking.defaults.temperature == 0.6
    assert entries["qwen3-8b"].thinking.defaults.presence_penalty == 0.5
    assert entries["qwen3-8b"].thinking_window.input == 98_304
    assert dollars(tiers(entries["qwen3-8b"], "singapore")[0]) == (0.18, 0.7, 2.1)


def test_the_models_that_always_think(entries: dict[str, Entry]) -> None:
    always = {name for name, entry in entries.items() if entry.thinking.mode == "always"}
    assert always == {
        "qwq-plus",
        "qwq-plus-latest",
        "qwq-plus-2025-03-05",
        "qwq-32b",
        "qwen3-next-80b-a3b-thinking",
        "qwen3-235b-a22b-thinking-2507",
        "qwen3-30b-a3b-thinking-2507",
    }
    for name in always:
        entry = entries[name]
        assert entry.thinking.on
        assert not entry.features.json
        assert not entry.features.partial


def test_native_defaults_that_differ(entries: dict[str, Entry]) -> None:
    assert entries["qwen3-next-80b-a3b-instruct"].native.result_format == "text"
    assert entries["qwen3-next-80b-a3b-thinking"].native.result_format == "message"
    largest = entries["qwen3-max"].native
    assert (largest.result_format, largest.message_only) == ("message", True)
    assert (largest.incremental_output, largest.incremental_only) == (True, False)
    assert entries["qwen2.5-72b-instruct"].native.incremental_output is False


def test_an_alias_inherits_all_but_limits_and_cache(entries: dict[str, Entry]) -> None:
    for entry in entries.values():
        if entry.alias_of is None:
            continue
        original = entries[entry.alias_of]
        shared = ("family", "group", "window", "thinking_window", "thinking", "thinking_budget")
        shared += ("features", "defaults", "native", "n_max", "completions", "sources")
        for field in shared:
            assert getattr(entry, field) == getattr(original, field), (entry.name, field)
        for region in regions(entry):
            assert tiers(entry, region) == tiers(original, region), (entry.name, region)
        assert entry.cache is None
    assert limits(entries["qwen-turbo-latest"], "singapore") == (None, None)


def test_a_snapshot_of_another_generation_does_not_inherit_figures(
    entries: dict[str, Entry],
) -> None:
    old = entries["qwen-plus-2025-01-25"]
    assert (old.family, old.thinking.mode, old.window.context) == ("qwen2.5", "none", None)
    assert all(offer.tiers == () for offer in old.offers)


def test_free_quota_is_singapores_alone(entries: dict[str, Entry]) -> None:
    for entry in entries.values():
        for offer in entry.offers:
            expected = (1_000_000, 90) if offer.region == "singapore" else (0, 0)
            assert (offer.free_tokens, offer.free_days) == expected


def test_a_free_model_is_priced_at_zero_and_an_unknown_price_is_absent(
    entries: dict[str, Entry],
) -> None:
    assert dollars(tiers(entries["qwen2.5-coder-3b-instruct"], "beijing")[0])[:2] == (0, 0)
    assert tiers(entries["qwen2.5-3b-instruct"], "beijing") == ()
    # Above its last bound, nothing is published.
    assert tiers(entries["qwen3.5-27b"], "beijing")[-1].upto == 128_000
    assert all(tiers(entry, "local") == () for entry in entries.values())
