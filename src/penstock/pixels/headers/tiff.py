"""The first directory of a TIFF (TIFF 6.0, Adobe 1992)."""

import struct
from typing import NamedTuple

from penstock.pixels.headers.header import ImageBounds, ImageHeader, damaged, not_unpacked

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
STRIPS, SAMPLES, STRIP_ROWS, PLANES, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES = 273, 277, 278, 284, 317, 322, 323, 324
EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, IPTC, PHOTOSHOP = 338, 339, 700, 33723, 34377
EXIF, PROFILE, GPS = 34665, 34675, 34853
TEXTS = frozenset({269, 270, 271, 272, 305, 306, 315, 33432, XMP, IPTC, PHOTOSHOP, EXIF, GPS})
"""Places, names and descriptions of what was taken, by whom, when and with what."""

UNSIGNED = 1

MOST_ENTRIES = 4096
"""Of a directory; those of cameras have up to 100."""

PACKED = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""What is unpacked: nothing, fax, LZW, JPEG, deflate and PackBits."""

SEPARATE = 2
"""The value of PLANES where each sample has parts of its own."""


class Entry(NamedTuple):
    """Of an entry of the directory the first number, 0 where it has none that counts here, and how many there are."""

    first: int
    length: int


NONE = Entry(0, 0)


class Directory(NamedTuple):
    """The order of bytes as `struct` names it, where the first entry is, and how many there are, of 12 bytes each."""

    order: str
    at: int
    entries: int


SIZES = {3: 2, 4: 4}
"""The bytes of a number of each type that counts here: short and long."""


def read_tiff(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of the first page of a TIFF; None when the bytes end before its directory, which may stand at the end
    of the file. Raises ImageTooLarge, ImageDecodeFailed."""
    directory = directory_of(data)
    if directory is None:
        return None
    tags, behind = tags_in(data, directory), directory.at + 12 * directory.entries
    width, height = (tags[tag].first if tags.get(tag, NONE).length == 1 else 0 for tag in (WIDTH, HEIGHT))
    bits = value_of(tags, BITS, 1)
    bounds.check_size(width, height)
    is_usual = value_of(tags, COMPRESSION, 1) in PACKED and value_of(tags, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED
    if not is_usual or bits > 16:
        raise not_unpacked("TIFF")
    return ImageHeader(
        "tiff",
        width,
        height,
        16 if bits > 8 else 8,
        chunks=directory.entries,
        has_icc=PROFILE in tags,
        has_exif=value_of(tags, ORIENTATION, 1) != 1,
        has_alpha=EXTRA_SAMPLES in tags,
        has_metadata=not TEXTS.isdisjoint(tags),
        frames=2 if any(data[behind : behind + 4]) else 1,
        is_partial=_parts(tags, width, height) > max(tags.get(STRIPS, NONE).length, tags.get(TILES, NONE).length),
    )


def directory_of(data: bytes) -> Directory | None:
    """The first directory of a TIFF; None when the bytes end before its end. Raises ImageDecodeFailed."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return None
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at < 8:
        raise damaged()
    if at + 2 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, at)
    if count > MOST_ENTRIES:
        raise damaged()
    return Directory(order, at + 2, count) if at + 2 + 12 * count <= len(data) else None


def _parts(tags: dict[int, Entry], width: int, height: int) -> int:
    """How many strips or tiles make the image."""
    if TILE_WIDTH in tags:
        across, down = value_of(tags, TILE_WIDTH, 0), value_of(tags, TILE_HEIGHT, 0)
        parts = -(-width // max(1, across)) * -(-height // max(1, down))
    else:
        parts = -(-height // max(1, value_of(tags, STRIP_ROWS, height)))
    return parts * (value_of(tags, SAMPLES, 1) if value_of(tags, PLANES, 1) == SEPARATE else 1)


def value_of(tags: dict[int, Entry], tag: int, usual: int) -> int:
    """The first number of an entry, or what is meant where there is none."""
    return tags[tag].first if tag in tags else usual


def tags_in(data: bytes, directory: Directory) -> dict[int, Entry]:
    """The entries of a directory by their tags."""
    order, at, count = directory
    tags: dict[int, Entry] = {}
    for place in range(at, at + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, place)
        if tag not in tags:
            tags[tag] = Entry(_first(data, order, place + 8, kind, length), length)
    return tags


def _first(data: bytes, order: str, at: int, kind: int, length: int) -> int:
    size = SIZES.get(kind)
    if size is None or not length:
        return 0
    if size * length > 4:
        (at,) = struct.unpack_from(order + "I", data, at)
    form = order + ("H" if size == 2 else "I")
    return int(struct.unpack_from(form, data, at)[0]) if at + size <= len(data) else 0
