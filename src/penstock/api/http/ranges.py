"""Part of a file: `Range` and `If-Range` (RFC 9110, 13.1.5 and 14)."""

import re

from penstock.errors import RangeNotSatisfiable

_SINGLE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
"""18 digits are more than any file has. Several ranges at once, which may be answered by the whole, are."""


def range_of(header: str | None, if_range: str | None, *, etag: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None: the whole file, also for what is not understood, and when the
    client has parts of another version (`If-Range`; a date never matches, since there is none to compare it with).

    Raises RangeNotSatisfiable.
    """
    found = _SINGLE.fullmatch(header or "")
    if not found or not any(found.groups()) or if_range not in (None, etag):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < start:
        return None  # not a range at all, says the RFC
    if start >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise RangeNotSatisfiable(f"the file has {size} bytes", param="Range", headers=headers)
    return start, stop
