"""Which region a request is for: the addresses under which one server plays several.

An item is `REGION`, which has every request that no other item has, or `REGION@[HOST][:PORT]`. HOST is that of the
Host header, whatever port stands there: a proxy in front has ports of its own. PORT is the one that the request came
in on. Of several items that match, the one that says more has the request: both, then the host, then the port.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Self

from ownstudio.catalog.terms import REGIONS, Region

HOST_MAX = 253

_REGIONS: dict[str, Region] = {region: region for region in REGIONS}
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_PORT = re.compile(r"[0-9]{1,5}")


# Host and port, "" for every host and 0 for every port.
Address = tuple[str, int]
_ANYWHERE: Address = ("", 0)


class RegionTable:
    """The regions of one server, by address. `first` is the one that is named first; `only` the one that has every
    request, where there is no other."""

    def __init__(self, regions: dict[Address, Region]) -> None:
        self._regions = regions
        self._rest = regions.get(_ANYWHERE)
        self.only = self._rest if len(regions) == 1 else None
        self.first = next(iter(regions.values()))

    @classmethod
    def parse(cls, items: Sequence[str]) -> Self:
        """Read the setting `regions`. Raises ValueError, naming the item, for what is no region or stands twice."""
        regions: dict[Address, Region] = {}
        for item in items:
            region, address = _read_item(item)
            if address in regions:
                raise ValueError(
                    f"{item!r} answers where {regions[address]!r} does: "
                    "give each region a host or a port of its own"
                )
            regions[address] = region
        if not regions:
            raise ValueError("the list is empty: 'local' is the region that has every model")
        return cls(regions)

    def of(self, host_header: bytes | None, port: int) -> Region | None:
        """The region of a request by its Host header and the port that it came in on; None where none answers."""
        if self.only is not None:
            return self.only
        host = _host_of(host_header)
        for address in ((host, port), (host, 0), ("", port)):
            region = self._regions.get(address)
            if region is not None:
                return region
        return self._rest

    def regions(self) -> frozenset[Region]:
        return frozenset(self._regions.values())

    def ports_besides(self, main: int) -> list[int]:
        """The ports that the server must listen on as well, in order."""
        return sorted({port for _, port in self._regions} - {0, main})


def _read_item(item: str) -> tuple[Region, Address]:
    name, at, place = item.partition("@")
    region = _REGIONS.get(name)
    if region is None:
        raise ValueError(f"{item!r} begins with no region: the regions are {', '.join(REGIONS)}")
    if not at:
        return region, _ANYWHERE
    host, port = _split(place)
    if host is None or (not host and not port):
        raise _malformed(item)
    if not port:
        return region, (host, 0)
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{item!r} ends with no port: a port is a number from 1 to 65535")
    return region, (host, int(port))


def _malformed(item: str) -> ValueError:
    return ValueError(
        f"{item!r} has no host or port after '@': write singapore@intl.example.com, beijing@:8001, or both"
    )


def _split(place: str) -> tuple[str | None, str]:
    """Host and port of `HOST`, `HOST:PORT`, `:PORT` or `[IPv6]:PORT`, the host in one form; None where it is none."""
    if place.startswith("["):
        literal, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or rest == ":":
            return None, ""
        try:
            return IPv6Address(literal).compressed, rest[1:]
        except ValueError:
            return None, ""
    host, colon, port = place.partition(":")
    if colon and not port:
        return None, ""
    host = host.lower().removesuffix(".")
    if len(host) > HOST_MAX or (host and not _HOST_NAME.fullmatch(host)):
        return None, ""
    return host, port


def _host_of(header: bytes | None) -> str:
    """The host that a client says it asks; "" for none, and for what is no host."""
    if not header or len(header) > HOST_MAX + len("[]:65535"):
        return ""
    return _split(header.decode("latin-1").strip())[0] or ""
