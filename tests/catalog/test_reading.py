"""Data that contradicts itself is refused, by the name of its row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.catalog import Features, parse_entries
from ownstudio.catalog.terms import Offer

HEAD = """
[sources]
page = "A page, 2026"
[free_quota.singapore]
tokens = 1_000_000
days = 90
source = "A page, 2026"
[sampling]
plain = { temperature = 0.7, top_p = 0.8, top_k = 20 }
thinking = { temperature = 0.6, top_p = 0.95, top_k = 20 }
[native]
commercial = { result_format = "text", incremental_output = false }
[cache]
both = { implicit_hit = 20, explicit_hit = 10, creation = 125 }
[[group]]
name = "g"
source = ["page"]
family = "qwen3"
regions = ["singapore"]
window = { context = 1000, input = 900, output = 100 }
"""


def catalogue(row: str, group: str = "") -> str:
    return f'{HEAD}{group}\n[group.models."m-1"]\n{row}\n'


def offer_of(text: str) -> Offer:
    return next(o for o in parse_entries(text)["m-1"].offers if o.region == "singapore")


def test_the_smallest_row_is_valid() -> None:
    entry = parse_entries(catalogue(""))["m-1"]
    assert (entry.family, entry.group, entry.sources) == ("qwen3", "g", ("A page, 2026",))
    assert (entry.n_max, entry.completions, entry.cache) == (1, False, None)
    assert entry.features == Features(tools=True, partial=True, json=True, json_word=True)
    assert entry.thinking.mode == "none"


def test_features_that_a_row_lists_are_all_it_has() -> None:
    wordless = parse_entries(catalogue('features = ["partial", "json"]'))["m-1"]
    assert wordless.features == Features(tools=False, partial=True, json=True, json_word=False)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("contxt = 5", "contxt"),
        ('source = ["page"]', "source"),
        ("window = { context = 10, input = 11 }", "longest input exceeds"),
        ("window = { context = 10, output = 11 }", "longest output exceeds"),
        ("window = { context = 0 }", ">= 1"),
        ('thinking = { mode = "hybrid", budget = 2000 }', "thinking budget exceeds"),
        ('thinking = { mode = "hybrid", input = 2000 }', "longest input exceeds"),
        ('thinking = { mode = "none", budget = 20 }', "does not think"),
        ('thinking = { mode = "always", on = true }', "hybrid"),
        ('thinking = { mode = "hybrid", sampling = "odd" }', "no sampling 'odd'"),
        ('sampling = "odd"', "no sampling 'odd'"),
        ('native = "odd"', "no native 'odd'"),
        ('cache = "odd"', "no cache 'odd'"),
        ('family = "qwen9"', "qwen9"),
        ('features = ["tool"]', "tool"),
        ('features = ["json_word"]', "rule of `json`"),
        ("n_max = 5", "<= 4"),
        ("regions = []", "regions"),
        ('regions = ["local"]', "regions"),
        ('regions = ["paris"]', "paris"),
        ('regions = ["singapore", "singapore"]', "twice"),
        ("limits = { beijing = [1, 1] }", "beijing"),
        ("limits = { singapore = [0, 1] }", ">= 1"),
        ("prices.beijing = [{ input = 1, output = 1 }]", "beijing"),
        ("prices.singapore = [{ input = -1, output = 1 }]", "price must lie"),
        ("prices.singapore = [{ input = 1, output = 10_000_000 }]", "price must lie"),
        ("prices.singapore = [{ input = nan, output = 1 }]", "price must lie"),
        ("prices.singapore = [{ input = inf, output = 1 }]", "price must lie"),
        ("prices.singapore = [{ input = 0.0000000001, output = 1 }]", "nine decimal"),
        (f"prices.singapore = [{{ input = 1.{'0' * 40}1, output = 1 }}]", "nine decimal"),
        ("prices.singapore = [{ input = 1, output = 1, thinking = 2 }]", "no price of thinking"),
        (
            "prices.singapore = [{ input = 1, output = 1 }, { input = 2, output = 2 }]",
            "do not ascend",
        ),
        (
            "prices.singapore = [{ upto = 20, input = 1, output = 1 },"
            " { upto = 20, input = 2, output = 2 }]",
            "do not ascend",
        ),
        (
            "prices.singapore = [{ upto = 900, input = 1, output = 1 }, { input = 2, output = 2 }]",
            "begins above the longest input",
        ),
        ('alias_of = "m-2"', "alias of 'm-2'"),
    ],
)
def test_a_wrong_row_is_refused_by_name(row: str, words: str) -> None:
    with pytest.raises(ValueError, match="'m-1'") as refusal:
        parse_entries(catalogue(row))
    assert words in str(refusal.value)


def test_a_wrong_field_of_a_group_is_refused_by_row() -> None:
    with pytest.raises(ValueError, match=r"'m-1'.*windw"):
        parse_entries(catalogue("", group="windw = 3"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('source = ["page"]', 'source = ["pag"]', "group 'g': there is no source 'pag'"),
        ('source = ["page"]', "source = []", "group 'g': a group names its source"),
        ('source = ["page"]', "", "group 'g'.*source"),
        ('name = "g"', "", "group 1.*name"),
        ("[cache]", "[cash]", "cash"),
        ("[cache]", "[cache", "not valid"),
    ],
)
def test_a_wrong_file_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_entries(catalogue("").replace(old, new, 1))


def test_a_name_in_two_groups_is_refused() -> None:
    second = HEAD[HEAD.index("[[group]]") :] + '[group.models."m-1"]\n'
    with pytest.raises(ValueError, match="'m-1': the name is taken"):
        parse_entries(catalogue("") + second)


def test_a_rows_field_replaces_its_groups() -> None:
    prices = "prices.singapore = [{ input = 1, output = 2 }]"
    assert offer_of(catalogue("", group=prices)).tiers[0].input == 10**9
    assert offer_of(catalogue("prices = {}", group=prices)).tiers == ()
    assert parse_entries(catalogue("window = {}"))["m-1"].window.context is None


def test_same_prices() -> None:
    both = 'regions = ["singapore", "beijing"]\nsame_prices = { singapore = "beijing" }\n'
    prices = "prices.beijing = [{ input = 1, output = 2 }]\n"
    assert offer_of(catalogue(both + prices)).tiers[0].output == 2 * 10**9
    with pytest.raises(ValueError, match=r"'m-1'.*both name singapore"):
        parse_entries(catalogue(both + prices + "prices.singapore = [{ input = 1, output = 2 }]\n"))


@given(nanos=st.integers(min_value=0, max_value=10**15))
def test_every_price_is_read_exactly(nanos: int) -> None:
    price = f"{nanos // 10**9}.{nanos % 10**9:09d}"
    text = catalogue(f"prices.singapore = [{{ input = {price}, output = {price} }}]")
    tier = offer_of(text).tiers[0]
    assert (tier.input, tier.output, tier.thinking_output) == (nanos, nanos, nanos)
