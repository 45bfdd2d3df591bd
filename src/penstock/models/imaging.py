"""Decodes and encodes images: PNG, JPEG and WebP outside, one plain form of pixels inside.

The only importer of Pillow. Inputs are untrusted: no other format is ever tried, `pixels.headers` has held what the
file says to its bounds before anything is decoded, and whatever a decoder raises becomes an error with a code.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import Struct
from PIL import Image, ImageCms, ImageFile, ImageOps

from penstock.core.request import Format, OutputOptions
from penstock.errors import ImageDecodeFailed, ImageTooLarge
from penstock.lazy_import import lazy_import
from penstock.models.linear import linear
from penstock.pixels.headers import ImageBounds, ImageHeader, probe
from penstock.pixels.headers.metadata import without_metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

CONTENT_TYPES: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
MAX_SIDES: dict[Format, int] = {"webp": 16_383, "jpeg": 65_500}
"""The longest side that a file can have: 14 bits in WebP (RFC 9649), in JPEG what libjpeg writes
(JPEG_MAX_DIMENSION)."""

_pillow: Any = getattr(Image, "core")  # noqa: B009  it is not among the names that the types of Pillow export

Z_RLE = 3
"""The deflate strategy with this name in zlib.h."""

ENCODED_BYTES = 2**16
"""As many bytes of pixels are written at a time: they are still in the cache when they are copied."""

UNBOUNDED = ImageBounds()
"""For images of our own: any size, but not any number of scans and chunks."""

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "area", "linear"]

FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}

Pixels: TypeAlias = "NDArray[np.uint8]"

# Our own limit is checked on every header before any pixel is decoded; Pillow's is a warning first.
Image.MAX_IMAGE_PIXELS = None


class Picture(Struct, frozen=True, eq=False):
    """Decoded pixels, upright, in sRGB with 8 bits: `rgb` is (height, width, 3), `alpha` (height, width) or None.

    `grey` says that the source had one channel; `rgb` then holds it three times.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    grey: bool = False

    def pillow(self) -> Image.Image:
        """The same pixels as an image of Pillow, in mode L or RGB, with an A where there is alpha."""
        return _to_pillow(self)


DECODER: ContextVar[Callable[[bytes, ImageHeader], Picture] | None] = ContextVar("decoder", default=None)
"""Decodes images in the place of this thread, once their headers have passed. Raises ImageDecodeFailed."""


def keep_memory(most_bytes: int) -> None:
    """From now on keep so many bytes of images that are gone for those that come.

    The kernel clears each page of new memory when it is touched first, which takes longer than writing the pixels of a
    result: a core writes 300 to 400 megapixels a second there, and 1,400 to 1,700 in kept memory.
    """
    _pillow.set_blocks_max(most_bytes // _pillow.get_block_size())


class Canvas:
    """An RGB image that is written in pieces. Threads may write different parts of it at a time.

    It has the form that the encoders read, 4 bytes a pixel, so that no second copy of the whole is ever made.
    """

    def __init__(self, width: int, height: int) -> None:
        # Kept memory has old pixels, which Pillow clears under the interpreter's lock if no colour is given.
        self._image = Image.new("RGB", (width, height), 0 if _pillow.get_blocks_max() else None)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self._image.size

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

    def encode(self, options: OutputOptions, *, alpha: Pixels | None = None, grey: bool = False) -> bytes:
        """Encode as the function `encode` does. A smaller `alpha` is resampled bicubically. The canvas must not be used
        after that: it is changed in place."""
        image = self._image.convert("L") if grey else self._image
        if alpha is not None:
            image.putalpha(Image.fromarray(resize(alpha, *self.size)))
        return _written(image, options)


def decode(data: bytes, bounds: ImageBounds = UNBOUNDED) -> Picture:
    """Decode an image: the EXIF orientation is applied, palettes and CMYK are expanded, 16 bits are reduced to 8, and
    an embedded colour profile is converted to sRGB. No metadata survives. Raises what `headers.probe` raises."""
    header = probe(data, bounds)
    decoder = DECODER.get()
    return decode_here(data, header.format) if decoder is None else decoder(data, header)


def decode_here(data: bytes, form: str) -> Picture:
    """Decode an image of this format in this thread. Raises ImageDecodeFailed."""
    with _decoding(data, form) as image:
        rgb, alpha, is_grey = _parts(image)
        return Picture(np.asarray(rgb), alpha, is_grey)


def decode_to(data: bytes, form: str, into: memoryview) -> tuple[int, int, bool, bool]:
    """Decode an image into a buffer of bytes: `rgb`, then `alpha` where there is one.

    Returns width, height, whether there is an alpha, and `grey`. Raises ImageDecodeFailed.
    """
    with _decoding(data, form) as image:
        rgb, alpha, is_grey = _parts(image)
        if isinstance(rgb, Image.Image):
            width, height = rgb.size
            _write_image(rgb, into)
        else:
            height, width = rgb.shape[:2]
            into[: rgb.size] = _bytes_of(rgb)
        if alpha is not None:
            into[3 * alpha.size : 4 * alpha.size] = _bytes_of(alpha)
        return width, height, alpha is not None, is_grey


def picture_in(pixels: Any, width: int, height: int, has_alpha: bool, is_grey: bool) -> Picture:
    """The picture that `decode_to` has written into a buffer. It is not copied: all arrays of the picture are views of
    one, their `base`."""
    size, base = width * height, np.frombuffer(pixels, np.uint8)
    alpha = base[3 * size : 4 * size].reshape(height, width) if has_alpha else None
    return Picture(base[: 3 * size].reshape(height, width, 3), alpha, is_grey)


def encode(picture: Picture, options: OutputOptions) -> bytes:
    """Encode an image. PNG is written at its fastest level; JPEG has no alpha, so that transparency becomes white.

    Raises ImageTooLarge when a side is longer than the format can hold.
    """
    return _written(_to_pillow(picture), options)


def image_of(value: Any) -> Image.Image | None:
    """The image that a value is: one of Pillow, a Picture, or an array of uint8 with the shape (height, width), or with
    1, 3 or 4 channels behind these. None for anything else."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Picture):
        return _to_pillow(value)
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or not value.size:
        return None
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[..., 0]
    is_image = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))
    return Image.fromarray(np.ascontiguousarray(value)) if is_image else None


def encoded(image: Image.Image, options: OutputOptions) -> bytes:
    """Encode an image of any mode; its metadata is left out. Raises ImageTooLarge as `encode` does, and OSError or
    ValueError for an image that cannot be encoded."""
    image = image if image.mode in ("L", "LA", "RGB", "RGBA") else _to_pillow(_picture(image))
    return _written(image, options)


def resize(channel: Pixels, width: int, height: int) -> Pixels:
    """Resample one channel bicubically."""
    return np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC))


def resampled(pixels: Pixels, width: int, height: int, how: Resample) -> Pixels:
    """Resample (height, width), or (height, width, 3 or 4). Colours are weighted by their opacity where there are 4."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if how == "linear":
        return linear(pixels, width, height)
    return np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[how]))


def grey(picture: Picture) -> Pixels:
    """One channel, (height, width), as it looks on a white page: the luma of ITU-R 601 where the image has colours."""
    opaque = on_white(picture)
    return opaque[..., 0] if picture.grey else np.asarray(Image.fromarray(opaque).convert("L"))


def check_holds(options: OutputOptions, width: int, height: int) -> None:
    """Raise ImageTooLarge when the format cannot hold an image of this size."""
    longest = MAX_SIDES.get(options.format)
    if longest is not None and max(width, height) > longest:
        raise ImageTooLarge(
            f"the result has {width}x{height} px, a side of {options.format} at most {longest}; ask for png",
            param="output.format",
        )


def on_white(picture: Picture) -> Pixels:
    """The pixels, (height, width, 3), as they look on a white page."""
    if picture.alpha is None:
        return picture.rgb
    alpha = picture.alpha[..., None].astype(np.uint16)
    return ((picture.rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _written(image: Image.Image, options: OutputOptions) -> bytes:
    check_holds(options, *image.size)
    if options.format == "jpeg" and image.mode in ("RGBA", "LA"):
        opaque = Image.new(image.mode[:-1], image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        image = opaque
    out = io.BytesIO()
    image.save(out, **_save_options(options))
    return out.getvalue()


def _save_options(options: OutputOptions) -> dict[str, Any]:
    if options.format == "png":
        # Run lengths suit filtered photos: as fast as the usual strategy at this level, and a fifth smaller.
        return {"format": "PNG", "compress_level": 1, "compress_type": Z_RLE}
    if options.format == "jpeg":
        return {"format": "JPEG", "quality": options.quality, "subsampling": 0}
    if options.lossless:  # `quality` is then effort: the least is the fastest
        return {"format": "WEBP", "lossless": True, "quality": 0, "method": 0, "exact": True}
    return {"format": "WEBP", "quality": options.quality, "method": 2}


@contextmanager
def _decoding(data: bytes, form: str) -> Iterator[Image.Image]:
    """An image, upright; what goes wrong inside of the block becomes ImageDecodeFailed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF block only warns, and is dropped anyway
            image = Image.open(io.BytesIO(without_metadata(data) if form == "png" else data), formats=(form,))
            ImageOps.exif_transpose(image, in_place=True)
        with image:
            yield image
    except Exception as error:  # decoders of hostile bytes throw anything
        raise ImageDecodeFailed("the image is damaged or truncated") from error


def _write_image(image: Image.Image, into: memoryview) -> None:
    """Write the pixels of an RGB image. Other ways out of Pillow make a copy of the whole first."""
    image.load()
    encoder = _pillow.raw_encoder("RGB", "RGB", 0, 1)
    encoder.setimage(image.im, (0, 0, *image.size))
    at = status = 0
    while not status:
        _, status, piece = encoder.encode(max(ENCODED_BYTES, 4 * image.width))
        into[at : at + len(piece)] = piece
        at += len(piece)


def _bytes_of(pixels: Pixels) -> memoryview:
    return np.ascontiguousarray(pixels).data.cast("B")


def _picture(image: Image.Image) -> Picture:
    rgb, alpha, is_grey = _parts(image)
    return Picture(np.asarray(rgb), alpha, is_grey)


def _parts(image: Image.Image) -> tuple[Image.Image | Pixels, Pixels | None, bool]:
    """The three fields of a Picture."""
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image).astype(np.float64)
        return _three_times(np.clip(deep / 257 + 0.5, 0, 255).astype(np.uint8)), None, True
    if image.mode == "P" or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        has_alpha = "transparency" in image.info
        grey = image.mode in ("1", "L")
        image = image.convert("LA" if grey and has_alpha else "RGBA" if has_alpha else "RGB")
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") else None
    if image.mode in ("1", "L", "LA", "La"):
        channel = np.asarray(image.convert("L") if image.mode == "1" else image.getchannel(0))
        return _three_times(channel), alpha, True
    return _to_srgb(image), alpha, False


def _three_times(channel: Pixels) -> Pixels:
    return np.repeat(channel[..., None], 3, axis=2)


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    opaque = image.convert("RGB") if image.mode in ("RGBA", "RGBa", "PA", "YCbCr", "LAB", "HSV") else image
    if profile and opaque.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(opaque, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return _as_rgb(converted or opaque)
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that cannot be read is as good as none
    return _as_rgb(opaque)


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_pillow(picture: Picture) -> Image.Image:
    image = Image.fromarray(picture.rgb)
    if picture.grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image
