"""The readers of headers: they say what is decoded, or refuse with a code."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from msgspec.structs import replace
from PIL import Image, ImageCms

from penstock.core.output import OutputOptions
from penstock.errors import ImageAnimated, ImageDecodeFailed, ImageTooLarge, UnsupportedImageFormat
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.headers import ImageBounds, content_type_of, end_of, probe, probe_beginning
from penstock.pixels.headers.metadata import without_metadata
from penstock.pixels.picture import Picture, PixelForm
from tests.pixels.tiffs import tiff
from tools.fuzz.target import ACCEPTED, refusal

BOUNDS = ImageBounds(0.05, scans=20, chunks=60)
"""So small that every image within them is decoded at once."""
IN_PART = replace(BOUNDS, takes_truncated=True)
OTHER_FORMS = (
    (IN_PART, PixelForm()),
    (IN_PART, PixelForm(is_deep=True, keeps_colours=True)),
    (BOUNDS, PixelForm(is_deep=True)),
    (BOUNDS, PixelForm(keeps_colours=True)),
)
"""Other ways in which images are decoded: each input is decoded in one of them too."""
REFUSALS = (UnsupportedImageFormat, ImageTooLarge, ImageAnimated, ImageDecodeFailed)

FORMS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "png": (("RGB", {}), ("RGBA", {}), ("P", {}), ("L", {}), ("1", {}), ("I;16", {}), ("LA", {})),
    "jpeg": (("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("L", {"restart_marker_rows": 1})),
    "webp": (("RGB", {}), ("RGBA", {}), ("RGB", {"lossless": True}), ("RGBA", {"lossless": True})),
    "gif": (("P", {}), ("P", {"interlace": 1}), ("P", {"transparency": 3, "comment": b"a"})),
    "bmp": (("RGB", {}), ("P", {}), ("1", {}), ("L", {})),
    "tiff": (
        *(("RGB", {"compression": way}) for way in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        *(("1", {"compression": "group4"}), ("I;16", {}), ("CMYK", {}), ("LA", {}), ("P", {})),
    ),
    "avif": (("RGB", {"max_threads": 1}), ("RGBA", {"max_threads": 1}), ("L", {"max_threads": 1})),
}
WORDS: dict[str, tuple[bytes, ...]] = {
    "png": (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"zTXt", b"\0\0\0\0IEND"),
    "jpeg": (
        *(bytes((0xFF, code)) for code in (0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xE1, 0xE2, 0x00, 0xFF)),
        *(b"\0\2", b"\0\0", b"Exif\0\0", b"ICC_PROFILE\0"),
    ),
    "webp": (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"RIFF", b"WEBP", b"\x9d\x01\x2a"),
    "gif": (b"GIF89a", b"GIF87a", b",", b"!\xf9\4", b"!\xfe", b"!\xff\x0bNETSCAPE2.0", b";", b"\0", b"\xff", b"\x87"),
    "bmp": (b"BM", b"\x28\0\0\0", b"\x0c\0\0\0", b"\x7c\0\0\0", b"\xff\xff\xff\xff", b"\3\0\0\0", b"\x20\0"),
    "tiff": (
        *(b"II*\0", b"MM\0*", b"\xff\xff\xff\xff", b"\3\0\1\0\0\0", b"\4\0\1\0\0\0"),
        *(
            struct.pack("<H", tag)
            for tag in (256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 320, 322, 324, 339)
        ),
    ),
    "avif": (
        *(b"ftyp", b"avif", b"avis", b"mif1", b"meta", b"pitm", b"iloc", b"iinf", b"iprp", b"ipco", b"ipma", b"ispe"),
        *(b"irot", b"imir", b"colr", b"pixi", b"av1C", b"mdat", b"\0\0\0\1", b"\0\0\0\0"),
    ),
}


@cache
def seeds_of(form: str) -> tuple[bytes, ...]:
    """Small images in every way in which they are written, one with a profile and an orientation."""
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    threads = {"max_threads": 1} if form == "avif" else {}
    rich = _saved(colours, form, icc_profile=profile, exif=exif, **threads)
    deep = DEEP[form]() if form in DEEP else ()
    return (*(_saved(_in_mode(colours, mode), form, **options) for mode, options in FORMS[form]), rich, *deep)


def check_of_image(data: bytes) -> str:
    """The reader refuses with a code, or says the size that Pillow decodes; and its other answers fit that."""
    _decode_otherwise(data)
    try:
        header = probe(data, BOUNDS)
    except REFUSALS as error:
        return refusal(error)
    assert header.megapixels <= BOUNDS.megapixels
    assert content_type_of(data) == f"image/{header.format}"
    end = end_of(data, header)
    assert end is None or 12 <= end <= len(data)
    _beginnings_agree(data, (header.width, header.height))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            picture = decode(data, BOUNDS)
        except ImageDecodeFailed as error:
            return refusal(error)
    assert not warned, warned[0].message
    height, width = picture.rgb.shape[:2]
    assert (width, height) == (header.width, header.height) or (
        header.has_exif and (height, width) == (header.width, header.height)
    )
    assert picture.rgb.shape == (height, width, 3)
    assert picture.alpha is None or picture.alpha.shape == (height, width)
    return ACCEPTED


def _decode_otherwise(data: bytes) -> None:
    bounds, wanted = OTHER_FORMS[zlib.crc32(data) % len(OTHER_FORMS)]
    try:
        header, picture = probe(data, bounds), decode(data, bounds, wanted)
    except REFUSALS:
        return
    assert {*picture.rgb.shape[:2]} == {header.width, header.height}
    assert picture.alpha is None or picture.alpha.dtype == picture.rgb.dtype


def check_of_png(data: bytes) -> str:
    """As `check_of_image`; and what is left out of a PNG is left out at once."""
    try:
        plain = without_metadata(data)
    except ImageDecodeFailed as error:
        return refusal(error)
    assert len(plain) <= len(data)
    assert without_metadata(plain) == plain
    return check_of_image(data)


def _beginnings_agree(data: bytes, size: tuple[int, int]) -> None:
    """What a part of the file says, the whole says too."""
    for stop in {len(data) // 4, len(data) // 2, len(data) - 1}:
        try:
            header = probe_beginning(data[:stop], BOUNDS)
        except UnsupportedImageFormat:
            assert stop < 12
            continue
        assert header is None or (header.width, header.height) == size


def with_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        end = at + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def with_length(data: bytes) -> bytes:
    """Return a WebP whose head says its length."""
    return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)


def _deep_png() -> tuple[bytes, ...]:
    levels = np.random.default_rng(2).integers(0, 65_536, (12, 20, 4), dtype=np.uint16)
    pictures = (Picture(levels[..., :3]), Picture(levels[..., :3], levels[..., 3]))
    return tuple(encode(one, OutputOptions(bits=16)) for one in pictures)


def _deep_tiff() -> tuple[bytes, ...]:
    levels = np.random.default_rng(2).integers(0, 65_536, (12, 20, 3), dtype=np.uint16)
    return tiff(levels, is_packed=True), tiff(levels, order=">", tile=16)


DEEP: dict[str, Callable[[], tuple[bytes, ...]]] = {"png": _deep_png, "tiff": _deep_tiff}
"""Files of 16 bits in several channels, which Pillow does not write."""


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
