"""What an account, a workspace or a key may do: one shape for the three, each tightening the one above it."""

from ipaddress import ip_network
from typing import Annotated, Literal

from msgspec import Meta, Struct

EVERY_MODEL = "*"

Count = Annotated[int, Meta(ge=1, le=10**12)]
# Nano-units of the server's currency: at most nine thousand million of them fit a signed 64-bit integer.
Amount = Annotated[int, Meta(ge=0, le=9 * 10**18)]


class Limit(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What refills by itself. None: nothing is said here."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """At most `amount` in nano-units of the server's currency in each day or month (UTC)."""

    amount: Amount
    period: Literal["day", "month"] = "month"


class Rules(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`models`: only these may be called; None is every one. `addresses`: CIDR ranges that may call; none is all.

    `limits` are by model name, "*" stands for each model without a row of its own; `concurrency` is how many
    requests may run at once.
    """

    models: tuple[str, ...] | None = None
    addresses: tuple[str, ...] = ()
    limits: dict[str, Limit] = {}
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    budget: Budget | None = None

    def allows_model(self, name: str) -> bool:
        return self.models is None or name in self.models

    def limit(self, model: str) -> Limit | None:
        return self.limits.get(model) or self.limits.get(EVERY_MODEL)


def check_addresses(addresses: tuple[str, ...]) -> None:
    """Raises ValueError, naming the range, for what is no address or CIDR range."""
    for address in addresses:
        try:
            ip_network(address)
        except ValueError:
            raise ValueError(f"{address!r} is not an address range such as 10.0.0.0/8") from None
