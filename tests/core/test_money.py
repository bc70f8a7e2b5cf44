"""Goal: amounts are exact from text to integer and back, and what is no amount is refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.core.money import AMOUNT_MAX, NANOS, parse_amount, plain_amount, show_amount


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("12.50", 12_500_000_000),
        ("0", 0),
        ("0.000000001", 1),
        ("007.1", 7_100_000_000),
        ("9000000000", AMOUNT_MAX),
    ],
)
def test_decimal_text_is_read_exactly(text: str, nanos: int):
    assert parse_amount(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1 ", "1.", ".5", "1,5", "1_000", "1e400", "1E2", "NaN", "inf", "0x10", "١٢"),
        *("1.0000000000", "-1", "+1", "--1", "9000000000.000000001", "9" * 400, "1\n"),
    ],
)
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(ValueError, match="amount"):
        parse_amount(text)


def test_a_sign_is_read_only_where_it_is_wanted():
    assert parse_amount("-0.5", signed=True) == -500_000_000
    assert parse_amount("-0", signed=True) == 0
    with pytest.raises(ValueError, match="may not have a sign"):
        parse_amount("-0.5")
    with pytest.raises(ValueError, match="is not an amount"):
        parse_amount("+0.5", signed=True)


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX))
def test_every_amount_survives_as_text_and_says_the_same_as_a_decimal(nanos: int):
    text = plain_amount(nanos)
    assert parse_amount(text, signed=True) == nanos
    assert Decimal(text) * NANOS == nanos
    assert "." not in text or text[-1] != "0"


def test_an_amount_is_shown_with_its_currency_and_no_zeros_that_say_nothing():
    assert show_amount(1_234_567, "USD") == "USD 0.001234567"
    assert show_amount(12_500_000_000, "CNY") == "CNY 12.5"
    assert show_amount(-3 * NANOS, "USD") == "USD -3"
    assert show_amount(0, "USD") == "USD 0"
