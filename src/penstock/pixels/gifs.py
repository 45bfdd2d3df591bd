"""Opens GIF: the first frame, and all of its rows."""

import io
from typing import Any

from PIL import GifImagePlugin, Image

from penstock.pixels.headers.header import truncated


def open_gif(data: bytes) -> Image.Image:
    """The first frame of a GIF. Loading it raises ImageDecodeFailed where rows are missing, which Pillow leaves as they
    were when the data ends as data should. Raises what Pillow raises."""
    return _WholeGif(data)


class _WholeGif(GifImagePlugin.GifImageFile):
    def __init__(self, data: bytes, level: int | None = None) -> None:
        """The pixels are of `level` before any are decoded."""
        self._data, self._level = data, level
        super().__init__(io.BytesIO(data))
        (left, top, right, low), is_interlaced = self.tile[0].extents, self.tile[0].args[1]  # type: ignore[misc,index]
        last = top + (low - top) // 2 * 2 - 1 if is_interlaced and low - top > 1 else low - 1
        self._last_row = (left, last, right, last + 1)

    def load_prepare(self) -> None:
        super().load_prepare()
        if self._level is not None:
            self._core.paste(self._level, (0, 0, *self.size))

    def load_end(self) -> None:
        """Where the last row has one level, it may be what was there before: another level there would show it."""
        super().load_end()
        least, most = self.last_levels()
        if self._level is None and least == most:
            again = _WholeGif(self._data, level=(least + 1) % 256)
            again.load()
            if again.last_levels() != (least, most):
                raise truncated()

    def last_levels(self) -> tuple[int, int]:
        """The least and the highest level in the row that is decoded last."""
        levels: tuple[int, int] = self._core.crop(self._last_row).getextrema()
        return levels

    @property
    def _core(self) -> Any:
        return self.im
