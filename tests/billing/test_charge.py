"""Goal: a charge is exact to half a nano-unit, never negative, never above what was held, and refuses nonsense."""

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ownstudio.billing.charge import charge, free_split, worst_charge
from ownstudio.billing.prices import PRICE_MAX, Terms
from ownstudio.catalog import PriceTier
from ownstudio.core.events import Usage

DOLLAR = 10**9
# The published prices of a model in Singapore.
CODER = Terms(
    (
        PriceTier(32_000, DOLLAR, 5 * DOLLAR, 7 * DOLLAR),
        PriceTier(128_000, 1_800_000_000, 9 * DOLLAR, 11 * DOLLAR),
        PriceTier(256_000, 3 * DOLLAR, 15 * DOLLAR, 17 * DOLLAR),
    ),
    implicit_hit=20,
    explicit_hit=10,
    creation=125,
)

prices = st.integers(0, 100 * DOLLAR) | st.integers(0, PRICE_MAX)
counts = st.integers(0, 40) | st.integers(0, 2_000_000)
percents = st.integers(0, 200)


@st.composite
def all_terms(draw: st.DrawFn) -> Terms:
    bounds = sorted(draw(st.sets(st.integers(1, 40) | st.integers(1, 2_000_000), max_size=4)))
    open_end = [None] if not bounds or draw(st.booleans()) else []
    return Terms(
        tuple(
            PriceTier(upto, draw(prices), draw(prices), draw(prices))
            for upto in [*bounds, *open_end]
        ),
        draw(percents),
        draw(percents),
        draw(percents),
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    fresh, cached, created = draw(counts), draw(counts), draw(counts)
    explicit = draw(st.booleans())
    created = created if explicit else 0
    return Usage(
        prompt_tokens=fresh + cached + created,
        completion_tokens=draw(counts),
        cached_tokens=cached,
        cache_creation_tokens=created,
        explicit_cache=explicit,
    )


def fresh_of(usage: Usage) -> int:
    return usage.prompt_tokens - usage.cached_tokens - usage.cache_creation_tokens


def reference(terms: Terms, usage: Usage, thinking: bool, free_tokens: int) -> int:
    """The same money in fractions, the price of one token at a time."""
    last = len(terms.tiers) - 1
    reached = [
        place
        for place, tier in enumerate(terms.tiers[:-1])
        if tier.upto is not None and usage.prompt_tokens > tier.upto
    ]
    tier = terms.tiers[min(len(reached), last)]
    per_input = Fraction(tier.input, 10**6)
    per_output = Fraction(tier.thinking_output if thinking else tier.output, 10**6)
    hit = terms.explicit_hit if usage.explicit_cache else terms.implicit_hit
    paid_fresh = max(0, fresh_of(usage) - free_tokens)
    left = max(0, free_tokens - fresh_of(usage))
    total = (
        paid_fresh * per_input
        + usage.cached_tokens * per_input * Fraction(hit, 100)
        + usage.cache_creation_tokens * per_input * Fraction(terms.creation, 100)
        + max(0, usage.completion_tokens - left) * per_output
    )
    return math.floor(total + Fraction(1, 2))


def charged(terms: Terms, usage: Usage, thinking: bool, free_tokens: int = 0) -> int:
    free_prompt, free_completion = free_split(usage, free_tokens)
    return charge(
        terms,
        usage,
        thinking=thinking,
        free_prompt=free_prompt,
        free_completion=free_completion,
    )


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(32_000, 1000), "0.037"),
        (Usage(32_001, 1000), "0.0666018"),
        (Usage(100_000, 0, cached_tokens=50_000), "0.108"),
        (Usage(100_000, 0, cached_tokens=50_000, explicit_cache=True), "0.099"),
        (Usage(100_000, 0, cache_creation_tokens=100_000, explicit_cache=True), "0.225"),
        (Usage(0, 0), "0"),
    ],
)
def test_one_tier_chosen_by_the_prompt_holds_for_all_tokens(usage: Usage, dollars: str):
    assert charge(CODER, usage, thinking=False) == Fraction(dollars) * DOLLAR


def test_a_request_above_the_last_bound_is_charged_at_the_last_tier():
    assert charge(CODER, Usage(1_000_000, 0), thinking=False) == 3 * DOLLAR


def test_thinking_has_its_own_price_for_the_whole_output():
    usage = Usage(0, 1_000_000, reasoning_tokens=1)
    assert charge(CODER, usage, thinking=True) == 7 * DOLLAR
    assert charge(CODER, usage, thinking=False) == 5 * DOLLAR


def test_half_a_nano_unit_is_rounded_up_and_less_is_not():
    terms = Terms((PriceTier(None, 1, 1, 1),))
    assert charge(terms, Usage(499_999, 0), thinking=False) == 0
    assert charge(terms, Usage(500_000, 0), thinking=False) == 1
    # Rounded once: the parts alone would both come to nothing, or both to one.
    assert charge(terms, Usage(250_000, 250_000), thinking=False) == 1
    assert charge(terms, Usage(500_000, 500_000), thinking=False) == 1


def test_free_tokens_go_to_fresh_input_then_to_output_and_never_to_cache_fees():
    usage = Usage(100, 50, cached_tokens=60, cache_creation_tokens=10, explicit_cache=True)
    assert free_split(usage, 0) == (0, 0)
    assert free_split(usage, 20) == (20, 0)
    assert free_split(usage, 70) == (30, 40)
    assert free_split(usage, 10**6) == (30, 50)
    cache_fees = (60 * 10 + 10 * 125) * DOLLAR // 100 // 10**6
    assert charged(CODER, usage, thinking=False, free_tokens=10**6) == cache_fees


@given(all_terms(), usages(), st.booleans(), counts)
def test_a_charge_equals_the_one_made_in_fractions(
    terms: Terms, usage: Usage, thinking: bool, free_tokens: int
):
    amount = charged(terms, usage, thinking, free_tokens)
    assert amount == reference(terms, usage, thinking, free_tokens)
    assert 0 <= amount <= charged(terms, usage, thinking)


@given(all_terms(), usages(), st.booleans(), counts, st.integers(1, 10**6), st.integers(0, 3))
def test_within_a_tier_more_tokens_never_cost_less(
    terms: Terms, usage: Usage, thinking: bool, free_tokens: int, more: int, place: int
):
    one_tier = Terms(terms.tiers[-1:], terms.implicit_hit, terms.explicit_hit, terms.creation)
    added = [more if place == each else 0 for each in range(4)]
    grown = Usage(
        prompt_tokens=usage.prompt_tokens + sum(added[:3]),
        completion_tokens=usage.completion_tokens + added[3],
        cached_tokens=usage.cached_tokens + added[0],
        cache_creation_tokens=usage.cache_creation_tokens + added[1],
        explicit_cache=usage.explicit_cache,
    )
    assert charged(one_tier, grown, thinking, free_tokens) >= charged(
        one_tier, usage, thinking, free_tokens
    )


@given(all_terms(), usages(), st.booleans())
def test_the_whole_is_the_sum_of_its_parts_to_a_nano_unit(
    terms: Terms, usage: Usage, thinking: bool
):
    whole = charge(terms, usage, thinking=thinking)
    no_output = charge(terms, usage, thinking=thinking, free_completion=usage.completion_tokens)
    no_fresh = charge(terms, usage, thinking=thinking, free_prompt=fresh_of(usage))
    fees = charge(
        terms,
        usage,
        thinking=thinking,
        free_prompt=fresh_of(usage),
        free_completion=usage.completion_tokens,
    )
    assert abs(no_output + no_fresh - fees - whole) <= 1


@given(all_terms(), usages(), st.booleans(), st.booleans(), counts, counts, counts)
def test_no_charge_within_the_bounds_exceeds_the_worst(
    terms: Terms,
    usage: Usage,
    may_think: bool,
    thinks: bool,
    free_tokens: int,
    more_prompt: int,
    more_completion: int,
):
    worst = worst_charge(
        terms,
        usage.prompt_tokens + more_prompt,
        usage.completion_tokens + more_completion,
        thinking=may_think,
        explicit=usage.explicit_cache,
        free_tokens=free_tokens,
    )
    assert charged(terms, usage, may_think and thinks, free_tokens) <= worst


PER_TOKEN = 10**6


@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=2, max_size=2),
    st.tuples(percents, percents, percents),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 8),
    st.booleans(),
)
# Dearest where free input takes what is free from a dear output, and the rest of the prompt makes a dear block.
@example([(1, 1), (1, 9)], (20, 10, 125), 4, 3, 2, True)
def test_the_worst_is_no_more_than_some_usage_costs(
    tier_prices: list[tuple[int, int]],
    shares: tuple[int, int, int],
    prompt_max: int,
    completion_max: int,
    free_tokens: int,
    explicit: bool,
):
    (low_in, low_out), (high_in, high_out) = tier_prices
    terms = Terms(
        (
            PriceTier(2, low_in * PER_TOKEN, low_out * PER_TOKEN, 0),
            PriceTier(None, high_in * PER_TOKEN, high_out * PER_TOKEN, 0),
        ),
        *shares,
    )
    every_usage = (
        Usage(sum(prompt), completion, prompt[1], 0, prompt[2], marked)
        for prompt in product(range(prompt_max + 1), repeat=3)
        for completion in range(completion_max + 1)
        for marked in {False, explicit}
        if sum(prompt) <= prompt_max and (marked or not prompt[2])
    )
    dearest = max(charged(terms, usage, False, free_tokens) for usage in every_usage)
    assert dearest == worst_charge(
        terms,
        prompt_max,
        completion_max,
        thinking=False,
        explicit=explicit,
        free_tokens=free_tokens,
    )


@pytest.mark.parametrize(
    "usage",
    [
        Usage(10, 0, cached_tokens=11),
        Usage(10, 0, cached_tokens=6, cache_creation_tokens=5, explicit_cache=True),
        Usage(-1, 0),
        Usage(1, -1),
        Usage(1, 0, cached_tokens=-1),
        Usage(1, 0, cache_creation_tokens=-1),
    ],
)
def test_counts_that_contradict_each_other_are_refused(usage: Usage):
    with pytest.raises(ValueError, match="contradict"):
        charge(CODER, usage, thinking=False)
    with pytest.raises(ValueError, match="contradict"):
        free_split(usage, 0)


@pytest.mark.parametrize("free", [(5, 0), (0, 3), (-1, 0), (0, -1)])
def test_no_more_can_be_free_than_there_is(free: tuple[int, int]):
    usage = Usage(10, 2, cached_tokens=6)
    with pytest.raises(ValueError, match="cannot be free"):
        charge(CODER, usage, thinking=False, free_prompt=free[0], free_completion=free[1])


def test_negative_bounds_are_refused():
    for bounds in ((-1, 0, 0), (0, -1, 0), (0, 0, -1)):
        with pytest.raises(ValueError, match="negative"):
            worst_charge(
                CODER,
                bounds[0],
                bounds[1],
                thinking=False,
                explicit=False,
                free_tokens=bounds[2],
            )
    with pytest.raises(ValueError, match="cannot be free"):
        free_split(Usage(1, 1), -1)
