"""What an account, a workspace or a key may do: one shape for the three, each tightening the one above it."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from msgspec import Meta, Struct, ValidationError, convert, to_builtins

EVERY_MODEL = "*"
NAME_MAX = 128
# The range of IPv6 in which IPv4 addresses are written as ::ffff:10.0.0.1.
_MAPPED_IPV4 = IPv6Network("::ffff:0:0/96")

Count = Annotated[int, Meta(ge=1, le=10**12)]
# Nano-units of the server's currency: at most nine thousand million of them fit a signed 64-bit integer.
Amount = Annotated[int, Meta(ge=0, le=9 * 10**18)]
Network = IPv4Network | IPv6Network


class Limit(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What refills by itself. None: nothing is said here."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """At most `amount` in nano-units of the server's currency in each day or month (UTC)."""

    amount: Amount
    period: Literal["day", "month"] = "month"


class Rules(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
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

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """`addresses`, read once however many requests ask."""
        return tuple(_network(address) for address in self.addresses)


# Of whoever was given no rules.
UNBOUND = Rules()
# Of whoever has rules that cannot be read: better nothing than everything.
NOTHING = Rules(models=())


def check_rules(rules: Rules) -> None:
    """Raises ValueError, in words, for rules that no one could mean."""
    try:
        # A Struct believes whatever it is made of; what is read is held to its bounds.
        convert(to_builtins(rules), Rules)
    except ValidationError as error:
        raise ValueError(f"the rules cannot be: {error}") from None
    check_addresses(rules.addresses)
    for name in rules.models or ():
        check_model_name(name)
        if name == EVERY_MODEL:
            raise ValueError("'*' is no model: leave the models out to allow every one")
    for name in rules.limits:
        check_model_name(name)


def check_addresses(addresses: tuple[str, ...]) -> None:
    """Raises ValueError, naming the range, for what is no address or CIDR range."""
    for address in addresses:
        try:
            ip_network(address)
        except ValueError:
            raise ValueError(
                f"{address!r} is not an address range such as 10.0.0.0/8{_meant(address)}"
            ) from None


def _meant(address: str) -> str:
    """The likely cure: an address of a machine with the mask of its network."""
    try:
        return f"; the range around it is {ip_network(address, strict=False)}"
    except ValueError:
        return ""


def check_model_name(name: str) -> None:
    if not name or len(name) > NAME_MAX or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"{name!r} is not the name of a model: 1 to {NAME_MAX} printable characters"
        )


def _network(address: str) -> Network:
    network = ip_network(address)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED_IPV4):
        inside = network.network_address.ipv4_mapped
        return ip_network(f"{inside}/{network.prefixlen - _MAPPED_IPV4.prefixlen}")
    return network
