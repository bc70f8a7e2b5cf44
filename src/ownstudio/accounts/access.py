"""What a request may not even ask for: an address, a model or a workspace that its key is not meant for.

The rules of the account, the workspace and the key all apply. What a client reads says nothing of which one refused
it, or of what else there is; the operator's log does.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address

from ownstudio.accounts.principal import Principal
from ownstudio.accounts.rules import Rules
from ownstudio.core.errors import ErrorKind, StudioError

_LEVELS = ("key", "workspace", "account")


def check_address(principal: Principal, address: str) -> None:
    """Raises StudioError ACCESS_DENIED where `address`, that of the client, is outside of what its key allows."""
    caller: IPv4Address | IPv6Address | None = None
    for level, rules in zip(_LEVELS, _rules(principal), strict=True):
        if not rules.addresses:
            continue
        caller = caller or _address(principal, address)
        if not any(caller in network for network in rules.networks):
            raise _denied(
                f"{caller} is outside of the address ranges of the {level} of {principal.key_id}"
            )


def check_model(principal: Principal, name: str) -> None:
    """Raises StudioError MODEL_ACCESS_DENIED."""
    for level, rules in zip(_LEVELS, _rules(principal), strict=True):
        if not rules.allows_model(name):
            raise StudioError(
                ErrorKind.MODEL_ACCESS_DENIED,
                "Model access denied.",
                detail=f"{name!r} is not among the models of the {level} of {principal.key_id}",
            )


def check_workspace(principal: Principal, asked: str) -> None:
    """`asked` is what the client named. Raises StudioError WORKSPACE_ACCESS_DENIED for all but the key's own."""
    if asked != principal.workspace.id:
        raise StudioError(
            ErrorKind.WORKSPACE_ACCESS_DENIED,
            "Workspace access denied.",
            detail=f"{principal.key_id} asked for the workspace {asked[:64]!r}",
        )


def _rules(principal: Principal) -> tuple[Rules, Rules, Rules]:
    return principal.rules, principal.workspace.rules, principal.account.rules


def _address(principal: Principal, text: str) -> IPv4Address | IPv6Address:
    """A server that listens on IPv6 sees callers over IPv4 as ::ffff:10.0.0.1: they are those of 10.0.0.1."""
    try:
        address = ip_address(text)
    except ValueError:
        # Without an address there is no telling whether it is allowed.
        raise _denied(
            f"{text[:64]!r} is no address, and {principal.key_id} may call from some only"
        ) from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _denied(detail: str) -> StudioError:
    return StudioError(ErrorKind.ACCESS_DENIED, "Access denied.", detail=detail)
