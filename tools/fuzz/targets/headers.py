"""Headers of requests that are read by code of ours."""

import ipaddress

from penstock.api.http.addresses import ClientAddresses
from penstock.api.http.headers import MAX_WAIT_S, is_current, range_of, wait_of
from penstock.errors import RangeNotSatisfiable
from tools.fuzz.target import ACCEPTED, refusal

PROXY, SIZE, ETAG = "10.0.0.1", 100, '"0123abcd"'
_ADDRESSES = ClientAddresses(("10.0.0.0/8", "fd00::/8"))

HEADERS = (
    b"wait=5, respond-async", b'foo; bar="a,b", wait="10"', b"wait", b"bytes=0-9", b"bytes=-5", b"bytes=90-",
    b"bytes=100-", b'W/"0123abcd", "x"', b"*", b"203.0.113.7, 10.0.0.2", b"[2001:db8::1]:443", b"2001:db8::1, fd00::2",
    b"203.0.113.7:80",
)  # fmt: skip
WORDS = (
    b"wait=", b"wait", b"=", b",", b";", b'"', b'\\"', b"\\", b" ", b"\t", b"bytes=", b"BYTES=", b"-", b"9" * 18,
    b"9" * 19, b'"0123abcd"', b"W/", b"*", b"10.0.0.2", b"203.0.113.7", b"::ffff:", b"fd00::1", b"[", b"]", b":80",
    b"%eth0", b"\xb2",
)  # fmt: skip


def check_of_header(data: bytes) -> str:
    """Whatever stands in a header: a wait and a range are within their bounds, and an address is one."""
    text = data.decode("latin-1")
    wait = wait_of([text])
    assert wait is None or 0 <= wait <= MAX_WAIT_S
    assert not is_current(ETAG, text) or ETAG in text or text.strip() == "*"
    assert range_of("bytes=0-1", text, etag=ETAG, size=SIZE) == ((0, 2) if text == ETAG else None)
    _is_an_address(data)
    try:
        found = range_of(text, None, etag=ETAG, size=SIZE)
    except RangeNotSatisfiable as error:
        return refusal(error)
    assert found is None or 0 <= found[0] < found[1] <= SIZE
    return ACCEPTED if found or wait is not None else "ignored"


def _is_an_address(data: bytes) -> None:
    """The client is the proxy, or stands in the header; and only a proxy is believed."""
    client = _ADDRESSES.of_client(PROXY, [(b"x-forwarded-for", data)])
    network = ipaddress.ip_network(client)
    assert network.prefixlen == (32 if network.version == 4 else 64)
    assert client == PROXY or data
    assert _ADDRESSES.of_client("203.0.113.9", [(b"x-forwarded-for", data)]) == "203.0.113.9"
