"""Bounds on JSON of clients, checked before it is decoded: a few bytes may cost much memory and time.

A body of 32 MiB may be one image, which is a single string and quick to decode, or eight million lists, which take a
gigabyte and seconds. The ends of strings are found fast, whatever is in them; what is left between them is short, or
refused.
"""

import math

from penstock.errors import MalformedRequest, PayloadTooLarge

MAX_DEPTH = 256
"""Levels of objects and arrays in a body."""
MAX_VALUES = 500_000
"""Values of a body, such as the numbers of a tensor: their commas are counted."""
MAX_MEMBERS = 50_000
"""Objects, arrays, and members of objects, which cost ten times as much as numbers: some 20 ms for so many."""
MAX_QUOTES = 200_000
"""Quotes of a body: two for each string, and those in strings."""
SMALL_BYTES = 16 * 1024
"""What is so short can have too many levels, and nothing else that is too much."""

_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_BACKSLASH = ord("\\")


def structure_of(body: bytes, max_bytes: float = math.inf) -> bytes:
    """Return a body of JSON without what is in its strings, or, if it is short, the body as it is.

    `max_bytes` limits the body without the `data:` URIs in it. Raises PayloadTooLarge, and MalformedRequest where a
    string has no end or levels are too many.
    """
    if len(body) <= SMALL_BYTES and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return body
    structure = _between_strings(body, max_bytes)
    containers = structure.count(b"[") + structure.count(b"{")
    if containers + structure.count(b":") > MAX_MEMBERS:
        raise PayloadTooLarge(f"the JSON has more than {MAX_MEMBERS:,} objects, arrays and members")
    if structure.count(b",") > MAX_VALUES:
        raise PayloadTooLarge(f"the JSON has more than {MAX_VALUES:,} values")
    if containers > MAX_DEPTH and is_deeper(structure, MAX_DEPTH):
        raise MalformedRequest(f"the JSON is nested more than {MAX_DEPTH} levels deep")
    return structure


def is_deeper(structure: bytes, levels: int) -> bool:
    """Return whether JSON without strings has more levels than these."""
    brackets = structure.translate(_SQUARE, _NO_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    return bool(brackets)


def _between_strings(body: bytes, max_bytes: float) -> bytes:
    """Looks from quote to quote, so that in a thread it leaves others their turn."""
    structure, left, is_ascii = bytearray(), max_bytes, body.isascii()
    outside, inside, quote = (
        0,
        -1,
        -1,
    )  # where the text outside of strings begins, and the string that we are in, if any
    for _ in range(MAX_QUOTES):
        quote = body.find(b'"', quote + 1)
        if quote < 0:
            break
        if inside < 0:
            left = _less(left, quote - outside)
            structure += body[outside:quote]
            inside = quote + 1
        elif body[quote - 1] != _BACKSLASH or not _is_escaped(body, inside, quote):
            if not _is_inline(body, inside, quote, is_ascii=is_ascii):
                left = _less(left, quote - inside)
            outside, inside = quote + 1, -1
    if quote >= 0:
        raise PayloadTooLarge(f"the JSON has more than {MAX_QUOTES // 2:,} strings")
    if inside >= 0:
        raise MalformedRequest("the body is not JSON: a string has no end")
    _less(left, len(body) - outside)
    return bytes(structure + body[outside:])


def _less(left: float, size: int) -> float:
    if size > left:
        raise PayloadTooLarge(
            "the JSON without its data: URIs is over limits.max_json_bytes; "
            "images and files in it begin with `data:`, such as `data:;base64,`"
        )
    return left - size


def _is_inline(body: bytes, start: int, end: int, *, is_ascii: bool) -> bool:
    """Whether a string is a data: URI. One with an emoji would take four bytes of memory for each of its own."""
    return body[start : start + 5].lower() == b"data:" and (is_ascii or body[start:end].isascii())


def _is_escaped(body: bytes, start: int, quote: int) -> bool:
    size = 64
    while True:
        before = body[max(start, quote - size) : quote]
        backslashes = len(before) - len(before.rstrip(b"\\"))
        if backslashes < size or quote - size <= start:
            return backslashes % 2 == 1
        size *= 8
