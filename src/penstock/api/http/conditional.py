"""What a client has already: `If-None-Match` and 304 (RFC 9110, 13.1.2)."""

import re

_TAG = re.compile(r'"[^"]*"')


def is_current(etag: str, if_none_match: str | None) -> bool:
    """Whether the client's copy is this one; strong and weak tags compare alike."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)
