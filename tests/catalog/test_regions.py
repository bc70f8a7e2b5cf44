"""Goal: a request's address says its region, and a region has the models that the vendor's pages give it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.catalog import Catalog, DeploymentRoutes, load_catalog
from ownstudio.catalog.regions import RegionTable
from ownstudio.catalog.terms import REGIONS, Region
from ownstudio.core.errors import ErrorKind, StudioError

MAIN = 8000
SEVERAL = RegionTable.parse(
    ["local", "singapore@Intl.Example.com", "beijing@:8001", "virginia@intl.example.com:8001"]
)


@pytest.mark.parametrize(
    ("host", "port", "region"),
    [
        (b"intl.example.com", MAIN, "singapore"),
        (b"INTL.example.com", MAIN, "singapore"),
        (b"intl.example.com.", MAIN, "singapore"),
        # The port in the header is that of a proxy; what counts is the one that the request came in on.
        (b"intl.example.com:443", MAIN, "singapore"),
        (b"intl.example.com:8001", MAIN, "singapore"),
        (b"intl.example.com", 8001, "virginia"),
        (b"other.example.com", 8001, "beijing"),
        (None, 8001, "beijing"),
        (b"other.example.com", MAIN, "local"),
        (b"evil.intl.example.com", MAIN, "local"),
        (b"intl.example.com@other", MAIN, "local"),
        (b"[::1", MAIN, "local"),
        (b"", MAIN, "local"),
        (b"\xff" * 10_000, MAIN, "local"),
        (None, MAIN, "local"),
    ],
)
def test_what_says_more_of_an_address_has_the_request(
    host: bytes | None, port: int, region: Region
) -> None:
    assert SEVERAL.of(host, port) == region


def test_an_address_that_no_item_has_is_in_no_region() -> None:
    table = RegionTable.parse(["singapore@a.example", "beijing@:8001"])
    assert table.of(b"b.example", MAIN) is None
    assert table.of(None, MAIN) is None
    assert table.of(b"[::ffff:", MAIN) is None


@pytest.mark.parametrize("literal", ["[2001:db8::1]", "[2001:DB8:0::1]", "[2001:db8::1]:8000"])
def test_an_address_of_ipv6_is_the_same_however_it_is_written(literal: str) -> None:
    table = RegionTable.parse(["beijing@[2001:0db8::1]"])
    assert table.of(literal.encode(), MAIN) == "beijing"


def test_the_ports_to_listen_on_besides_the_main_one() -> None:
    assert SEVERAL.ports_besides(MAIN) == [8001]
    assert SEVERAL.ports_besides(8001) == []
    table = RegionTable.parse(["local", "beijing@:9002", "virginia@:9001", "singapore@a:9001"])
    assert table.ports_besides(MAIN) == [9001, 9002]
    assert table.regions() == frozenset(REGIONS)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "'local'"),
        (["moon"], "'moon' begins with no region: the regions are local, singapore"),
        (["Singapore"], "'Singapore'"),
        (["local@"], "'local@'"),
        (["local@:"], "'local@:'"),
        (["local@a:"], "'local@a:'"),
        (["local@a:x"], "'local@a:x' ends with no port"),
        (["local@:0"], "'local@:0' ends with no port"),
        (["local@:65536"], "'local@:65536' ends with no port"),
        (["local@a b"], "'local@a b'"),
        (["local@-a"], "'local@-a'"),
        (["local@http://a"], "'local@http://a'"),
        (["local@[::1"], "'local@[::1'"),
        (["local@[x]"], "'local@[x]'"),
        (["local@[::1]x"], "'local@[::1]x'"),
        (["local", "beijing"], "'beijing' answers where 'local' does"),
        (["local@A.example", "beijing@a.example."], "'beijing@a.example.' answers where"),
        (["local@:1", "local@:1"], "'local@:1' answers where"),
    ],
)
def test_an_item_that_cannot_be_read_is_named(items: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        RegionTable.parse(items)


@given(st.binary(max_size=300), st.integers(0, 65535))
def test_no_host_header_breaks_the_table(host: bytes, port: int) -> None:
    assert SEVERAL.of(host, port) in REGIONS


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(
        [
            DeploymentRoutes("tiny", ("*", "my-model"), 4096, 1),
            DeploymentRoutes("qwen2.5-coder-7b-instruct", (), 4096, 1),
        ]
    )


def test_local_has_everything(catalog: Catalog) -> None:
    assert catalog.in_region("local") is catalog


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_what_is_offered_there_and_what_is_the_operators_own(
    catalog: Catalog, region: Region
) -> None:
    names = {model.name for model in catalog.in_region(region).models()}
    assert {"tiny", "my-model", "qwen2.5-coder-7b-instruct"} <= names
    assert all(model.offer(region) for model in catalog.in_region(region).models())
    left_out = [model for model in catalog.models() if model.name not in names]
    assert all(model.offer(region) is None for model in left_out)


def test_a_model_of_another_region_does_not_exist(catalog: Catalog) -> None:
    assert catalog.in_region("beijing").resolve("qwen-coder-turbo")
    with pytest.raises(StudioError) as refusal:
        catalog.in_region("singapore").resolve("qwen-coder-turbo")
    assert refusal.value.kind is ErrorKind.MODEL_NOT_FOUND


def test_completions_are_only_in_beijing_and_at_home(catalog: Catalog) -> None:
    def complete(region: Region) -> set[str]:
        return {model.name for model in catalog.in_region(region).models() if model.completions}

    assert {"tiny", "my-model", "qwen2.5-coder-7b-instruct"} <= complete("beijing")
    assert complete("beijing") <= complete("local")
    assert complete("singapore") == complete("virginia") == set()
