"""Goal: each of key, workspace and account can refuse, and a refusal tells the client nothing of the house."""

import pytest

from ownstudio.accounts import access, rules
from ownstudio.accounts.access import check_address, check_model, check_workspace
from ownstudio.accounts.principal import Account, Principal, Workspace
from ownstudio.accounts.rules import UNBOUND, Rules
from ownstudio.core.errors import ErrorKind, StudioError

LEVELS = ["key", "workspace", "account"]


def principal(**levels: Rules) -> Principal:
    return Principal(
        "key-1",
        "name",
        Account("shop", rules=levels.get("account", UNBOUND)),
        Workspace("web", "shop", rules=levels.get("workspace", UNBOUND)),
        "local",
        levels.get("key", UNBOUND),
    )


def allowed(ranges: tuple[str, ...], address: str, level: str = "key") -> bool:
    try:
        check_address(principal(**{level: Rules(addresses=ranges)}), address)
    except StudioError:
        return False
    return True


def test_a_refused_address_is_named_to_the_operator_alone():
    with pytest.raises(StudioError) as refusal:
        check_address(principal(workspace=Rules(addresses=("10.0.0.0/8",))), "203.0.113.7")
    assert refusal.value.kind is ErrorKind.ACCESS_DENIED
    assert refusal.value.message == "Access denied."
    assert all(part in refusal.value.detail for part in ("203.0.113.7", "workspace", "key-1"))


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_can_refuse_an_address(level: str):
    assert allowed(("10.0.0.0/8",), "10.1.2.3", level)
    assert not allowed(("10.0.0.0/8",), "11.1.2.3", level)


@pytest.mark.parametrize(
    ("ranges", "address", "expected"),
    [
        ((), "no address at all", True),
        (("10.0.0.1",), "10.0.0.1", True),
        (("10.0.0.1",), "10.0.0.2", False),
        (("10.0.0.0/8", "192.0.2.0/24"), "192.0.2.9", True),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("10.0.0.0/8",), "::ffff:11.1.2.3", False),
        (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
        (("::ffff:10.0.0.0/104",), "::ffff:11.1.2.3", False),
        (("::ffff:0:0/96",), "203.0.113.7", True),
        (("2001:db8::/32",), "2001:db8:1::1", True),
        (("2001:db8::/32",), "2001:db9::1", False),
        (("2001:db8::/32",), "10.0.0.1", False),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("10.0.0.0/8",), "", False),
        (("10.0.0.0/8",), "unix", False),
        (("10.0.0.0/8",), "10.1.2.3:80", False),
    ],
)
def test_addresses_are_compared_as_networks(ranges: tuple[str, ...], address: str, expected: bool):
    assert allowed(ranges, address) is expected


def test_a_level_that_allows_does_not_outweigh_one_that_refuses():
    caller = principal(
        key=Rules(addresses=("10.0.0.0/8",)), account=Rules(addresses=("10.1.0.0/16",))
    )
    check_address(caller, "10.1.0.1")
    with pytest.raises(StudioError):
        check_address(caller, "10.2.0.1")


def test_ranges_are_read_once_however_many_ask(monkeypatch: pytest.MonkeyPatch):
    caller = principal(workspace=Rules(addresses=("10.0.0.0/8",)))
    check_address(caller, "10.0.0.1")
    monkeypatch.setattr(rules, "ip_network", None)
    check_address(caller, "10.0.0.2")


def test_without_ranges_no_address_is_even_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(access, "ip_address", None)
    check_address(principal(), "10.0.0.1")


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_can_refuse_a_model(level: str):
    caller = principal(**{level: Rules(models=("qwen-plus",))})
    check_model(caller, "qwen-plus")
    with pytest.raises(StudioError) as refusal:
        check_model(caller, "qwen-max")
    assert refusal.value.kind is ErrorKind.MODEL_ACCESS_DENIED
    assert refusal.value.message == "Model access denied."
    assert level in refusal.value.detail


def test_no_model_granted_is_none_and_nothing_said_is_every_one():
    check_model(principal(), "anything")
    with pytest.raises(StudioError):
        check_model(principal(workspace=Rules(models=())), "anything")


@pytest.mark.parametrize("asked", ["default", "shop", "", "WEB", "web ", "x" * 10_000])
def test_a_key_speaks_for_its_own_workspace_alone(asked: str):
    check_workspace(principal(), "web")
    with pytest.raises(StudioError) as refusal:
        check_workspace(principal(), asked)
    assert refusal.value.kind is ErrorKind.WORKSPACE_ACCESS_DENIED
    assert refusal.value.message == "Workspace access denied."
    assert len(refusal.value.detail) < 200
