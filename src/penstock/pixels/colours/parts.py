"""The parts of an image: colours in sRGB, transparency, and whether it is grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from penstock.lazy_import import lazy_import
from penstock.pixels.colours.profiles import grey_curve, in_srgb, printed
from penstock.pixels.colours.signals import Signal, signal_of
from penstock.pixels.notes import Note
from penstock.pixels.picture import Picture, Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

GREY, WITH_ALPHA = ("1", "L", "LA", "La"), ("LA", "RGBA", "PA")
"""Modes of Pillow."""

PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Modes whose colours are multiplied by their alpha, and what they become."""

DEEP_STEP = 257
"""Of 16 bits, as many levels are one of 8 bits."""


def picture_of(image: Image.Image) -> Picture:
    """The picture that an image of Pillow is, whatever its mode."""
    rgb, alpha, is_grey = parts_of(image)
    return Picture(np.asarray(rgb), alpha, is_grey)


def profile_note(image: Image.Image) -> Note | None:
    """What becomes of what the file says its values mean; None where it says nothing, or sRGB without a profile."""
    if signal_in(image) is not None:
        return "profile_converted"
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    is_grey = image.mode in GREY or image.mode.startswith(("I", "F"))
    like = Image.new("L" if is_grey else "CMYK" if image.mode == "CMYK" else "RGB", (1, 1))
    return "profile_ignored" if in_srgb(like, profile) is None else "profile_converted"


def parts_of(image: Image.Image, kept_profile: bytes | None = None) -> tuple[Image.Image | Pixels, Pixels | None, bool]:
    """The three fields of a Picture: in sRGB, unless a profile was taken that says what the values are."""
    if image.mode.startswith(("I", "F")):
        return _parts_of_deep(image)
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    if image.mode == "P" or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        has_grey_palette = kept_profile is None and _has_grey_palette(image)
        mode = "L" if image.mode in ("1", "L") or has_grey_palette else "RGB"
        image = image.convert(mode + "A" if "transparency" in image.info else mode)
        if has_grey_palette:
            image.info.pop("icc_profile", None)  # one of greys, which says nothing of a palette
    alpha = np.asarray(image.getchannel("A")) if image.mode in WITH_ALPHA else None
    if image.mode in GREY:
        channel = np.asarray(image.convert("L") if image.mode == "1" else image.getchannel(0))
        return _three_times(_grey_in_srgb(image, channel)), alpha, True
    return _to_srgb(image), alpha, False


def _has_grey_palette(image: Image.Image) -> bool:
    """Whether all colours of a palette that are used are greys, and no profile or the like makes others of them."""
    if image.mode != "P" or profile_note(image) == "profile_converted":
        return False
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.array(image.histogram()[: len(colours)]) > 0
    return bool((colours[used] == colours[used, :1]).all())


def _parts_of_deep(image: Image.Image) -> tuple[Pixels, Pixels | None, bool]:
    """The parts of one channel with more than 8 bits."""
    deep, key = np.asarray(image), image.info.get("transparency")
    alpha = np.where(deep == key, np.uint8(0), np.uint8(255)) if isinstance(key, int) else None
    white = image.info.get("white", 255 * DEEP_STEP)
    levels: NDArray[np.float64] = (deep * (255 / white) + (255 if white < 0 else 0)).clip(0, 255)
    curve = _curve_of(image)
    if curve is not None:
        levels = np.interp(levels, np.arange(256), curve)
    return _three_times(np.floor(levels + 0.5).astype(np.uint8)), alpha, True


def _grey_in_srgb(image: Image.Image, channel: Pixels) -> Pixels:
    curve = _curve_of(image)
    return channel if curve is None else curve[channel]


def _curve_of(image: Image.Image) -> Pixels | None:
    """What each level of a grey image is in sRGB; None where it is the same."""
    signal = signal_in(image)
    if signal is not None:
        curve: Pixels = signal.in_srgb(np.arange(256, dtype=np.uint8)[None])[0]
        return curve
    return grey_curve(image.info.get("icc_profile"))


def _three_times(channel: Pixels) -> Pixels:
    return np.repeat(channel[..., None], 3, axis=2)


def _to_srgb(image: Image.Image) -> Image.Image | Pixels:
    opaque = image.convert("RGB") if image.mode in ("RGBA", "PA", "YCbCr", "LAB", "HSV") else image
    signal = signal_in(image)
    if signal is not None and opaque.mode == "RGB":
        return signal.in_srgb(np.asarray(opaque))
    converted = in_srgb(opaque, image.info.get("icc_profile"))
    if converted is not None:
        return converted
    if opaque.mode == "CMYK":
        return printed(opaque)
    return opaque if opaque.mode == "RGB" else opaque.convert("RGB")


def signal_in(image: Image.Image) -> Signal | None:
    """What a PNG says of its values where that counts: cICP before a profile, and a profile or sRGB before gAMA."""
    info = image.info
    is_named = "icc_profile" in info or "srgb" in info
    gamma, chromaticity = (None, None) if is_named else (info.get("gamma"), info.get("chromaticity"))
    return signal_of(info.get("cicp"), gamma, chromaticity)
