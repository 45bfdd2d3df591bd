"""The markers of a JPEG (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator

from msgspec import Struct

from penstock.errors import ImageDecodeFailed
from penstock.pixels.headers.header import ImageBounds, ImageHeader, damaged

EOI, SOS, APP1, APP2, APP13, COMMENT = 0xD9, 0xDA, 0xE1, 0xE2, 0xED, 0xFE
METADATA = frozenset({APP1, APP13, COMMENT})
"""Exif and XMP, IPTC, and text."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame, in all forms of coding. The three others are tables and reserved."""

PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
ALONE = frozenset({0x01, 0xD8, EOI})
"""Markers without a length."""

ALL_BANDS = 2**64 - 1
"""A bit for each of the 64 frequencies of a block."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Any marker but those of a restart, which stand between coded data as stuffed bytes (FF 00) do."""

PIECE_BYTES = 2**20
"""So much is searched at once: other threads may run between two pieces, each of which takes 2 ms at most."""

NEAR_BYTES = 32
"""Nearly all markers but those behind coded data are within these."""

MOST_SORTED_BYTES = 2**16
USUAL_DISTANCE = 16
"""Coded data has an FF in 256 bytes. At each, the expression takes 10 ns: where there are more than one in so many,
bytes are sorted into three kinds, of which two in a row are found in less time."""

_PADDING = tuple(b"\xff" * 2**power for power in range(16, -1, -1))
_KINDS = bytes(0xFF if byte == 0xFF else _MARKER.match(bytes((0xFF, byte))) is not None for byte in range(256))
"""FF for FF, 1 for what is a marker behind an FF, 0 for the rest."""


class _Frame(Struct, frozen=True):
    bits: int
    height: int
    width: int
    components: bytes
    is_progressive: bool


def read_jpeg(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of a JPEG; None when the bytes end before its size. What follows its end, such as the further
    images of a phone's MPO file, does not count. Raises ImageTooLarge, ImageDecodeFailed."""
    frame, scans, count, end, only_scan_at = None, 0, 0, None, 0
    notes, precise, has_metadata = set(), dict[int, int](), False
    for marker, at in segments(data):
        count += 1
        if count > bounds.chunks:
            bounds.check_chunks(count)
        has_metadata = has_metadata or marker in METADATA
        if marker in (APP1, APP2):
            notes.add(data[at + 2 : at + 8])
        elif marker in FRAMES:
            frame = _frame(data, at, marker, frame)
            bounds.check_size(frame.width, frame.height)
        elif marker == SOS:
            scans += 1
            bounds.check_scans(scans)
            if _is_all(data, at, frame):
                only_scan_at = at
                break
            _note_precise(data, at, frame, precise)
        elif marker == EOI:
            end = at
            break
    if frame is None:
        if end is not None:
            raise damaged()
        return None
    return ImageHeader(
        "jpeg",
        frame.width,
        frame.height,
        frame.bits,
        max(1, scans),
        count,
        end,
        has_icc=b"ICC_PR" in notes,
        has_exif=b"Exif\0\0" in notes,
        has_metadata=has_metadata,
        only_scan_at=only_scan_at,
        is_partial=not only_scan_at and any(precise.get(one) != ALL_BANDS for one in frame.components),
    )


def end_of_scan(data: bytes, at: int) -> int | None:
    """The place behind the end of an image whose last scan begins here."""
    while at < len(data):
        end = data.find(b"\xff\xd9", at, at + PIECE_BYTES + 1)
        if end >= 0:
            return end + 2
        at += PIECE_BYTES
    return None


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker, and the place behind it, where the length of its segment is. Coded data is passed over.

    Raises ImageDecodeFailed.
    """
    at, size, search = 2, len(data), _MARKER.search
    while found := search(data, at, at + NEAR_BYTES + 1) or _far(data, at + NEAR_BYTES):
        at = found.end()
        marker = data[at - 1]
        if marker in ALONE:
            yield marker, at
            continue
        length = int.from_bytes(data[at : at + 2])
        if at + max(2, length) > size:
            return
        if length < 2:
            raise damaged()
        yield marker, at
        at += length


def _far(data: bytes, at: int) -> re.Match[bytes] | None:
    """The next marker, whatever stands before it. The pieces grow, so that all of them take a time that is linear in
    what stands before it."""
    at, size = _behind_padding(data, at), NEAR_BYTES
    while at < len(data):
        if found := _within(data, at, at + size + 1):
            return found
        at += size
        size = min(4 * size, MOST_SORTED_BYTES)
    return None


def _behind_padding(data: bytes, at: int) -> int:
    """The last FF of those that begin here."""
    for padding in _PADDING:
        while data.startswith(padding, at + 1):
            at += len(padding)
    return at


def _within(data: bytes, at: int, end: int) -> re.Match[bytes] | None:
    if data.count(b"\xff", at, end) * USUAL_DISTANCE < end - at:
        return _MARKER.search(data, at, end)
    place = data[at:end].translate(_KINDS).find(b"\xff\x01")
    return None if place < 0 else _MARKER.match(data, at + place)


def _frame(data: bytes, at: int, marker: int, earlier: _Frame | None) -> _Frame:
    if earlier is not None:
        raise ImageDecodeFailed("the JPEG has two frame headers")
    body = data[at : at + 8]
    if int.from_bytes(body[:2]) < 8:
        raise damaged()
    height, width = int.from_bytes(body[3:5]), int.from_bytes(body[5:7])
    components = data[at + 8 : at + 8 + 3 * body[7] : 3]
    return _Frame(body[2], height, width, components, marker in PROGRESSIVE)


def _is_all(data: bytes, at: int, frame: _Frame | None) -> bool:
    """Whether a decoder is done after this scan: it has all components, in full precision."""
    if frame is None:
        raise damaged()
    return not frame.is_progressive and data[at + 2 : at + 3] == len(frame.components).to_bytes()


def _note_precise(data: bytes, at: int, frame: _Frame | None, precise: dict[int, int]) -> None:
    """Note for each component of this scan the bands to which nothing is left to be added, a bit for each."""
    behind = at + 3 + 2 * int.from_bytes(data[at + 2 : at + 3])
    bands = ALL_BANDS
    if frame is not None and frame.is_progressive:
        first, last, shifts = data[behind : behind + 3].ljust(3, b"\1")
        bands = (2 << last) - (1 << first) if first <= last < 64 and not shifts & 15 else 0
    for component in data[at + 3 : behind : 2]:
        precise[component] = precise.get(component, 0) | bands
