"""Whose address counts: that of the connection, or the one that a proxy of ours names."""

import pytest

from penstock.api.http.addresses import ClientAddresses

ADDRESSES = ClientAddresses(("10.0.0.0/8", "2001:db8:ffff::/48"))

CASES: dict[str, tuple[str, list[bytes], str]] = {
    "no proxy": ("192.0.2.1", [], "192.0.2.1"),
    "a client that says it is another": ("192.0.2.1", [b"198.51.100.7"], "192.0.2.1"),
    "a proxy": ("10.1.1.1", [b"192.0.2.1"], "192.0.2.1"),
    "a client behind a proxy that says it is another": ("10.1.1.1", [b"198.51.100.7, 192.0.2.1"], "192.0.2.1"),
    "two proxies": ("10.1.1.1", [b"198.51.100.7, 192.0.2.1, 10.2.2.2"], "192.0.2.1"),
    "several headers": ("10.1.1.1", [b"198.51.100.7", b"192.0.2.1 , 10.2.2.2"], "192.0.2.1"),
    "a proxy that says nothing": ("10.1.1.1", [], "10.1.1.1"),
    "a proxy that knows nothing": ("10.1.1.1", [b"198.51.100.7, unknown"], "10.1.1.1"),
    "only proxies": ("10.1.1.1", [b"10.3.3.3, 10.2.2.2"], "10.3.3.3"),
    "a port": ("10.1.1.1", [b"192.0.2.1:4711"], "192.0.2.1"),
    "IPv6": ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
    "IPv6 behind a proxy": ("2001:db8:ffff::1", [b"[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
    "IPv6 with a zone": ("fe80::1%eth0", [], "fe80::/64"),
    "IPv4 in IPv6": ("::ffff:192.0.2.1", [], "192.0.2.1"),
    "a proxy in IPv6": ("::ffff:10.1.1.1", [b"::ffff:192.0.2.1"], "192.0.2.1"),
    "more hops than are looked at": ("10.1.1.1", [b"192.0.2.1, " + b"10.2.2.2, " * 99 + b"10.2.2.2"], "10.2.2.2"),
    "a unix socket": ("", [], ""),
}


@pytest.mark.parametrize("case", CASES)
def test_rl1_the_address_is_that_of_the_last_hop_that_is_no_proxy_of_ours(case: str) -> None:
    peer, forwarded, address = CASES[case]

    assert ADDRESSES.of_client(peer, [(b"x-forwarded-for", value) for value in forwarded]) == address


def test_rl1_ten_thousand_made_up_addresses_are_one_address() -> None:
    made_up = (b"198.51.%d.%d" % divmod(n, 256) for n in range(10_000))

    found = {ADDRESSES.of_client("192.0.2.1", [(b"x-forwarded-for", address)]) for address in made_up}

    assert found == {"192.0.2.1"}
