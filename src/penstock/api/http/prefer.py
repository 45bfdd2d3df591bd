"""What a client would rather have: the header `Prefer` (RFC 7240), of which only `wait` is known here."""

import re
from collections.abc import Iterable

MAX_WAIT_S = 300
"""Longest wait on one connection; more than many proxies allow."""

BARE_WAIT_S = 60
"""`wait` without a number, which the RFC does not have and clients of Replicate send."""

_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""Up to a comma that is not in quotes. Takes linear time for whatever a client sends."""


def wait_of(headers: Iterable[str]) -> int | None:
    """The seconds that all values of `Prefer` together ask to wait, 300 at most, or None. As the RFC has it, the first
    of several counts, and what is not understood is ignored."""
    for preference in _PREFERENCE.findall(",".join(headers)):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            return _seconds(value.strip().strip('"'))
    return None


def _seconds(value: str) -> int | None:
    if not value:
        return BARE_WAIT_S
    return int(min(float(value), MAX_WAIT_S)) if value.isascii() and value.isdigit() else None
