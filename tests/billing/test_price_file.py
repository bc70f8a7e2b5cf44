"""Goal: a file of prices is read exactly or refused with the row at fault."""

import tomllib

import pytest

from ownstudio.billing.price_file import describe_terms, parse_prices
from ownstudio.billing.prices import NewPrice, Terms
from ownstudio.catalog import PriceTier

ROW = '[[price]]\nmodel = "m"\nregion = "local"\n'


def test_amounts_are_read_exactly_however_they_are_written():
    text = (
        ROW
        + """
tiers = [
    { upto = 32_000, input = 1.0, output = 5 },
    { input = "0.000000001", output = 1_000.1, thinking = 900719.925474099 },
]
cache = { implicit_hit = 20, explicit_hit = 10, creation = 125 }
"""
    )
    assert parse_prices(text, "USD") == [
        NewPrice(
            "m",
            "local",
            "USD",
            Terms(
                (
                    PriceTier(32_000, 10**9, 5 * 10**9, 5 * 10**9),
                    PriceTier(None, 1, 1_000_100_000_000, 900_719_925_474_099),
                ),
                20,
                10,
                125,
            ),
        )
    ]


def test_a_row_without_cache_prices_has_no_discount_and_a_file_may_name_its_currency():
    rows = parse_prices('currency = "CNY"\n' + ROW + "tiers = [{ input = 1, output = 2 }]", "USD")
    assert rows[0].currency == "CNY"
    assert rows[0].terms == Terms((PriceTier(None, 10**9, 2 * 10**9, 2 * 10**9),))
    assert rows[0].terms.creation == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price = 3", "the file holds no prices"),
        ("[[prices]]", "the file holds no prices"),
        ("[[price", "the file holds no prices"),
        ("[[price]]\n", r"price 1 \('\?' in '\?'\): .*`model`"),
        (ROW, r"price 1 \('m' in 'local'\): .*`tiers`"),
        (ROW + "tiers = []", "at least one tier"),
        (ROW + "tiers = [{ input = 1 }]", "`output`"),
        (ROW + "tiers = [{ input = 1, output = 1, extra = 1 }]", "extra"),
        (ROW + "tiers = [{ input = -1, output = 1 }]", "negative"),
        (ROW + "tiers = [{ input = 1.0000000001, output = 1 }]", "more than 9 decimal places"),
        (ROW + "tiers = [{ input = 1e400, output = 1 }]", "not an amount"),
        (ROW + "tiers = [{ input = nan, output = 1 }]", "not an amount"),
        (ROW + "tiers = [{ input = inf, output = 1 }]", "not an amount"),
        (ROW + "tiers = [{ input = true, output = 1 }]", "got `bool`"),
        (ROW + "tiers = [{ input = 10000000000000, output = 1 }]", "nor that high"),
        (ROW + "tiers = [{ input = 9000000001.5, output = 1 }]", "more than 9000000000"),
        (ROW + "tiers = [{ input = 1000001, output = 1 }]", "a price is 1000001000000000"),
        (
            ROW + "tiers = [{ input = 1, output = 1 }, { upto = 5, input = 1, output = 1 }]",
            "do not ascend",
        ),
        (ROW + "tiers = [{ upto = 0, input = 1, output = 1 }]", "upto"),
        (
            ROW + "tiers = [{ input = 1, output = 1 }]\ncache = { creation = 2000 }",
            "creation",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_row_at_fault(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_prices(text, "USD")


def test_terms_are_described_as_a_file_would_give_them():
    tiers = (PriceTier(7, 1, 2 * 10**9, 3), PriceTier(None, 0, 5, 10**15))
    described = describe_terms(Terms(tiers, 1, 2, 3))
    lines = [
        "{ "
        + ", ".join(f"{key} = {value!r}".replace("'", '"') for key, value in tier.items())
        + " }"
        for tier in described["tiers"]
    ]
    cache = ", ".join(f"{key} = {value}" for key, value in described["cache"].items())
    text = ROW + f"tiers = [{', '.join(lines)}]\ncache = {{ {cache} }}"
    assert tomllib.loads(text)["price"][0]["tiers"] == described["tiers"]
    assert parse_prices(text, "USD")[0].terms == Terms(tiers, 1, 2, 3)
