"""Encodes images as the client asked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, ImageColor

from penstock.core.output import Format, OutputOptions
from penstock.lazy_import import lazy_import
from penstock.pixels.colours import for_colours, picture_of
from penstock.pixels.exif.blocks import EXIF_HEAD
from penstock.pixels.formats import CONTENT_TYPES as CONTENT_TYPES
from penstock.pixels.formats import check_holds as check_holds
from penstock.pixels.picture import Picture, on_background
from penstock.pixels.pillow import bands_of
from penstock.pixels.png.stream import Chunk, PngStream, png_of
from penstock.pixels.quality import best_within

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

METRES_PER_INCH = 0.0254

WITHOUT_GREYS = ("webp", "avif")
"""Formats in which greys are written as colours, for which a profile of greys says nothing."""

BAND_ROWS = 64
"""So many rows of a picture are interleaved at a time: all planes at once would be a second copy."""

PREDICTOR = 317
"""The tag of a TIFF that says what is compressed; 2 stands for the differences of neighbours."""

SUBSAMPLING: dict[str, str] = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}
"""Names of chroma -> those of Pillow."""


def encode(picture: Picture, options: OutputOptions) -> bytes:
    """Encode an image in a format of files, so not in `source`; one of uint16 is for PNG, which is written at the
    fastest level. JPEG has no alpha, so that transparency becomes white.

    Raises ImageTooLarge for more pixels than the format can hold, and OutputTooLarge as `written` does.
    """
    if picture.rgb.itemsize == 2:
        return _png(on_background(picture, options.background), options)
    if options.format == "png" and (picture.alpha is None or options.background is None):
        return _png(picture, options)
    return written(picture.pillow(), options, picture.profile)


def image_of(value: Any) -> Image.Image | None:
    """The image that a value is: one of Pillow, a Picture, or an array of uint8 with the shape (height, width), or with
    1, 3 or 4 channels behind these. None for anything else."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Picture):
        return value.pillow()
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or not value.size:
        return None
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[..., 0]
    is_image = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))
    return Image.fromarray(np.ascontiguousarray(value)) if is_image else None


def encoded(image: Image.Image, options: OutputOptions) -> bytes:
    """Encode an image of any mode; its metadata is left out. Raises ImageTooLarge as `encode` does, and OSError or
    ValueError for an image that cannot be encoded."""
    image = image if image.mode in ("L", "LA", "RGB", "RGBA") else picture_of(image).pillow()
    return written(image, options)


def written(image: Image.Image, options: OutputOptions, profile: bytes | None = None) -> bytes:
    """The file of an image in mode L, LA, RGB or RGBA, of no more than `max_bytes`. Its colours are sRGB, or what the
    `profile` says.

    Raises ImageTooLarge as `encode` does, and OutputTooLarge when no quality makes the file small enough.
    """
    check_holds(options, *image.size)
    image = _flattened(image, options)
    if options.max_bytes is None:
        return _saved(image, options, options.quality, profile)
    return best_within(options.max_bytes, options.quality, lambda quality: _saved(image, options, quality, profile))


def _flattened(image: Image.Image, options: OutputOptions) -> Image.Image:
    """The image on the background that is asked for; of JPEG, which has no alpha, on white."""
    if "A" not in image.mode or (options.background is None and options.format != "jpeg"):
        return image
    colour = ImageColor.getrgb(options.background or "#fff")
    if image.mode == "LA" and len(set(colour)) > 1:
        image = image.convert("RGBA")
    opaque = Image.new(image.mode[:-1], image.size, colour if image.mode == "RGBA" else colour[0])
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


def _saved(image: Image.Image, options: OutputOptions, quality: int, profile: bytes | None) -> bytes:
    if profile is not None and options.format in WITHOUT_GREYS and image.mode in ("L", "LA"):
        profile = for_colours(profile)
    if options.format == "png":
        chunks = png_chunks(options, profile)
        return png_of(bands_of(image), PngStream(*image.size, channels=len(image.mode), chunks=chunks))
    out = io.BytesIO()
    image.save(out, options.format, **_SAVE_OPTIONS[options.format](options, quality), icc_profile=profile)
    return out.getvalue()


def png_chunks(options: OutputOptions, profile: bytes | None = None) -> list[Chunk]:
    """What a PNG has beside its pixels: a profile of their colours, its density, in pixels per metre, and its EXIF."""
    chunks: list[Chunk] = []
    if profile is not None:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if options.dpi is not None:
        per_metre = round(options.dpi / METRES_PER_INCH)
        chunks.append((b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    return [*chunks, (b"eXIf", options.exif)] if options.exif else chunks


def _png(picture: Picture, options: OutputOptions) -> bytes:
    height, width = picture.rgb.shape[:2]
    planes = [picture.rgb[..., :1] if picture.grey else picture.rgb]
    if picture.alpha is not None:
        planes.append(picture.alpha[..., None])
    bands = (np.dstack([plane[top : top + BAND_ROWS] for plane in planes]) for top in range(0, height, BAND_ROWS))
    channels = sum(plane.shape[2] for plane in planes)
    chunks, bits = png_chunks(options, picture.profile), 8 * picture.rgb.itemsize
    return png_of(bands, PngStream(width, height, channels=channels, bits=bits, chunks=chunks))


def _jpeg(options: OutputOptions, quality: int) -> dict[str, Any]:
    chroma = SUBSAMPLING[options.chroma or "444"]
    return {"quality": quality, "subsampling": chroma} | _exif(options) | _density(options)


def _webp(options: OutputOptions, quality: int) -> dict[str, Any]:
    if options.lossless:  # `quality` is then effort: the least is the fastest
        return {"lossless": True, "quality": 0, "method": 0, "exact": True} | _exif(options)
    return {"quality": quality, "method": 2} | _exif(options)


def _avif(options: OutputOptions, quality: int) -> dict[str, Any]:
    # One thread, since a worker has as many codec threads as suit its cores. At speed 9 a core writes 19 MP/s, at 8
    # half of that, and the files are no smaller.
    chroma = SUBSAMPLING[options.chroma or "444"]
    return {"quality": quality, "subsampling": chroma, "speed": 9, "max_threads": 1} | _exif(options)


def _tiff(options: OutputOptions, _quality: int) -> dict[str, Any]:
    # LZW of differences: a seventh of the time of deflate, for a tenth more bytes.
    return {"compression": "tiff_lzw", "tiffinfo": _described(options)} | _density(options)


def _exif(options: OutputOptions) -> dict[str, Any]:
    return {"exif": EXIF_HEAD + options.exif} if options.exif else {}


def _described(options: OutputOptions) -> Image.Exif:
    """The tags of a TIFF. Those of the exposure and of the place would be directories of their own, which are not
    written."""
    tags = Image.Exif()
    if options.exif:
        tags.load(options.exif)
        for directory in (ExifTags.Base.ExifOffset, ExifTags.Base.GPSInfo):
            tags.pop(directory, None)
    tags[PREDICTOR] = 2
    return tags


def _density(options: OutputOptions) -> dict[str, Any]:
    return {} if options.dpi is None else {"dpi": (options.dpi, options.dpi)}


_SAVE_OPTIONS: dict[Format, Callable[[OutputOptions, int], dict[str, Any]]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "tiff": _tiff,
}
