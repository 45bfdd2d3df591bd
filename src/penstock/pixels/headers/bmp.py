"""The two headers of a BMP (MSDN, Bitmap Storage)."""

import struct

from penstock.pixels.headers.header import ImageBounds, ImageHeader, damaged, not_unpacked

CORE_BYTES, LEAST_INFO_BYTES = 12, 40
"""The size of the oldest header, whose sides have 16 bits, and of the others, which begin alike."""

_core_of = struct.Struct("<HHHH").unpack_from
_info_of = struct.Struct("<iiHHI").unpack_from

PLAIN = frozenset({0, 3, 6})
"""The kinds of compression without run lengths, which a decoder takes minutes for: none, and two with masks."""


def read_bmp(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of a BMP; None when the bytes end before it. Raises ImageTooLarge, ImageDecodeFailed."""
    if len(data) < 18:
        return None
    size = int.from_bytes(data[14:18], "little")
    if size != CORE_BYTES and size < LEAST_INFO_BYTES:
        raise damaged()
    if len(data) < 14 + size:
        return None
    if size == CORE_BYTES:
        width, height, _, bits = _core_of(data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = _info_of(data, 18)
    bounds.check_size(max(0, width), abs(height))
    if compression not in PLAIN:
        raise not_unpacked("BMP")
    row_bytes = (width * bits + 31) // 32 * 4
    end = max(14 + size, int.from_bytes(data[10:14], "little")) + row_bytes * abs(height)
    return ImageHeader(
        "bmp",
        width,
        abs(height),
        min(8, bits),
        end=end if end <= len(data) else None,
        has_alpha=bits == 32 and compression > 0,
    )
