"""What a worker and a child that decodes say to one another: one message for an image, and one in answer.

The image and its pixels are in a file in memory: first the pixels (`rgb`, then `alpha`), 4 samples for each, and the
profile where colours are kept, then the bytes of the image. The file comes with the message, unless it is the one of
the job before.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Self

from msgspec.structs import astuple

from penstock.pixels.headers.header import broken, not_unpacked, truncated
from penstock.pixels.picture import USUAL, PixelForm

MOST_MESSAGE_BYTES = 64

KEPT_BYTES = 64 * 1024**2
"""The largest file that both sides keep for the next image, of 16 megapixels: new pages take as long as the copy into
them twice over, 15 ms for 32 MB."""

FORMATS: Sequence[str] = ("png", "jpeg", "webp", "gif", "tiff", "bmp", "avif")

_JOB = struct.Struct("<BQQQ???")
_ANSWER = struct.Struct("<BII??B?I")


class DecodeOutcome(IntEnum):
    """How a job has ended."""

    DECODED = 0
    DAMAGED = 1
    OUT_OF_MEMORY = 2
    TRUNCATED = 3
    NOT_UNPACKED = 4


FAULTS: dict[int, str] = {
    DecodeOutcome.DAMAGED: broken().detail,
    DecodeOutcome.OUT_OF_MEMORY: "decoding the image takes more memory than an image of this size may",
    DecodeOutcome.TRUNCATED: truncated().detail,
    DecodeOutcome.NOT_UNPACKED: not_unpacked("image").detail,
}


class Job(NamedTuple):
    """An image of this format and so many bytes, whose bytes begin at this place of a file of `file_size` bytes, and
    how its pixels are wanted."""

    form: str
    at: int
    size: int
    file_size: int
    wanted: PixelForm = USUAL

    def packed(self) -> bytes:
        return _JOB.pack(FORMATS.index(self.form), *self[1:4], *astuple(self.wanted))

    @classmethod
    def of(cls, message: bytes) -> Self:
        form, at, size, file_size, *wanted = _JOB.unpack(message)
        return cls(FORMATS[form], at, size, file_size, PixelForm(*wanted))


class Decoded(NamedTuple):
    """What is in the file now; `notes` as `pixels.notes.bits_of` packs them."""

    outcome: int
    width: int = 0
    height: int = 0
    has_alpha: bool = False
    is_grey: bool = False
    notes: int = 0
    is_16_bits: bool = False
    profile_bytes: int = 0

    def packed(self) -> bytes:
        return _ANSWER.pack(*self)

    @classmethod
    def of(cls, message: bytes) -> Self:
        """Raises ValueError for a message of another form."""
        try:
            return cls(*_ANSWER.unpack(message))
        except struct.error as error:
            raise ValueError("not an answer") from error
