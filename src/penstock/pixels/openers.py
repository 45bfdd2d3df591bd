"""Opens files of each format, each by its own decoder alone, and sets right what Pillow makes of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

from PIL import Image, ImageFile

from penstock.pixels.headers import ImageBounds
from penstock.pixels.headers.avif import avif_code_points
from penstock.pixels.jpegs import open_jpeg
from penstock.pixels.pngs import open_png
from penstock.pixels.tiffs import open_tiff


def _by_pillow(form: str, data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=(form,))


def _open_avif(data: bytes) -> Image.Image:
    image, code_points = _by_pillow("avif", data), avif_code_points(data, ImageBounds())
    if code_points and "icc_profile" not in image.info:
        image.info["cicp"] = code_points
    return image


def _open_bmp(data: bytes) -> Image.Image:
    image = _by_pillow("bmp", data)
    # Many programs leave the fourth byte 0 and say that it is an alpha: browsers show such an image.
    has_no_alpha = image.mode == "RGBA" and not image.getchannel("A").getbbox()
    return image.convert("RGB") if has_no_alpha else image


def _open_gif(data: bytes) -> Image.Image:
    image = _by_pillow("gif", data)
    assert isinstance(image, ImageFile.ImageFile)  # noqa: S101  it was opened from a file
    frame = image.tile[0].extents
    if "transparency" in image.info or frame == (0, 0, *image.size):
        return image
    # Nothing is drawn around a smaller frame: browsers show what is behind it, Pillow the first colour.
    drawn = Image.new("L", image.size)
    drawn.paste(255, frame)
    image = image.convert("RGB")
    image.putalpha(drawn)
    return image


OPENERS: dict[str, Callable[[bytes], Image.Image]] = {
    "png": open_png,
    "jpeg": open_jpeg,
    "avif": _open_avif,
    "tiff": open_tiff,
    "bmp": _open_bmp,
    "gif": _open_gif,
    "webp": partial(_by_pillow, "webp"),
}
"""Format -> what opens a file of it: its image, which need not be loaded. Each raises what Pillow raises."""
