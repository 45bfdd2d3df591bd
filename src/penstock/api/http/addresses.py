"""The address of a client: that of its connection or, behind a proxy of `api.trusted_proxies`, the one that the proxy
names in `X-Forwarded-For`. Whoever counts by address, counts by these.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from litestar.types import Scope

Headers = Iterable[tuple[bytes, bytes]]

UNKNOWN = ""
"""The address of a client on a unix socket."""
MAX_HOPS = 32
"""Elements of `X-Forwarded-For` that are looked at, from the last one."""
KEPT = 4096
"""Addresses of which it is remembered whether they are a proxy's."""
V6_PREFIX = 64
"""Bits of an IPv6 address that say whose it is: a single customer has all addresses with the same 64."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddresses:
    """Finds the address of the client of a request. IPv6 addresses are shortened to their network of 64 bits."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(text) for text in trusted_proxies)
        self.is_trusted = lru_cache(KEPT)(self._is_trusted)

    def of(self, scope: Scope) -> str:
        """Return the address of the client of this request."""
        peer = scope.get("client")
        return self.of_client(peer[0] if peer else UNKNOWN, scope["headers"])

    def of_client(self, peer: str, headers: Headers) -> str:
        """Return the address of the client whose request came from this peer with these headers.

        That is the last hop that is no proxy of ours. Anybody may have written what stands before it.
        """
        if not self.is_trusted(peer):
            return network_of(peer)
        hops = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
        client = peer
        for hop in reversed(hops.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address = _address_in(hop)
            if address is None:  # what we cannot read stands for the proxy that wrote it
                break
            client = str(address)
            if not self.is_trusted(client):
                break
        return network_of(client)

    def _is_trusted(self, peer: str) -> bool:
        address = _read(peer)
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(KEPT)
def network_of(peer: str) -> str:
    """Return what counts as one address: an IPv4 address, or the network of an IPv6 address."""
    address = _read(peer)
    if not isinstance(address, ipaddress.IPv6Address):
        return str(address or peer)
    return str(ipaddress.ip_network((address, V6_PREFIX), strict=False))


def _read(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # IPv6 may end with a zone, such as fe80::1%eth0
    except ValueError:
        return None
    # A socket for both protocols shows IPv4 clients as ::ffff:192.0.2.1, which no IPv4 network contains.
    return getattr(address, "ipv4_mapped", None) or address


def _address_in(hop: str) -> _Address | None:
    """Read `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    text = hop.strip()
    if text.startswith("["):
        return _read(text[1:].partition("]")[0])
    return _read(text.partition(":")[0] if text.count(":") == 1 else text)
