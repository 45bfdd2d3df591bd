"""The boxes of an AVIF (ISO/IEC 14496-12 and 23008-12), as far as they tell of its primary image."""

import struct
from collections.abc import Iterator

from penstock.pixels.headers.header import HOLE, ImageBounds, ImageHeader, damaged

PRIMARY, PROPERTIES, LIST, LINKS = b"pitm", b"iprp", b"ipco", b"ipma"
TURNS = frozenset({b"irot", b"imir"})
SEQUENCE = b"avis"
OPACITY = b"auxiliary:alpha\0"
"""How the name of an auxiliary image that is an alpha ends."""

WIDE, HIGH_RANGE = frozenset({9, 11, 12}), frozenset({16, 18})
"""Numbers of H.273: the primaries of BT.2020 and of Display P3, and the transfers of PQ and HLG."""

ITEMS, PLACES, EXIF_TYPE = b"iinf", b"iloc", b"Exif"

WIDE_LINKS = 1
"""The flag of links with 15 bits for a property, not 7."""

MOST_PROPERTIES = 1000

_head_of = struct.Struct(">I4s").unpack_from

Box = tuple[bytes, int, int]
"""Its type, and where its content begins and ends."""


def read_avif(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of an AVIF; None when the bytes end before its description. Raises ImageTooLarge, ImageAnimated,
    ImageDecodeFailed."""
    frames = 2 if data[8:12] == SEQUENCE else 1
    bounds.check_frames(frames)
    meta = _first(b"meta", _boxes(data, 0, len(data), bounds))
    if meta is None:
        return None
    _, begin, end = meta
    if end > len(data):
        return None
    properties = _primary_properties(data, begin + 4, end, bounds)
    size = _first(b"ispe", iter(properties))
    if size is None or size[1] + 12 > size[2]:
        raise damaged()
    width, height = _number(data, size[1] + 4, 4), _number(data, size[1] + 8, 4)
    bounds.check_size(width, height)
    kinds = {kind for kind, _, _ in properties}
    has_metadata = data.find(b"Exif", begin, end) >= 0 or data.find(b"mime", begin, end) >= 0
    return ImageHeader(
        "avif",
        width,
        height,
        has_icc=any(kind == b"colr" and data[at : at + 4] in (b"prof", b"rICC") for kind, at, _ in properties),
        has_exif=not TURNS.isdisjoint(kinds),
        has_metadata=has_metadata,
        has_alpha=data.find(OPACITY, begin, end) >= 0,
        frames=frames,
        # Exif, which may stand behind the pixels, may end in zeros.
        is_partial=not has_metadata and data.endswith(HOLE),
    )


def avif_code_points(data: bytes, bounds: ImageBounds) -> bytes | None:
    """What the values of an AVIF mean, as the four bytes of a PNG's cICP (ITU-T H.273): where they are of a wide gamut
    or a high dynamic range. None for all others, which are shown as sRGB. Raises as `read_avif` does."""
    meta = _first(b"meta", _boxes(data, 0, len(data), bounds))
    if meta is None:
        return None
    for kind, at, _ in _primary_properties(data, meta[1] + 4, meta[2], bounds):
        if kind == b"colr" and data[at : at + 4] == b"nclx":
            primaries, transfer = _number(data, at + 4, 2), _number(data, at + 6, 2)
            if primaries in WIDE or transfer in HIGH_RANGE:
                return bytes([primaries & 0xFF, transfer & 0xFF, 0, 1])
    return None


def avif_exif(data: bytes, bounds: ImageBounds) -> bytes:
    """The block of EXIF that an AVIF has, as it is in a JPEG behind `Exif`; empty where there is none, or where it is
    not written in one piece. Raises as `read_avif` does."""
    meta = _first(b"meta", _boxes(data, 0, len(data), bounds))
    inside = _inside(data, meta[1] + 4, meta[2], bounds) if meta else []
    items, places = _first(ITEMS, iter(inside)), _first(PLACES, iter(inside))
    if items is None or places is None:
        return b""
    item = _exif_item(data, items, bounds)
    begin, length = (0, 0) if item is None else _place_of(item, data, places[1], places[2])
    stored = data[begin : begin + length]
    return stored[4 + _number(stored, 0, 4) :]  # the first number says how much stands before the block


def _exif_item(data: bytes, items: Box, bounds: ImageBounds) -> int | None:
    """The number of the item that is EXIF."""
    head = 6 if _number(data, items[1], 1) == 0 else 8
    for kind, at, _ in _inside(data, items[1] + head, items[2], bounds):
        id_bytes = 4 if _number(data, at, 1) == 3 else 2
        behind = at + 4 + id_bytes
        if kind == b"infe" and data[behind + 2 : behind + 6] == EXIF_TYPE:
            return _number(data, at + 4, id_bytes)
    return None


def _place_of(item: int, data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where an item begins, and its length: 0 unless it is one piece of the file itself."""
    version, sizes = _number(data, at, 1), _number(data, at + 4, 2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 0xF for shift in (12, 8, 4, 0))
    id_bytes, method_bytes = (4 if version == 2 else 2), (2 if version else 0)
    each = (index_bytes if version else 0) + offset_bytes + length_bytes
    at, end = at + 6 + id_bytes, min(end, len(data))
    while at < end:
        its, method = _number(data, at, id_bytes), _number(data, at + id_bytes, method_bytes) & 0xF
        at += id_bytes + method_bytes + 2
        base, pieces = _number(data, at, base_bytes), _number(data, at + base_bytes, 2)
        at += base_bytes + 2
        if its == item and pieces == 1 and method == 0:
            offset = at + each - offset_bytes - length_bytes
            return base + _number(data, offset, offset_bytes), _number(data, offset + offset_bytes, length_bytes)
        at += pieces * each
    return 0, 0


def _primary_properties(data: bytes, begin: int, end: int, bounds: ImageBounds) -> list[Box]:
    """The properties of the primary image, each once."""
    boxes = _inside(data, begin, end, bounds)
    primary, properties = _first(PRIMARY, iter(boxes)), _first(PROPERTIES, iter(boxes))
    if primary is None or properties is None:
        raise damaged()
    inside = _inside(data, properties[1], properties[2], bounds)
    listed, links = _first(LIST, iter(inside)), _first(LINKS, iter(inside))
    if listed is None or links is None:
        raise damaged()
    known = _inside(data, listed[1], listed[2], bounds)[:MOST_PROPERTIES]
    item = _number(data, primary[1] + 4, 4 if _number(data, primary[1], 1) else 2)
    wanted = _links_of(item, data, links[1], links[2])
    return [known[place - 1] for place in sorted(wanted) if 0 < place <= len(known)]


def _links_of(item: int, data: bytes, begin: int, end: int) -> set[int]:
    """The places of an item's properties in their list, from 1."""
    id_bytes = 4 if _number(data, begin, 1) else 2
    is_wide = _number(data, begin + 3, 1) & WIDE_LINKS
    at, end, found, each = begin + 8, min(end, len(data)), set[int](), 2 if is_wide else 1
    while at + id_bytes + 1 <= end:
        its, count = _number(data, at, id_bytes), data[at + id_bytes]
        at += id_bytes + 1
        if its == item:
            mask = 0x7FFF if is_wide else 0x7F
            found.update(_number(data, place, each) & mask for place in range(at, min(at + each * count, end), each))
        at += each * count
    return found


def _inside(data: bytes, at: int, end: int, bounds: ImageBounds) -> list[Box]:
    """The boxes inside of another. Raises ImageDecodeFailed where one is not."""
    boxes = list(_boxes(data, at, end, bounds))
    if any(its_end > end for _, _, its_end in boxes):
        raise damaged()
    return boxes


def _boxes(data: bytes, at: int, end: int, bounds: ImageBounds) -> Iterator[Box]:
    count, end = 0, min(end, len(data))
    while at + 8 <= end:
        count += 1
        bounds.check_chunks(count)
        size, kind = _head_of(data, at)
        head = 8
        if size == 1:
            size, head = _number(data, at + 8, 8), 16
        elif size == 0:  # to the end of the file, as only pixels may
            return
        if size < head:
            raise damaged()
        yield kind, at + head, at + size
        at += size


def _first(kind: bytes, boxes: Iterator[Box]) -> Box | None:
    return next((box for box in boxes if box[0] == kind), None)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])
