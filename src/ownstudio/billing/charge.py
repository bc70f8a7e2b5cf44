"""What the tokens of one request cost: usage times price.

The number of prompt tokens chooses one tier, which holds for all tokens of the request. A request above the last tier's
bound has no published price; it is charged at the last tier. Cached tokens and those of a new cache block are priced in
percent of that tier's price of input. A request that thinks pays the price of thinking for all of its output.

Free tokens are spent first on the prompt tokens that no cache had to do with, then on output. They pay no cache fees.

All is summed exactly, as integers, and divided once: `_rounded` is the one place where money is rounded.
"""

from ownstudio.billing.prices import NO_DISCOUNT, Terms
from ownstudio.catalog import PriceTier
from ownstudio.core.events import Usage

# Prices are per million tokens, and shares of them in percent.
_DIVISOR = 1_000_000 * 100


def charge(
    terms: Terms, usage: Usage, *, thinking: bool, free_prompt: int = 0, free_completion: int = 0
) -> int:
    """Nano-units for this usage, of which so many fresh prompt tokens and completion tokens are free.

    Raises ValueError for counts that contradict each other.
    """
    fresh = _fresh(usage)
    if not 0 <= free_prompt <= fresh or not 0 <= free_completion <= usage.completion_tokens:
        raise ValueError(
            f"{free_prompt} of {fresh} fresh prompt tokens and {free_completion} of "
            f"{usage.completion_tokens} completion tokens cannot be free"
        )
    tier = _tier(terms, usage.prompt_tokens)
    hit = terms.explicit_hit if usage.explicit_cache else terms.implicit_hit
    input_shares = (
        (fresh - free_prompt) * 100
        + usage.cached_tokens * hit
        + usage.cache_creation_tokens * terms.creation
    )
    output_price = tier.thinking_output if thinking else tier.output
    output_shares = (usage.completion_tokens - free_completion) * 100
    return _rounded(input_shares * tier.input + output_shares * output_price)


def worst_charge(
    terms: Terms,
    prompt_tokens: int,
    completion_max: int,
    *,
    thinking: bool,
    explicit: bool,
    free_tokens: int = 0,
) -> int:
    """Nano-units that no usage of at most so many tokens exceeds, with `free_tokens` split as `free_split` does.

    `thinking`: the request may think. `explicit`: it marks what to cache, so that it may make a block. Whatever the
    caches will say, and were a lower tier the dearer one, `charge` is never more.
    """
    if prompt_tokens < 0 or completion_max < 0 or free_tokens < 0:
        raise ValueError(f"a count is negative: {prompt_tokens}, {completion_max}, {free_tokens}")
    cached_share = terms.implicit_hit
    if explicit:
        cached_share = max(cached_share, terms.explicit_hit, terms.creation)
    worst = 0
    for tier in terms.tiers:
        last = tier.upto is None or prompt_tokens <= tier.upto or tier is terms.tiers[-1]
        prompt = prompt_tokens if last or tier.upto is None else tier.upto
        output = max(tier.output, tier.thinking_output) if thinking else tier.output
        worst = max(
            worst,
            _worst_in_tier(tier.input, output, prompt, completion_max, cached_share, free_tokens),
        )
        if last:
            break
    return _rounded(worst)


def free_split(usage: Usage, free_tokens: int) -> tuple[int, int]:
    """How many of `free_tokens` go to the prompt and how many to the completion."""
    if free_tokens < 0:
        raise ValueError(f"{free_tokens} tokens cannot be free")
    free_prompt = min(free_tokens, _fresh(usage))
    return free_prompt, min(free_tokens - free_prompt, usage.completion_tokens)


def _worst_in_tier(
    input_price: int, output_price: int, prompt: int, completion: int, cached_share: int, free: int
) -> int:
    """The most over all divisions of the prompt into fresh tokens and others.

    More tokens never cost less, so that only the division is open. Over the number of fresh tokens the cost is a line
    with two bends. At the first, fresh tokens begin to take from the completion what is free: it turns upwards and is
    no summit. At the second they have taken all of it: that, or one of the ends, is the most.
    """
    worst = 0
    for fresh in (0, min(free, prompt), prompt):
        free_prompt = min(free, fresh)
        paid_completion = completion - min(free - free_prompt, completion)
        shares = (fresh - free_prompt) * NO_DISCOUNT + (prompt - fresh) * cached_share
        worst = max(worst, shares * input_price + paid_completion * NO_DISCOUNT * output_price)
    return worst


def _fresh(usage: Usage) -> int:
    """Prompt tokens that were neither read from a cache nor written to one."""
    fresh = usage.prompt_tokens - usage.cached_tokens - usage.cache_creation_tokens
    counts = (fresh, usage.cached_tokens, usage.cache_creation_tokens, usage.completion_tokens)
    if min(counts) < 0:
        raise ValueError(f"the counts of {usage} contradict each other")
    return fresh


def _tier(terms: Terms, prompt_tokens: int) -> PriceTier:
    for tier in terms.tiers:
        if tier.upto is None or prompt_tokens <= tier.upto:
            return tier
    return terms.tiers[-1]


def _rounded(shares: int) -> int:
    """Nano-units, the half of one rounded up."""
    return (shares + _DIVISOR // 2) // _DIVISOR
