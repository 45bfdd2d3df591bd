"""The one guard for every URL that a client names: which spellings, names, ports and addresses may be fetched.

It is asked twice. `check_url` reads the text before anything is resolved; `check_address` judges the address that a
connection is about to be made to, which DNS cannot change afterwards. `check_input` reads the URL of an input, which
may also name an object of a bucket. The module is pure: it uses neither the network nor DNS.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn, Self
from urllib.parse import quote, urljoin, urlsplit

from penstock.errors import ConfigurationError, UrlBlocked
from penstock.settings import LimitSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS = 8192
"""Signed links with session tokens reach about 2,000; servers rarely accept more than 8 KiB."""

MAX_KEY_BYTES = 1024
"""The longest key that S3 allows."""

DEFAULT_PORTS = {"http": 80, "https": 443}

BLOCKED_NAMES = frozenset(
    {
        "localhost",
        "instance-data",  # AWS
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.tencentyun.com",
        "rancher-metadata",
    }
)
"""Names of this machine and of the metadata services of clouds, which are blocked with their subdomains, whatever they
resolve to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectName:
    """An object of a bucket; `str` gives its URL."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be fetched.

    An address in `allow_networks` may be private, and a URL that spells such an address may name any port. `objects`
    are the buckets, and the prefixes in buckets, whose objects may be named; each ends with `/`. `own_host` is the name
    or address under which clients reach this server, empty where it is not known.
    """

    schemes: frozenset[str]
    ports: frozenset[int]
    allow_networks: tuple[Network, ...] = ()
    objects: tuple[str, ...] = ()
    own_host: str = ""

    @classmethod
    def from_limits(cls, limits: LimitSettings, *, allow_http: bool | None = None, public_url: str = "") -> Self:
        """The policy of these limits; `allow_http` overrides theirs, and `public_url` is that of the server.

        Raises ConfigurationError when a member of `limits.allow_networks` is not a network, or one of
        `limits.s3_inputs` is not a bucket or prefix.
        """
        allow_http = limits.allow_http if allow_http is None else allow_http
        return cls(
            schemes=frozenset({"http", "https"} if allow_http else {"https"}),
            ports=frozenset(limits.ports),
            allow_networks=tuple(_network(text) for text in limits.allow_networks),
            objects=tuple(_object_prefix(text) for text in limits.s3_inputs),
            own_host=(urlsplit(public_url).hostname or "").removesuffix("."),
        )


def check_url(url: str, policy: Policy) -> str:
    """The URL in the one form that may be requested: ASCII, lower-case host, explicit path, no fragment.

    Percent-encoding that is there already is kept byte for byte, since signed links depend on it. Raises UrlBlocked.
    """
    _check_characters(url)
    parts = _URL.fullmatch(url) or _block("the URL must look like https://host/path")
    scheme = parts["scheme"].lower()
    if scheme not in policy.schemes:
        _block(f"the scheme must be {' or '.join(sorted(policy.schemes))}")
    host, port = _split_authority(parts["authority"], scheme)
    shown_host = _checked_host(host, port, policy)
    shown_port = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    query = "?" + _ascii(parts["query"]) if parts["query"] else ""
    checked = f"{scheme}://{shown_host}{shown_port}{_ascii(parts['path']) or '/'}{query}"
    _check_length(checked)  # once more: a letter outside of ASCII has become six characters or more
    return checked


def check_input(url: str, policy: Policy) -> str | ObjectName:
    """The place to fetch an input from: a URL as of `check_url`, or an object where the policy allows some.

    Raises UrlBlocked.
    """
    if not policy.objects or url[:5].lower() != "s3://":
        return check_url(url, policy)
    _check_characters(url.replace(" ", ""))  # a key may contain blanks
    parts = _OBJECT.fullmatch(url) or _block("an s3: URL must look like s3://bucket/key, without ? and #")
    name = ObjectName(bucket=parts["bucket"], key=parts["key"])
    if len(name.key.encode()) > MAX_KEY_BYTES or not {"", ".", ".."}.isdisjoint(name.key.split("/")):
        # Some servers keep objects as files; there such a part would lead out of the prefix.
        _block("the key must not contain empty parts, `.` or `..`, and must have at most 1,024 bytes")
    if not any(f"{name.bucket}/{name.key}".startswith(prefix) for prefix in policy.objects):
        _block("inputs may not be read from this bucket, or not from this part of it")
    return name


def check_redirect(url: str, location: str, policy: Policy) -> str:
    """The checked URL that the `Location` of a redirect from `url` leads to. Raises UrlBlocked.

    The characters are checked before the two are joined, because `urljoin` silently drops some of them.
    """
    location = location.strip(" ")
    _check_characters(location)
    try:
        joined = urljoin(url, location)
    except ValueError:
        _block("the source redirects to a malformed URL")
    return check_url(joined, policy)


def check_address(address: str, policy: Policy) -> None:
    """Raises UrlBlocked unless the IP address is public or inside `policy.allow_networks`.

    The metadata services of clouds are blocked inside of these networks too. The error does not repeat the address: it
    may be what an attacker wants to learn.
    """
    try:
        ip = _unwrapped(address)
    except ValueError:
        _block("the host leads to something that is not an IP address")
    if _is_allowed(ip, policy) or _is_public(ip):
        return
    _block("the host leads to an address that is not public")


def is_allowed(address: str, policy: Policy) -> bool:
    """Whether the operator has allowed this IP address by its network, be it public or private."""
    return _is_allowed(_unwrapped(address), policy)


# --- the text -----------------------------------------------------------------------------------------------

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(\?(?P<query>[^#]*))?(#.*)?"
)
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_OBJECT = re.compile(rf"[sS]3://(?P<bucket>{_BUCKET})/(?P<key>[^?#]+)")
_OBJECT_PREFIX = re.compile(rf"{_BUCKET}(/[^?#]*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# All printable ASCII characters stay as they are, but for those that RFC 3986 never allows.
_KEPT = "%!$&'()*+,/:;=?@[]~"


def _check_characters(url: str) -> None:
    # Parsers of URLs disagree about these characters. Whatever is refused here they cannot disagree about.
    _check_length(url)
    if any(ord(c) <= 0x20 or 0x7F <= ord(c) <= 0xA0 or c.isspace() or 0xD800 <= ord(c) <= 0xDFFF for c in url):
        _block("the URL contains white space or control characters")
    if "\\" in url or "%00" in url:
        _block("the URL contains a backslash or a NUL")


def _check_length(url: str) -> None:
    if len(url) > MAX_URL_CHARACTERS:
        _block(f"the URL has more than {MAX_URL_CHARACTERS} characters")


def _split_authority(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        _block("the URL must not contain a user name or password")
    if not authority.isascii():
        # Some parsers turn circled digits and full stops of other scripts into ASCII, others do not.
        _block("an international host name must be in its xn-- form")
    parts = _AUTHORITY.fullmatch(authority) or _block("the host or port of the URL is malformed")
    port = int(parts["port"] or DEFAULT_PORTS[scheme])
    if port > 65535:
        _block("the port of the URL is out of range")
    return parts["host"].lower(), port


def _checked_host(host: str, port: int, policy: Policy) -> str:
    """The host as it is requested. Blocks a host or a port that the policy does not allow."""
    if not host:
        _block("the URL has no host")
    ip = _literal(host)
    if ip is None:
        shown = _checked_name(host)
    else:
        check_address(str(ip), policy)
        shown = f"[{ip}]" if ip.version == 6 else str(ip)
    if ip and _is_allowed(_unwrapped(str(ip)), policy):
        return shown
    if policy.own_host and shown.strip("[]") == policy.own_host:
        _block("the host of the URL is this server")
    if port not in policy.ports:
        _block(f"port {port} is not allowed")
    return shown


def _literal(host: str) -> Address | None:
    """The IP address that the host spells, or None for a name. Blocks every spelling but the canonical one.

    Some resolver takes any host that ends in a number for an address (`2130706433`, `0x7f.1`, `127.1`, `0177.0.0.1`).
    Such a host must be four decimal numbers here.
    """
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(_without_zone(host[1:-1]))
        if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return ipaddress.IPv4Address(host)
    except ValueError:
        _block("an IP address must be in its usual spelling, such as 192.0.2.1 or [2001:db8::1]")
    return None


def _checked_name(host: str) -> str:
    name = host.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        _block("the host name of the URL is malformed")
    if any(name == blocked or name.endswith(f".{blocked}") for blocked in BLOCKED_NAMES):
        _block(f"the host {name} is not public")
    return name


def _ascii(text: str) -> str:
    return quote(text, safe=_KEPT)


# --- the address --------------------------------------------------------------------------------------------


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# `is_global` alone lets multicast, translation prefixes and some others through, and its answers differ
# between patch releases of Python. This list is complete by itself (IANA special-purpose registries, 2026).
_NOT_PUBLIC_4 = _networks(
    [
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; some clouds keep their metadata here
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent: a public number, reachable only from inside
        "169.254.0.0/16",  # link-local, metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relay
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    ]
)

# IANA assigns public IPv6 addresses from 2000::/3 only, so everything outside (::1, ::127.0.0.1, 64:ff9b::, fc00::,
# fe80::, fec0::, 5f00::, ff00::) is not public. The list has the exceptions inside it.
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = _networks(
    [
        "2001::/23",  # protocols: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
    ]
)


def _is_public(ip: Address) -> bool:
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    return ip in _UNICAST_6 and not any(ip in network for network in _NOT_PUBLIC_6)


# No network that an operator allows is meant to include these: 100.64.0.0/10 and fd00::/8 are also those of VPNs.
_METADATA = _networks(
    [
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "169.254.169.0/24",  # most clouds
        "169.254.170.0/24",  # credentials of a container or pod on AWS
        "192.0.0.192/32",  # Oracle
        "fd00:42::42/128",  # Scaleway
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:ec2::/64",  # AWS
        "fd20:ce::254/128",  # Google
    ]
)


def _is_allowed(ip: Address, policy: Policy) -> bool:
    return any(ip in network for network in policy.allow_networks) and not any(ip in network for network in _METADATA)


def _unwrapped(address: str) -> Address:
    """The address; for `::ffff:a.b.c.d` the IPv4 address inside. Raises ValueError, also for a zone id."""
    ip = ipaddress.ip_address(_without_zone(address))
    return getattr(ip, "ipv4_mapped", None) or ip


def _without_zone(address: str) -> str:
    if "%" in address:
        raise ValueError("zone id")
    return address


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(f"limits.allow_networks: {text!r} is not a network such as 10.20.0.0/16") from error


def _object_prefix(text: str) -> str:
    if not _OBJECT_PREFIX.fullmatch(text):
        raise ConfigurationError(
            f"limits.s3_inputs: {text!r} is not a bucket or a prefix such as photos or photos/public"
        )
    return text.rstrip("/") + "/"


def _block(detail: str) -> NoReturn:
    raise UrlBlocked(detail)
