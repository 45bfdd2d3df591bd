"""The guard of URLs: what passes is requested as it was checked, whoever reads it."""

import ipaddress
import posixpath
import socket
from urllib.parse import urlsplit

import httptools
from yarl import URL

from penstock.errors import UrlBlocked
from penstock.net.guard import (
    BLOCKED_NAMES,
    DEFAULT_PORTS,
    MAX_KEY_BYTES,
    ObjectName,
    Policy,
    check_address,
    check_input,
    check_redirect,
    check_url,
)
from penstock.settings import LimitSettings
from tools.fuzz.target import ACCEPTED, refusal, text_of

OWN = "images.example.org"
PUBLIC = Policy.from_limits(LimitSettings(), public_url=f"https://{OWN}/penstock")
PRIVATE_TOO = Policy.from_limits(LimitSettings(allow_networks=("10.0.0.0/8", "fd00::/8", "169.254.0.0/16")))
PLACES = ("photos/", "shared/public/")
BUCKETS = Policy.from_limits(LimitSettings(s3_inputs=PLACES))
PAGE = "https://example.com/a/b?c=d"

METADATA = ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200")
INTERNET_6 = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out."""

URLS = (
    b"https://example.com/a/b.png?x=1&y=%2F#z", b"http://8.8.8.8:80/", b"https://[2606:4700:4700::1111]:443/a",
    b"http://EXAMPLE.com./%41?%zz", b"http://[::ffff:8.8.8.8]/", b"http://10.1.2.3:9000/a", b"http://[fd00::1]:81/",
    "https://example.com/ü?é=ß".encode(), b"https://xn--exmple-cua.com/?", b"http://127.0.0.1/", b"http://0x7f.1/",
    b"http://user:pass@example.com/", b"http://images.example.org:443/v1/tasks", b"http://169.254.169.254/latest/",
)  # fmt: skip
LOCATIONS = (b"/b.png", b"../c", b"//cdn.example.com/x", b"http://cdn.example.com:80/y#z", b"?q", b";p", b"//10.0.0.1")
OBJECTS = (b"s3://photos/a.png", b"S3://shared/public/My cat.png", "s3://photos/ü/%2e%2e/b".encode(), *URLS[:2])
ADDRESSES = (
    b"8.8.8.8", b"1.1.1.1", b"10.0.0.1", b"127.0.0.1", b"::1", b"2606:4700:4700::1111", b"::ffff:8.8.8.8",
    b"64:ff9b::808:808", b"2002:808:808::", b"fe80::1%eth0", b"169.254.169.254", b"fd00:ec2::254", b"224.0.0.1",
    b"2001:db8::1", b"100.64.0.1",
)  # fmt: skip

WORDS = (
    b"http://", b"https://", b"HTTP:", b"//", b"@", b":", b"/", b"?", b"#", b"\\", b"[", b"]", b"..", b".", b"-", b"_",
    b":80", b":443", b":08080", b"%", b"%2f", b"%40", b"%00", b"%0d%0a", b"%25", b";", b"&", b"=", b"|", b"{", b"'",
    b"localhost", b"127.0.0.1", b"0x7f", b"0177.0.0.1", b"2130706433", b"[::1]", b"::ffff:", b"%lo", b"metadata",
    b"images.example.org", b"10.0.0.1", b"xn--", b"\t", b"\n", b" ", b"s3://", b"/../", b"/./",
    *(text.encode() for text in "。①ⓔéß／℀\u202e\u00ad\u2028\ufeffK"),
)  # fmt: skip


def check_of_url(data: bytes) -> str:
    """A URL that passes is read alike by all parsers, and leads nowhere that the policy forbids."""
    outcome = ""
    for policy in (PRIVATE_TOO, PUBLIC):
        try:
            checked = check_url(text_of(data), policy)
        except UrlBlocked as error:
            outcome = refusal(error)
            continue
        _read_alike(checked, policy)
        outcome = ACCEPTED
    return outcome


def check_of_redirect(data: bytes) -> str:
    """A redirect leads where a URL may lead."""
    try:
        checked = check_redirect(PAGE, text_of(data), PUBLIC)
    except UrlBlocked as error:
        return refusal(error)
    _read_alike(checked, PUBLIC)
    return ACCEPTED


def check_of_object(data: bytes) -> str:
    """An object that passes is in one of the places, also where a server takes its key for a path."""
    try:
        place = check_input(text_of(data), BUCKETS)
    except UrlBlocked as error:
        return refusal(error)
    if isinstance(place, str):
        _read_alike(place, BUCKETS)
        return ACCEPTED
    assert isinstance(place, ObjectName)
    path = f"{place.bucket}/{place.key}"
    assert posixpath.normpath(path) == path
    assert path.startswith(PLACES)
    assert not {"?", "#", "\\", "\0", "\n", "\r"} & set(path)
    assert len(place.key.encode()) <= MAX_KEY_BYTES
    assert check_input(str(place), BUCKETS) == place
    return ACCEPTED


def check_of_address(data: bytes) -> str:
    """An address that passes is a public one of the Internet; the refusal does not repeat it."""
    text = text_of(data)
    try:
        check_address(text, PUBLIC)
    except UrlBlocked as blocked:
        error = blocked
    else:
        _is_public(text)
        return ACCEPTED
    assert len(text) < 8 or text not in error.detail
    return refusal(error)


def _read_alike(checked: str, policy: Policy) -> None:
    assert checked.isascii()
    assert checked.isprintable()
    assert check_url(checked, policy) == checked
    std, ours = urlsplit(checked), URL(checked, encoded=True)
    host = ours.raw_host or ""
    assert str(ours) == checked
    assert ours.raw_path_qs == "/" + checked.partition("://")[2].partition("/")[2]
    assert (std.scheme, std.hostname, std.username, std.password) == (ours.scheme, host, None, None)
    assert ours.scheme in policy.schemes
    port = ours.port or DEFAULT_PORTS[ours.scheme]
    assert port == (std.port or port)
    if "_" not in host:  # which the third parser refuses
        _read_alike_in_c(checked, ours.scheme, host, port)
    _is_let_through(host, port, policy)


def _read_alike_in_c(checked: str, scheme: str, host: str, port: int) -> None:
    read = httptools.parse_url(checked.encode())
    assert (read.schema.decode(), read.host.decode()) == (scheme, host)
    assert not read.userinfo
    assert (read.port or DEFAULT_PORTS[scheme]) == port


def _is_let_through(host: str, port: int, policy: Policy) -> None:
    assert not any(host == name or host.endswith(f".{name}") for name in BLOCKED_NAMES)
    assert host not in METADATA
    assert not policy.own_host or host != policy.own_host
    address = _address_of(host)
    if address is not None:
        check_address(address, policy)
        is_private = any(_ip(address) in network for network in policy.allow_networks)
        assert is_private or port in policy.ports
        if not is_private:
            _is_public(address)
    else:
        assert port in policy.ports


def _address_of(host: str) -> str | None:
    """The address that some resolver takes the host for: by the lax reading of C, and by the strict one."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        pass
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address)
    return getattr(ip, "ipv4_mapped", None) or ip


def _is_public(address: str) -> None:
    ip = _ip(address)
    is_other = ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_reserved
    assert ip.is_global
    assert not is_other
    assert not ip.is_unspecified
    if isinstance(ip, ipaddress.IPv6Address):
        assert ip in INTERNET_6
        assert ip.sixtofour is None
        assert ip.teredo is None
