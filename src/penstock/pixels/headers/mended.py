"""A JPEG without what a strict decoder stumbles over although no pixel is missing."""

from collections.abc import Iterator

from penstock.pixels.headers.jpeg import EOI, FRAMES, PROGRESSIVE, SOS, segments

APP0, APP14 = 0xE0, 0xEE
NEEDED = FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, SOS, APP0, APP14}
"""Frames, scans, their tables and restarts, and the two segments that say which colours there are."""

BANDS_OF_ALL = bytes([0, 63, 0])
"""The end of the header of each scan that is not progressive (ITU-T T.81, table B.3). Some phones write others."""

JFIF, ADOBE = b"JFIF\0", b"Adobe"
JFIF_BYTES, ADOBE_BYTES = 18, 16
"""How long these segments are, at least."""


def mended(data: bytes) -> bytes:
    """The segments that a decoder needs, and the scans: without bytes between segments, without metadata, and with an
    end. The same pixels come out."""
    return b"\xff\xd8" + b"".join(_needed(data)) + b"\xff\xd9"


def _needed(data: bytes) -> Iterator[bytes]:
    scan_at, is_progressive = None, False
    for marker, at in segments(data):
        if scan_at is not None:
            yield data[scan_at : at - 2]
            scan_at = None
        if marker == EOI:
            return
        if marker not in NEEDED:
            continue
        is_progressive = is_progressive or marker in PROGRESSIVE
        behind = at + int.from_bytes(data[at : at + 2])
        yield _right(marker, data[at - 2 : behind], is_progressive=is_progressive)
        scan_at = behind if marker == SOS else None
    if scan_at is not None:
        yield data[scan_at:]


def _right(marker: int, segment: bytes, *, is_progressive: bool) -> bytes:
    if marker == SOS and not is_progressive:
        return segment[:-3] + BANDS_OF_ALL
    if marker == APP0:
        return segment[:9] + b"\x01\x01" + segment[11:] if segment[4:9] == JFIF and len(segment) >= JFIF_BYTES else b""
    if marker == APP14:
        return segment if segment[4:9] == ADOBE and len(segment) >= ADOBE_BYTES else b""
    return segment
