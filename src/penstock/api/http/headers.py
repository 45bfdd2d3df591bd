"""Headers of requests and answers that several routes read or write."""

import re
from collections.abc import Collection, Iterable, Mapping

from penstock.errors import RangeNotSatisfiable
from penstock.store import Submitted
from penstock.store.batches import Allowance

Headers = list[tuple[bytes, bytes]]
"""Headers as ASGI has them, with names in lower case."""

MAX_WAIT_S = 300
"""Longest wait on one connection; more than many proxies allow."""

BARE_WAIT_S = 60
"""The seconds that `wait` without a number means. The RFC does not have that form, but clients of Replicate send it."""


_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""One preference: everything up to a comma that is not in quotes. Matches in linear time for any input."""

_TAG = re.compile(r'"[^"]*"')

_BYTE_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
"""A single range; 18 digits are more than any file size has. A request for several ranges may be answered with the
whole file (RFC 9110, 14.2), and it is."""


def wait_of(prefer: Iterable[str]) -> int | None:
    """Return how many seconds the `Prefer` headers (RFC 7240) ask to wait, at most `MAX_WAIT_S`, or None.

    As the RFC requires, the first of several `wait` preferences counts, and unknown preferences are ignored.
    """
    for preference in _PREFERENCE.findall(",".join(prefer)):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return _wait_seconds(value.strip().strip('"'))
    return None


def _wait_seconds(value: str) -> int | None:
    if not value:
        return BARE_WAIT_S
    return int(min(float(value), MAX_WAIT_S)) if value.isascii() and value.isdigit() else None


def is_current(etag: str, if_none_match: str | None) -> bool:
    """Return whether `If-None-Match` names this ETag (RFC 9110, 13.1.2); weak and strong tags compare alike."""
    if if_none_match is None:
        return False
    # The pattern leaves out a `W/` before the quotes, which proxies add when they compress.
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def range_of(range_: str | None, if_range: str | None, *, etag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte that `Range` asks for and the one after the last (RFC 9110, 14.2).

    None stands for the whole file: there is no range, it is not understood, or the client has parts of another version
    (`If-Range`; a date never matches, because files carry no date). Raises RangeNotSatisfiable.
    """
    found = _BYTE_RANGE.fullmatch(range_ or "")
    if not found or not any(found.groups()) or if_range not in (None, etag):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < start:
        return None  # the RFC calls this an invalid range, which is ignored
    if start >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise RangeNotSatisfiable(f"the file has {size} bytes", param="Range", headers=headers)
    return start, stop


def rate_headers(name: str, limit: int, *, left: int, reset_s: int, window_s: int | None = 60) -> dict[str, str]:
    """Return the two fields of draft-ietf-httpapi-ratelimit-headers-11, or nothing when there is no limit. Without a
    window the limit is for what there may be at a time."""
    if not limit:
        return {}
    window = "" if window_s is None else f";w={window_s}"
    return {"RateLimit-Policy": f'"{name}";q={limit}{window}', "RateLimit": f'"{name}";r={left};t={reset_s}'}


def submit_policies(limit: int, quota: int, left: Submitted | Allowance) -> dict[str, str]:
    """Return the fields for what is left of a caller's limit and a tenant's quota of submits, where there are any."""
    fields = rate_headers("submit", limit, left=left.rate_left, reset_s=left.rate_reset_s)
    if left.quota_left < 0:
        return fields
    of_tenant = rate_headers("submits_per_minute", quota, left=left.quota_left, reset_s=left.quota_reset_s)
    return {name: ", ".join(filter(None, (fields.get(name), value))) for name, value in of_tenant.items()}


def with_policies(headers: Headers, policies: Mapping[str, str]) -> Headers:
    """Return the headers of an answer with the policies of `rate_headers` behind those that it has."""
    added = {name.lower().encode(): value.encode() for name, value in policies.items()}
    before = {name: value for name, value in headers if name in added}
    others = [(name, value) for name, value in headers if name not in added]
    return others + [(name, b", ".join(filter(None, (before.get(name), value)))) for name, value in added.items()]


def allow_of(methods: Collection[str]) -> str:
    """Return the value of `Allow`; HEAD is allowed wherever GET is."""
    return ", ".join(sorted({*methods, "HEAD"} if "GET" in methods else methods))
