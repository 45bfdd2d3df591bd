"""Files in memory, by which images go to a child, and pixels come back."""

from __future__ import annotations

import mmap
import os
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl
from typing import cast
from weakref import ReferenceType, ref

from penstock.pixels.elsewhere import picture_in
from penstock.pixels.headers import ImageHeader
from penstock.pixels.headers.metadata import MOST_PROFILE_BYTES
from penstock.pixels.picture import Levels, Picture, PixelForm
from penstock.worker.decoders.exchange import Decoded, Job


class SharedFile:
    """A file of a fixed size that is mapped here, and that a child may write to."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.number = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.number, size)
            # A child that could cut the file would end this process with SIGBUS.
            fcntl(self.number, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
            self._pixels = mmap.mmap(self.number, size, prot=mmap.PROT_READ)
        except BaseException:
            self.close()
            raise
        self._lent: ReferenceType[Levels] | None = None

    def is_free(self, size: int) -> bool:
        """Whether it can take so many bytes: nobody has a picture any more that was read from it."""
        return size <= self.size and (self._lent is None or self._lent() is None)

    def put(self, data: bytes, header: ImageHeader, wanted: PixelForm) -> Job:
        """Write an image, and return the job to decode it."""
        at, written = pixel_bytes(header, wanted), 0
        while written < len(data):
            written += os.pwrite(self.number, memoryview(data)[written:], at + written)
        return Job(header.format, at, len(data), self.size, wanted)

    def picture(self, answer: Decoded) -> Picture:
        """The picture that a child has written. The file stays as it is while anybody has it."""
        picture = picture_in(self._pixels, *answer[1:])
        self._lent = ref(cast("Levels", picture.rgb.base))
        return picture

    def close(self) -> None:
        """Close it here. Pictures stay as long as anybody has them."""
        os.close(self.number)


def pixel_bytes(header: ImageHeader, wanted: PixelForm) -> int:
    """The room of the pixels of an image, also of one that has fewer bits than are wanted, and of its profile."""
    room = (8 if wanted.is_deep else 4) * header.width * header.height
    return room + (MOST_PROFILE_BYTES if wanted.keeps_colours else 0)
