"""The blocks of a GIF (GIF89a specification, CompuServe 1990)."""

import struct
from collections.abc import Iterator

from penstock.pixels.headers.header import ImageBounds, ImageHeader, damaged

EXTENSION, FRAME, TRAILER = 0x21, 0x2C, 0x3B
COMMENT, TEXT, APPLICATION, CONTROL = 0xFE, 0x01, 0xFF, 0xF9

_screen_of = struct.Struct("<HHB").unpack_from
_frame_of = struct.Struct("<HHHHB").unpack_from

SUB_BLOCKS = 8
"""As many parts of the data of a frame count as one chunk: each has 255 bytes."""


def read_gif(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of a GIF; None when the bytes end before its first frame. Blocks behind the second frame are not
    looked at. Raises ImageTooLarge, ImageAnimated, ImageDecodeFailed."""
    if len(data) < 13:
        return None
    width, height, flags = _screen_of(data, 6)
    frames, has_metadata, has_alpha, end = 0, False, False, None
    for kind, at in _blocks(data, 13 + _table_bytes(flags), bounds):
        if kind == TRAILER:
            end = at
        elif kind == FRAME:
            frames += 1
            bounds.check_frames(frames)
            if frames > 1:
                break
            left, top, columns, rows, _ = _frame_of(data, at)
            has_alpha = has_alpha or (columns, rows) != (width, height)  # around a smaller frame nothing is drawn
            width, height = max(width, left + columns), max(height, top + rows)
            bounds.check_size(columns, rows)
            bounds.check_size(width, height)
        elif data[at] in (COMMENT, TEXT):
            has_metadata = True
        elif data[at] == CONTROL:  # its first flag: one colour is transparent
            has_alpha = has_alpha or bool(data[at + 2 : at + 3] and data[at + 2] & 1)
    if not frames:
        if end is not None:
            raise damaged()
        return None
    return ImageHeader("gif", width, height, end=end, has_alpha=has_alpha, has_metadata=has_metadata, frames=frames)


def _blocks(data: bytes, at: int, bounds: ImageBounds) -> Iterator[tuple[int, int]]:
    """The kind of each block, and the place behind its kind."""
    chunks = 0
    while at < len(data):
        kind = data[at]
        head = {EXTENSION: 2, FRAME: 10, TRAILER: 1}.get(kind)
        if head is None:
            raise damaged()
        if at + head > len(data):
            return
        yield kind, at + 1
        if kind == TRAILER:
            return
        if kind == FRAME:
            head += _table_bytes(data[at + 9]) + 1  # the size of a code
        at, parts = _behind_parts(data, at + head, bounds)
        chunks += 1 + parts // SUB_BLOCKS
        bounds.check_chunks(chunks)


def _behind_parts(data: bytes, at: int, bounds: ImageBounds) -> tuple[int, int]:
    """The place behind the parts of a block, and how many there are."""
    parts = 0
    while at < len(data) and data[at]:
        at += 1 + data[at]
        parts += 1
        if parts > SUB_BLOCKS * bounds.chunks:
            bounds.check_chunks(parts)
    return at + 1, parts


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
