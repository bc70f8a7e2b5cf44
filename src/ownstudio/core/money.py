"""Money: whole nano-units of one currency, so that 12.50 dollars are 12,500,000,000.

An amount is an integer everywhere; decimal text is for people, is read and written here, and never passes through a
float. Which currency it is, a server knows once for all of its amounts.
"""

import re

NANOS = 10**9
DECIMALS = 9
# Databases keep amounts in signed 64 bits.
AMOUNT_MAX = 9 * 10**18

# ASCII digits alone: no exponent, no grouping, nothing that other scripts call a digit.
_TEXT = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]+))?", re.ASCII)


def parse_amount(text: str, *, signed: bool = False) -> int:
    """Nano-units of decimal text such as "12.50"; "-12.50" only where `signed`. Raises ValueError."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not an amount such as 12.50")
    sign, whole, decimals = found.group(1), found.group(2), found.group(3) or ""
    if sign and not signed:
        raise ValueError(f"the amount {text[:40]} may not have a sign")
    if len(decimals) > DECIMALS:
        raise ValueError(f"the amount {text[:40]} has more than {DECIMALS} decimal places")
    nanos = int(whole) * NANOS + int(decimals.ljust(DECIMALS, "0"))
    if nanos > AMOUNT_MAX:
        raise ValueError(f"the amount {text[:40]} is more than {plain_amount(AMOUNT_MAX)}")
    return -nanos if sign else nanos


def plain_amount(nanos: int) -> str:
    """Decimal text with every decimal place that is not a trailing zero; what `parse_amount` reads."""
    whole, rest = divmod(abs(nanos), NANOS)
    decimals = f"{rest:0{DECIMALS}d}".rstrip("0")
    return ("-" if nanos < 0 else "") + str(whole) + (f".{decimals}" if decimals else "")


def show_amount(nanos: int, currency: str) -> str:
    """An amount as people see it, such as "USD 0.001234567"."""
    return f"{currency} {plain_amount(nanos)}"
