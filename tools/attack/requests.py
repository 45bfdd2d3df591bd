"""Requests that are not what they should be: methods, paths, hosts, and two messages in one."""

from collections import Counter
from collections.abc import Sequence

import httpx

from tools.attack.attempt import Outcome
from tools.attack.target import Target, head_of, status_of

METHODS = (
    "TRACE", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND",
    "ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE",
    "MKCALENDAR", "LINK", "UNLINK", "SOURCE",
)  # fmt: skip
MOST_NEW_SERIES = 64
"""Series of one new pair of method and status, each a histogram."""
PATHS = (
    "/v1/tasks/", "//v1/tasks", "/v1//tasks", "/v1/%2e%2e/v1/tasks", "/v1/%2e/tasks", "/V1/tasks", "/v1/tasks%2f",
    "/v1/tasks;a=b", "/./v1/tasks", "/v1/../v1/tasks", "/v1/tasks%00", "/%76%31/tasks",
)  # fmt: skip
HOSTS = (
    "", "Host: a\r\nHost: b\r\n", "Host:\r\n", "Host: a:http\r\n", "Host: a:65536\r\n", "Host: me@a\r\n",
    "Host: a/v1\r\n", "Host: [::1::]\r\n",
)  # fmt: skip
_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = (
    _POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    _POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    _POST + b"Transfer-Encoding: identity\r\n\r\n",
    _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 20_000 + b"\r\n",
)


def odd_methods(target: Target) -> Outcome:
    """Use every method that the parser knows, to make `/metrics` grow."""
    before = _series(target)
    statuses = _statuses(target, [head_of(method, "/livez", "Connection: close") for method in METHODS])
    grown = _series(target) - before
    got = f"{_said(statuses)}, {grown} more series of metrics"
    return Outcome(got, statuses.keys() == {405} and grown <= MOST_NEW_SERIES)


def odd_paths(target: Target) -> Outcome:
    """Write the path of a guarded route in other ways, without a key."""
    statuses = _statuses(target, [head_of("GET", path, "Connection: close") for path in PATHS])
    return Outcome(_said(statuses), statuses.keys() <= {401, 404, 429})


def odd_hosts(target: Target) -> Outcome:
    """Send no Host, two, or one that cannot be."""
    heads = [f"GET /livez HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode() for host in HOSTS]
    statuses = _statuses(target, heads)
    return Outcome(_said(statuses), statuses.keys() == {400})


def smuggled(target: Target) -> Outcome:
    """Send what two readers of HTTP may read in two ways, and heads that are too long."""
    statuses = _statuses(target, SMUGGLED)
    return Outcome(_said(statuses), statuses.keys() <= {400, 413, 431, 501})


def _statuses(target: Target, requests: Sequence[bytes]) -> Counter[int]:
    return Counter(status_of(target.exchange(request, target.address(20))) for request in requests)


def _said(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def _series(target: Target) -> int:
    """Return the number of series that all processes of the server show."""
    text = httpx.get(target.system.metrics_url, trust_env=False).text
    return sum(not line.startswith("#") for line in text.splitlines())
