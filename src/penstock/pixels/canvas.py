"""A canvas: the image that a result is joined in."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from PIL import Image, ImageFile

from penstock.core.request import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.pixels.encoding import written
from penstock.pixels.picture import Pixels
from penstock.pixels.pillow import core
from penstock.pixels.resampling import resize

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


class Canvas:
    """An RGB image that is written in pieces. Threads may write different parts of it at a time.

    It has the form that the encoders read, 4 bytes a pixel, so that no second copy of the whole is ever made. It takes
    memory from the first piece on.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._lock = Lock()
        self._made: Image.Image | None = None

    @property
    def _image(self) -> Image.Image:
        with self._lock:
            if self._made is None:
                # Kept memory has old pixels, which Pillow clears under the interpreter's lock if no colour is given.
                self._made = Image.new("RGB", self.size, 0 if core.get_blocks_max() else None)
            return self._made

    @property
    def pixels(self) -> Pixels:
        """A copy of all pixels, (height, width, 3)."""
        return np.asarray(self._image)

    def put(self, left: int, top: int, pixels: Pixels) -> None:
        """Write a part, (height, width, 3), with its upper left corner at this place. Rows may lie apart in memory; a
        pixel that does not lie in one piece costs a copy."""
        height, width = pixels.shape[:2]
        if pixels.strides[1:] != (3, 1) or pixels.strides[0] < 3 * width:
            pixels = np.ascontiguousarray(pixels)
        # The form of the canvas is made in place, in one pass and without the interpreter's lock (1,750 MP/s a core).
        # `paste` wants an image in that form first (1,000 MP/s).
        row_bytes = pixels.strides[0]
        rows = np.lib.stride_tricks.as_strided(pixels, ((height - 1) * row_bytes + 3 * width,), (1,))
        decoder = ImageFile.PyDecoder("RGB")
        decoder.setimage(self._image.im, (left, top, left + width, top + height))
        decoder.set_as_raw(rows.data, "RGB", (row_bytes, 1))  # type: ignore[arg-type]  # it takes any buffer

    def encode(
        self, options: OutputOptions, *, alpha: Pixels | None = None, grey: bool = False, profile: bytes | None = None
    ) -> bytes:
        """Encode as the function `encode` does. A smaller `alpha` is resampled bicubically. The canvas must not be used
        after that: it is changed in place."""
        image = self._image.convert("L") if grey else self._image
        if alpha is not None:
            image.putalpha(Image.fromarray(resize(alpha, *self.size)))
        return written(image, options, profile)
