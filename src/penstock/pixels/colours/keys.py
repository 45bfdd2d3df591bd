"""The one colour of a PNG that is transparent (its chunk tRNS), in the values that the decoded pixels have.

Pillow gives the key in the bits of the file, and the pixels in 8: a grey of 2 or 4 bits is spread to 0..255, and of a
colour of 16 bits only the upper byte is left, in which other colours may be the same.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFile

from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

SPREAD: dict[Any, int] = {"L;2": 255 // 3, "L;4": 255 // 15}
"""The values of one step, by the form in which Pillow reads the rows."""

UPPER, LOWER = "RGB;16B", "RGB;16L"
"""The forms that read the upper bytes of big-endian samples, and, though made for little-endian ones, the lower."""


def with_exact_key(image: Image.Image, data: bytes) -> Image.Image:
    """An image that was opened and not loaded, with its transparent colour in the values of its pixels; one of 16 bits
    in three channels with an alpha in its place. `data` is its file."""
    key, form = image.info.get("transparency"), form_of(image)
    if isinstance(key, int) and form in SPREAD:
        image.info["transparency"] = key % (255 // SPREAD[form] + 1) * SPREAD[form]
    elif isinstance(key, int) and image.mode == "L":
        image.info["transparency"] = key % 256
    elif isinstance(key, tuple) and form == UPPER:
        return _with_alpha(image, data, key)
    elif isinstance(key, tuple):
        image.info["transparency"] = tuple(level % 256 for level in key)
    return image


def form_of(image: Image.Image) -> Any:
    """The form in which Pillow reads the rows of an image that is not loaded."""
    return image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else None


def _with_alpha(image: Image.Image, data: bytes, key: tuple[int, ...]) -> Image.Image:
    upper, lower = np.asarray(image), np.asarray(read_as(data, LOWER))
    levels = upper.astype(np.uint16) << 8 | lower
    opaque = (levels != np.array(key, np.uint16)).any(axis=2)
    exact = image.copy()
    exact.putalpha(Image.fromarray(opaque.astype(np.uint8) * np.uint8(255)))
    del exact.info["transparency"]
    return exact


def read_as(data: bytes, form: str) -> Image.Image:
    """A PNG whose rows are read in this form of Pillow, which is of the same length."""
    image = Image.open(io.BytesIO(data), formats=("png",))
    assert isinstance(image, ImageFile.ImageFile)  # noqa: S101  it was opened from a file
    image.tile = [tile._replace(args=form) for tile in image.tile]
    return image
