"""Writes the PNG of an image whose rows come from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from penstock.core.output import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.pixels.encoding import png_chunks
from penstock.pixels.picture import Pixels
from penstock.pixels.png.stream import PngStream
from penstock.pixels.resampling import resized_rows
from penstock.pixels.row_canvas import RowCanvas

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

STEP_BYTES = 32 * 2**20
"""Bytes of pixels that one call encodes: a tenth of a second, after which a thread may do something else."""


class RowWriter:
    """Encodes the rows of a canvas as they are completed. A smaller `alpha` is resampled bicubically; of a `grey` image
    only the luma is kept."""

    def __init__(
        self, canvas: RowCanvas, options: OutputOptions, *, alpha: Pixels | None = None, grey: bool = False
    ) -> None:
        self._canvas = canvas
        self._alpha = alpha
        self._grey = grey
        channels = (1 if grey else 3) + (alpha is not None)
        self._stream = PngStream(*canvas.size, channels=channels, chunks=png_chunks(options))

    @property
    def is_ready(self) -> bool:
        """Whether `write` would encode something."""
        return self._canvas.taken < self._canvas.complete

    def write(self) -> bytes:
        """Encode some rows that are complete. Returns the next bytes of the file."""
        return b"".join(self._stream.write(self._samples(band)) for band in self._canvas.take(STEP_BYTES))

    def finish(self) -> bytes:
        """Return the last bytes, once all rows were written."""
        return self._stream.finish()

    def _samples(self, band: Pixels) -> Pixels:
        if not self._grey and self._alpha is None:
            return band
        colours = np.asarray(Image.fromarray(band).convert("L")) if self._grey else band
        if self._alpha is None:
            return colours
        rows = range(self._canvas.taken, self._canvas.taken + len(band))
        return np.dstack([colours, resized_rows(self._alpha, *self._canvas.size, rows)])
