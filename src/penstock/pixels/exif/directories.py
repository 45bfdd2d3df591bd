"""A block of EXIF (CIPA DC-008, TIFF 6.0) with what is true of a result, and nothing else.

Only what describes the photo is copied, value by value, into a new block: no orientation, size, colour space, preview
or maker's note, which are of another file, and no tag that is not in the lists below. Nothing is decoded.
"""

import struct
from collections.abc import Mapping

from msgspec import Struct

EXIF_IFD, GPS_IFD = 34665, 34853

OF_IMAGE = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)})
"""Description, camera, resolution, software, date, artist, rating, copyright, and what Windows writes of these."""

OF_EXPOSURE = frozenset(
    {33434, 33437, 34850, 34852, 34855, *range(34864, 34870), 36864, 36867, 36868, *range(36880, 36883)}
    | {*range(37377, 37387), 37510, *range(37520, 37523), 41483, *range(41486, 41489), 41493, 41495}
    | {*range(41985, 41995), 42016, *range(42032, 42038), 42240}
)
"""Exposure, lens, moment, comment and owner. Places of a subject in the image are not among them."""

OF_PLACE = frozenset(range(32))

XRESOLUTION, YRESOLUTION, RESOLUTION_UNIT, INCH = 282, 283, 296, 2

VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Type of a value -> its bytes."""

MOST_ENTRIES, MOST_VALUE_BYTES, MOST_BYTES = 512, 16 * 1024, 60_000
"""What is read of a directory and of a value, and what a block has at most: a segment of a JPEG has 65,533 bytes."""


class ExifEntry(Struct, frozen=True):
    """One value, or several: its type, how many there are, and their bytes in the order of the block."""

    kind: int
    count: int
    data: bytes


Directory = dict[int, ExifEntry]


def rewritten(block: bytes, *, keep_location: bool = False, dpi: int | None = None) -> bytes:
    """The block that a result may have, which may be of a whole TIFF; `dpi` takes the place of its resolution. Empty
    where nothing is left."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return b""
    main = _directory(block, order, _number(block, order, 4))
    exif = _directory(block, order, _pointer(main, order, EXIF_IFD))
    gps = _directory(block, order, _pointer(main, order, GPS_IFD)) if keep_location else {}
    kept = _kept(main, OF_IMAGE), _kept(exif, OF_EXPOSURE), _kept(gps, OF_PLACE)
    if dpi is not None:
        density = ExifEntry(5, 1, struct.pack(order + "II", dpi, 1))
        unit = ExifEntry(3, 1, struct.pack(order + "H", INCH))
        kept[0].update({XRESOLUTION: density, YRESOLUTION: density, RESOLUTION_UNIT: unit})
    while _size(kept) > MOST_BYTES:
        _drop_largest(kept)
    return _block(order, *kept) if any(kept) else b""


def resolution_in(block: bytes) -> int | None:
    """The pixels per inch that a block names; None where it names none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    main = _directory(block, order, _number(block, order, 4)) if order else {}
    density, unit = main.get(XRESOLUTION), main.get(RESOLUTION_UNIT)
    if order is None or density is None or density.kind != 5 or not density.count:
        return None
    above, below = struct.unpack(order + "II", density.data[:8])
    in_cm = unit is not None and unit.data[:2] == struct.pack(order + "H", 3)
    dpi = round(above / below * (2.54 if in_cm else 1)) if below else 0
    return dpi if 0 < dpi <= 65_535 else None


def _directory(block: bytes, order: str, at: int | None) -> Directory:
    """The entries of the directory at this place; those that lie outside of the block, or are too long, are left
    out."""
    if at is None or not 8 <= at <= len(block) - 2:
        return {}
    found: Directory = {}
    (count,) = struct.unpack_from(order + "H", block, at)
    for place in range(at + 2, min(at + 2 + 12 * min(count, MOST_ENTRIES), len(block) - 11), 12):
        tag, kind, values, offset = struct.unpack_from(order + "HHII", block, place)
        size = VALUE_BYTES.get(kind, 0) * values
        begin = place + 8 if size <= 4 else offset
        if 0 < size <= MOST_VALUE_BYTES and begin + size <= len(block):
            found[tag] = ExifEntry(kind, values, block[begin : begin + size])
    return found


def _number(block: bytes, order: str, at: int) -> int | None:
    return int(struct.unpack_from(order + "I", block, at)[0]) if at + 4 <= len(block) else None


def _pointer(directory: Directory, order: str, tag: int) -> int | None:
    entry = directory.get(tag)
    return _number(entry.data, order, 0) if entry is not None and entry.kind == 4 else None


def _kept(directory: Directory, tags: frozenset[int]) -> Directory:
    return {tag: entry for tag, entry in directory.items() if tag in tags}


def _size(directories: tuple[Directory, ...]) -> int:
    return sum(12 + len(entry.data) for directory in directories for entry in directory.values())


def _drop_largest(directories: tuple[Directory, ...]) -> None:
    largest = max(directories, key=lambda directory: max((len(e.data) for e in directory.values()), default=-1))
    del largest[max(largest, key=lambda tag: len(largest[tag].data))]


def _block(order: str, main: Directory, exif: Directory, gps: Directory) -> bytes:
    below = {tag: directory for tag, directory in ((EXIF_IFD, exif), (GPS_IFD, gps)) if directory}
    places = dict.fromkeys(below, 0)
    for _ in range(2):  # the first round tells where each will be
        whole = _written(order, main | _pointers(order, places), 8)
        for tag, directory in below.items():
            places[tag] = 8 + len(whole)
            whole += _written(order, directory, places[tag])
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + whole


def _pointers(order: str, places: Mapping[int, int]) -> Directory:
    return {tag: ExifEntry(4, 1, struct.pack(order + "I", place)) for tag, place in places.items()}


def _written(order: str, directory: Directory, at: int) -> bytes:
    """A directory that begins at this place, with its values behind it."""
    entries, values = b"", b""
    behind = at + 2 + 12 * len(directory) + 4
    for tag, entry in sorted(directory.items()):
        entries += struct.pack(order + "HHI", tag, entry.kind, entry.count)
        if len(entry.data) <= 4:
            entries += entry.data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", behind + len(values))
            values += entry.data + b"\0" * (len(entry.data) % 2)
    return struct.pack(order + "H", len(directory)) + entries + bytes(4) + values
