"""A picture: decoded pixels in the one plain form that models see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from penstock.lazy_import import lazy_import
from penstock.pixels.notes import Note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageColor
else:
    np = lazy_import("numpy")
    Image, ImageColor = lazy_import("PIL.Image"), lazy_import("PIL.ImageColor")

Pixels: TypeAlias = "NDArray[np.uint8]"
Levels: TypeAlias = "NDArray[Any]"
"""Samples of uint8, or of uint16 where a caller asks for all bits of a file."""


BAND_ROWS = 64
"""So many rows are mixed at a time: as floats."""


class PixelForm(Struct, frozen=True):
    """How the pixels of a file are wanted: with 16 bits where it has so many, in sRGB or as they are, and all of them
    or those that are there."""

    is_deep: bool = False
    keeps_colours: bool = False
    takes_truncated: bool = False


USUAL = PixelForm()
"""8 bits, sRGB."""


class Picture(Struct, frozen=True, eq=False):
    """Decoded pixels, upright, in sRGB with 8 bits: `rgb` is (height, width, 3), `alpha` (height, width) or None.

    `grey` says that the source had one channel; `rgb` then holds it three times. `notes` tell what was done to it. Who
    asks for it by a PixelForm gets uint16 in both, or the colours of the file, and the `profile` that says what they
    are where they are not sRGB.
    """

    rgb: Levels
    alpha: Levels | None = None
    grey: bool = False
    notes: tuple[Note, ...] = ()
    profile: bytes | None = None

    def pillow(self) -> Image.Image:
        """The same pixels as an image of Pillow, in mode L or RGB, with an A where there is alpha."""
        image = Image.fromarray(self.rgb)
        if self.grey:
            image = image.convert("L")
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image


def deepened(levels: Levels) -> Levels:
    """The same in uint16; 255 becomes 65,535."""
    return levels if levels.itemsize == 2 else levels.astype(np.uint16) * np.uint16(257)


def grey(picture: Picture) -> Pixels:
    """One channel, (height, width), as it looks on a white page: the luma of ITU-R 601 where the image has colours."""
    opaque = on_white(picture)
    return opaque[..., 0] if picture.grey else np.asarray(Image.fromarray(opaque).convert("L"))


def greyed(rgb: Pixels) -> Pixels:
    """The pixels of a grey image, (height, width, 3), as encoders take its one channel: their luma, three times."""
    return np.repeat(grey(Picture(rgb))[..., None], 3, axis=2)


def on_background(picture: Picture, background: str | None) -> Picture:
    """A picture of uint16 on this CSS hex colour; itself where there is none, or nothing is transparent."""
    if picture.alpha is None or background is None:
        return picture
    colour = np.array(ImageColor.getrgb(background), np.float32) * np.float32(257)
    made = np.empty_like(picture.rgb)
    for top in range(0, len(made), BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        opacity = picture.alpha[band, :, None] / np.float32(65_535)
        made[band] = np.rint(picture.rgb[band] * opacity + colour * (1 - opacity))
    return Picture(made, grey=picture.grey and len(set(colour.tolist())) == 1, profile=picture.profile)


def on_white(picture: Picture) -> Pixels:
    """The pixels, (height, width, 3), as they look on a white page."""
    if picture.alpha is None:
        return picture.rgb
    alpha = picture.alpha[..., None].astype(np.uint16)
    return ((picture.rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
