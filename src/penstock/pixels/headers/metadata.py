"""A PNG without the chunks that no pixel needs, so that none of them decides whether an image can be decoded."""

import zlib
from collections.abc import Iterator, Sequence

from penstock.pixels.headers.header import broken
from penstock.pixels.headers.png import FIRST_CHUNK, head_of

CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
"""Without these there are no pixels, or wrong ones."""

USED: dict[bytes, int | None] = {
    b"tRNS": None,
    b"iCCP": None,
    b"eXIf": None,
    b"cICP": 4,
    b"sRGB": 1,
    b"gAMA": 4,
    b"cHRM": 32,
}
"""What else is used, and its length where only one is right: transparency, colour profile, orientation, and what the
values mean where there is no profile."""

MOST_PROFILE_BYTES = 1024 * 1024
"""The longest colour profile. Those of cameras and printers have up to 600 KiB, and Pillow refuses larger ones."""

MOST_NAME_BYTES = 80
DEFLATE = b"\0"

COLOUR_TYPE_AT = 25
KEY_BYTES: dict[int, Sequence[int]] = {0: (2,), 2: (6,), 3: range(1, 257)}
"""The lengths that a tRNS may have, by the colour type of the header."""


def without_metadata(data: bytes) -> bytes:
    """The PNG without texts, times, previews and the like. A chunk that is used is left out when its checksum or its
    length is wrong, and a colour profile when it is longer than a MiB. `data` itself where nothing is left out.

    Raises ImageDecodeFailed for a wrong checksum of what makes the pixels.
    """
    kept = list(_kept(data))
    return data if len(kept) == 1 else b"".join(kept)


def code_points_of(data: bytes) -> bytes | None:
    """The four bytes of a chunk cICP (ITU-T H.273) before the pixels of a PNG from which metadata was taken; None where
    there is none."""
    for kind, at, length in _chunks(data):
        if kind == b"cICP":
            return data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            return None
    return None


def data_of(data: bytes) -> Iterator[memoryview]:
    """The compressed data of the pixels, chunk by chunk; the last may be cut off."""
    for kind, at, length in _chunks(data):
        if kind == b"IDAT":
            yield memoryview(data)[at + 8 : at + 8 + length]


def breaks_off(data: bytes) -> bool:
    """Whether a chunk of the pixels is not all there, so that no checksum tells what is."""
    return any(kind == b"IDAT" and at + 12 + length > len(data) for kind, at, length in _chunks(data))


def with_data(data: bytes, packed: bytes) -> bytes:
    """The PNG with this in place of the compressed data of its pixels."""
    places = [(at, at + 12 + length) for kind, at, length in _chunks(data) if kind == b"IDAT"]
    body = b"IDAT" + packed
    chunk = len(packed).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    return data[: places[0][0]] + chunk + data[places[-1][1] :]


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, its place, and the length of its data."""
    at = FIRST_CHUNK
    while at + 8 <= len(data):
        length, kind = head_of(data, at)
        yield kind, at, length
        if kind == b"IEND":
            return
        at += 12 + length


def _kept(data: bytes) -> Iterator[memoryview]:
    """The parts between the chunks that are left out."""
    whole, begin, colour_type = memoryview(data), 0, int.from_bytes(data[COLOUR_TYPE_AT : COLOUR_TYPE_AT + 1])
    for kind, at, length in _chunks(data):
        behind = at + 12 + length
        if kind in CRITICAL:
            if behind <= len(data) and not _is_intact(whole[at:behind]):
                raise broken()
        elif not (kind in USED and _is_sound(whole[at:behind], kind, colour_type)):
            yield whole[begin:at]
            begin = behind
    yield whole[begin:]


def _is_intact(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def _is_sound(chunk: memoryview, kind: bytes, colour_type: int) -> bool:
    length = len(chunk) - 12
    if not _is_intact(chunk) or USED[kind] not in (None, length):
        return False
    if kind == b"tRNS":
        return length in KEY_BYTES.get(colour_type, ())
    return kind != b"iCCP" or _is_short_profile(bytes(chunk[8:-4]))


def _is_short_profile(body: bytes) -> bool:
    name_bytes = body.find(b"\0", 0, MOST_NAME_BYTES)
    method, packed = body[name_bytes + 1 : name_bytes + 2], body[name_bytes + 2 :]
    if method != DEFLATE:
        return False
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, MOST_PROFILE_BYTES)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail
