"""The URL under which a client reaches this server: the beginning of every link in an answer.

That is `api.public_url`, if it is set. Else the Host header of the request names it or, behind a proxy of
`api.trusted_proxies`, the `Forwarded` headers of that proxy. Those of anybody else are ignored.
"""

import ipaddress
import re
from functools import lru_cache

from litestar.types import Scope

from penstock.api.http.addresses import ClientAddresses
from penstock.api.http.headers import Headers
from penstock.errors import MalformedRequest
from penstock.net.guard import DEFAULT_PORTS
from penstock.settings import ApiSettings

_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,255}|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?")
_PAIR = re.compile(r'[ \t]*([A-Za-z0-9_-]+)=("(?:[^"\\]|\\.)*"|[^",; \t]*)[ \t]*([;,]|$)')
"""One pair of `for=192.0.2.1;proto=https;host="example.com:8443"`, and what ends it."""
_PORT = re.compile(r":[0-9]+$")
KEPT = 1000
"""Hosts of which it is remembered that they can be one: a client sends the same with every request."""
_LARGEST_PORT = 65_535


class Origins:
    """Works out origins from the settings and the headers of a request."""

    def __init__(self, settings: ApiSettings) -> None:
        self._public = settings.public_url.rstrip("/")
        self.are_public = bool(self._public)
        """Whether links are absolute."""
        self._addresses = ClientAddresses(settings.trusted_proxies)

    def of(self, scope: Scope) -> str:
        """Return the URL under which the client of this request reaches `/`, without the slash.

        Raises MalformedRequest when the request names no host, or one that cannot be a host.
        """
        scheme, host = scope["scheme"], _own_host(scope)
        if self._public:
            return self._public
        client = scope.get("client")
        if client is not None and self._addresses.is_trusted(client[0]):
            scheme, host = _forwarded(scope, scheme, host)
        return f"{scheme}://{host}"

    def absolute(self, headers: Headers) -> Headers:
        """Return the headers of an answer with an absolute `Location`, because a proxy may have changed the path of the
        request."""
        begin = self._public.encode()
        return [(n, begin + v if n == b"location" and v.startswith(b"/") else v) for n, v in headers]


def _forwarded(scope: Scope, scheme: str, host: str) -> tuple[str, str]:
    """The scheme and host that the nearest proxy names; what it leaves out stays as it is.

    Its element is the last of every list: anybody may have sent those before it. Raises MalformedRequest.
    """
    said = _last_element(",".join(_values(scope, b"forwarded")))
    if not said:
        lists = {name: ",".join(_values(scope, header)) for name, header in _X_FORWARDED.items()}
        said = {name: values.rpartition(",")[2].strip() for name, values in lists.items()}
    scheme = said.get("proto", "").lower() or scheme
    if scheme not in DEFAULT_PORTS:
        raise MalformedRequest("a proxy says that the scheme is neither http nor https", param="Forwarded")
    if said.get("host"):
        host = _checked(said["host"], "Forwarded")
    port = said.get("port")  # of X-Forwarded-Port; the default port is left out, as browsers do
    if port and port != str(DEFAULT_PORTS[scheme]) and not _PORT.search(host):
        host = _checked(f"{host}:{port}", "X-Forwarded-Port")
    return scheme, host


_X_FORWARDED = {"proto": b"x-forwarded-proto", "host": b"x-forwarded-host", "port": b"x-forwarded-port"}


def _own_host(scope: Scope) -> str:
    """The Host header; for HTTP/1.0, which may lack it, the address that the client connected to."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) == 1:
        return _checked(hosts[0].decode("latin-1"), "Host")
    if hosts or scope["http_version"] != "1.0":
        raise MalformedRequest("send exactly one Host header", param="Host")
    name, port = scope.get("server") or ("localhost", None)
    return _checked(f"[{name}]:{port}" if ":" in name else f"{name}:{port}", "Host")


@lru_cache(KEPT)
def _checked(host: str, header: str) -> str:
    """The host if it can be one, without an empty port. Raises MalformedRequest."""
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > _LARGEST_PORT or not _is_v6(found["v6"]):
        raise MalformedRequest("the host must be a name or an address, perhaps with :port", param=header)
    return host.removesuffix(":") if found["port"] == "" else host


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name]


def _is_v6(text: str | None) -> bool:
    try:
        return text is None or bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _last_element(header: str) -> dict[str, str]:
    """The last element of `Forwarded` (RFC 7239), by names in lower case. Raises MalformedRequest."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(header):
        found = _PAIR.match(header, at)
        if found is None:
            raise MalformedRequest("Forwarded must look like proto=https;host=images.example.com", param="Forwarded")
        name, value, end = found.groups()
        elements[-1][name.lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if end == ",":
            elements.append({})
        at = found.end()
    return elements[-1]
