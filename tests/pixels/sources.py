"""Image files of every kind, with what is in them: the pixels as they should be seen, upright, and before any profile.

They are written by Pillow, simplejpeg, and byte by byte; what a lossy file holds is what Pillow reads of it.
"""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from tests.pixels.pngs import png
from tests.pixels.profiles import matrix_profile
from tests.pixels.tiffs import SHORT, TEXT, UNDEFINED, tiff

Array = NDArray[Any]

AUTHOR, PLACE = "a secret of the author", "a secret of the place"
"""Texts that stand in the metadata of every file that can have some."""

ORIENTATIONS: dict[int, Callable[[Array], Array]] = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: np.rot90(seen, 2).swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}
"""How an image that is seen upright is stored with each orientation of Exif."""

PROFILES: dict[str, bytes | None] = {
    "no profile": None,
    "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "Display P3": matrix_profile(2.4, primaries="P3"),
    "Adobe RGB": matrix_profile(563 / 256, primaries="Adobe RGB"),
    "grey gamma 2.2": matrix_profile(2.2, is_grey=True),
    "broken profile": matrix_profile(2.2)[:200] + b"broken",
}
SPACES = {"sRGB": "RGB", "Display P3": "RGB", "Adobe RGB": "RGB", "grey gamma 2.2": "L"}


class Known(NamedTuple):
    """What a file holds: `values` of uint8 or uint16, (height, width) of greys, (height, width, 3) of colours or 4 of
    inks, with the alpha apart. `is_exact` says that these are what was written."""

    values: Array
    alpha: Array | None
    bits: int
    is_exact: bool = True


class Kind(NamedTuple):
    """A kind of file: its format, mode, and how it is written."""

    form: str
    mode: str
    options: Mapping[str, Any] = {}
    bits: int = 8
    key: bool = False
    is_grey: bool = False


def _png(mode: str, bits: int = 8, *, key: bool = False) -> Kind:
    return Kind("PNG", mode, bits=bits, key=key)


KINDS: dict[str, Kind] = {
    **{f"png L {bits} bits": _png("L", bits) for bits in (1, 2, 4, 8, 16)},
    **{f"png L {bits} bits, key": _png("L", bits, key=True) for bits in (1, 2, 4, 8, 16)},
    **{f"png {mode} {bits} bits": _png(mode, bits) for mode in ("LA", "RGB", "RGBA") for bits in (8, 16)},
    **{f"png RGB {bits} bits, key": _png("RGB", bits, key=True) for bits in (8, 16)},
    **{f"png P {bits} bits": Kind("PNG", "P", {"bits": bits}) for bits in (1, 2, 4, 8)},
    "png P with tRNS": Kind("PNG", "P", key=True),
    "png P of greys": Kind("PNG", "P", {"bits": 4}, is_grey=True),
    "png P of greys with tRNS": Kind("PNG", "P", key=True, is_grey=True),
    "jpeg L": Kind("JPEG", "L"),
    "jpeg RGB": Kind("JPEG", "RGB", {"quality": 90}),
    "jpeg RGB 4:4:4, progressive": Kind("JPEG", "RGB", {"subsampling": 0, "progressive": True}),
    "jpeg CMYK": Kind("JPEG", "CMYK"),
    "jpeg YCCK": Kind("JPEG", "YCCK"),
    "webp RGB": Kind("WEBP", "RGB"),
    "webp RGBA": Kind("WEBP", "RGBA"),
    "webp lossless": Kind("WEBP", "RGBA", {"lossless": True, "exact": True}),
    "avif RGB": Kind("AVIF", "RGB", {"max_threads": 1, "speed": 10}),
    "avif RGBA": Kind("AVIF", "RGBA", {"max_threads": 1, "speed": 10}),
    **{f"tiff {mode}": Kind("TIFF", mode, {"compression": "tiff_lzw"}) for mode in ("L", "LA", "RGB", "RGBA", "P")},
    "tiff 1": Kind("TIFF", "1", {"compression": "group4"}),
    "tiff I;16": Kind("TIFF", "I;16", bits=16),
    **{f"tiff {mode} 16 bits": Kind("TIFF", mode, bits=16) for mode in ("RGB", "RGBA")},
    "tiff CMYK": Kind("TIFF", "CMYK"),
    "gif P": Kind("GIF", "P"),
    "gif P with transparency": Kind("GIF", "P", key=True),
    "gif P of greys": Kind("GIF", "P", key=True, is_grey=True),
    **{f"bmp {mode}": Kind("BMP", mode) for mode in ("1", "L", "P", "RGB")},
}

WITHOUT_EXIF = ("GIF", "BMP")
LOSSY = ("JPEG", "AVIF", "WEBP")


def written(kind: Kind, size: tuple[int, int], orientation: int, profile: bytes | None) -> tuple[bytes, Known]:
    """Returns a file of this size, as it is seen, and what it holds."""
    seen = _drawn(kind, *size)
    stored = seen if kind.form in WITHOUT_EXIF else ORIENTATIONS[orientation](seen)
    exif = None if kind.form in WITHOUT_EXIF else _exif(orientation)
    data = _file(kind, np.ascontiguousarray(stored), seen[0, 0], exif, profile)
    is_exact = kind.form not in LOSSY or kind.options.get("lossless", False)
    return data, _known(kind, seen) if is_exact else _read(data)


def _drawn(kind: Kind, width: int, height: int) -> Array:
    """The samples of the file, in its bits: smooth, so that lossy files stay near to them, and with an alpha of 0, 255
    and between."""
    rows, columns = np.mgrid[:height, :width]
    right, down = (columns + 0.5) / width, (rows + 0.5) / height
    ramps = {
        "grey": 0.15 + 0.4 * right + 0.3 * down,
        "red": 0.2 + 0.6 * right,
        "green": 0.3 + 0.4 * down,
        "blue": 0.7 - 0.3 * right + 0.1 * down,
        "black": 0.1 + 0.2 * right * down,
        "alpha": (1.6 * right - 0.3).clip(0, 1),
    }
    most = 2**kind.bits - 1
    levels = {name: np.rint(ramp * most).astype(np.uint16 if most > 255 else np.uint8) for name, ramp in ramps.items()}
    names = {
        "L": ("grey",), "LA": ("grey", "alpha"), "I;16": ("grey",), "RGB": ("red", "green", "blue"),
        "RGBA": ("red", "green", "blue", "alpha"),
        "CMYK": ("red", "green", "blue", "black"), "YCCK": ("red", "green", "blue", "black"),
    }.get(kind.mode)  # fmt: skip
    if names is not None:
        return np.dstack([levels[name] for name in names]) if len(names) > 1 else levels[names[0]]
    if kind.mode == "1":
        return (rows + columns) % 3 == 0
    return ((0.6 * right + 0.4 * down) * min(16, 2 ** kind.options.get("bits", 8))).astype(np.uint8)


PALETTE = np.array([(15 * n % 256, 240 - 12 * n % 240, (100 + 5 * n) % 256) for n in range(256)], np.uint8)
OPACITY = bytes([255] * 6 + [0, 0, 128])
"""Of the first colours of a palette; that of a GIF has one that is transparent."""
CLEAR = OPACITY.index(0)


def _known(kind: Kind, samples: Array) -> Known:
    if kind.mode == "1":
        return Known(samples.astype(np.uint8) * 255, None, 8)
    if kind.mode == "P":
        return Known(_palette(kind)[samples], _opacity(kind)[samples] if kind.key else None, 8)
    white = np.iinfo(samples.dtype).max
    colours, bits = samples * (white // (2**kind.bits - 1)), max(8, kind.bits)
    if kind.key:
        same = np.atleast_3d(samples == samples[0, 0]).all(axis=2)
        return Known(colours, np.where(same, 0, white).astype(samples.dtype), bits)
    if kind.mode in ("LA", "RGBA"):
        return Known(colours[..., 0] if kind.mode == "LA" else colours[..., :3], colours[..., -1], bits)
    return Known(colours, None, bits)


def _palette(kind: Kind) -> Array:
    return PALETTE[:, :1].repeat(3, axis=1) if kind.is_grey else PALETTE


def _opacity(kind: Kind) -> Array:
    opacity = np.full(256, 255, np.uint8)
    opacity[CLEAR] = 0
    if kind.form == "PNG":
        opacity[: len(OPACITY)] = list(OPACITY)
    return opacity


def _read(data: bytes) -> Known:
    values = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    if values.ndim == 3 and values.shape[2] == 4 and not data.startswith(b"\xff\xd8"):
        return Known(values[..., :3], values[..., 3], 8, is_exact=False)
    return Known(values, None, 8, is_exact=False)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, AUTHOR
    exif.get_ifd(0x8825)[29] = PLACE
    return exif


def _file(kind: Kind, stored: Array, key: Array, exif: Image.Exif | None, profile: bytes | None) -> bytes:
    if kind.form == "PNG" and kind.mode != "P":
        return _png_file(kind, stored, key, exif, profile)
    if kind.mode == "YCCK":
        return _ycck_file(stored, exif, profile)
    if kind.form == "TIFF" and stored.ndim == 3 and kind.bits == 16:
        return _tiff_file(stored, exif, profile)
    out, options = io.BytesIO(), dict(kind.options)
    image = Image.fromarray(stored, kind.mode) if kind.mode in ("P", "CMYK") else Image.fromarray(stored)
    if kind.mode == "P":
        image.putpalette(_palette(kind)[: 2 ** kind.options.get("bits", 8)].tobytes())
    if kind.key:
        options["transparency"] = OPACITY if kind.form == "PNG" else CLEAR
    if exif is not None:
        options["exif"] = exif
    if profile is not None and kind.form not in WITHOUT_EXIF:
        options["icc_profile"] = profile
    image.save(out, kind.form, **options)
    return out.getvalue()


def _png_file(kind: Kind, stored: Array, key: Array, exif: Image.Exif | None, profile: bytes | None) -> bytes:
    chunks = {} if profile is None else {b"iCCP": b"p\0\0" + zlib.compress(profile)}
    if kind.key:
        chunks[b"tRNS"] = np.atleast_1d(key).astype(">u2").tobytes()
    if exif is not None:
        chunks[b"eXIf"] = exif.tobytes().removeprefix(b"Exif\0\0")
    return png(stored, kind.bits, chunks)


def _tiff_file(stored: Array, exif: Image.Exif | None, profile: bytes | None) -> bytes:
    assert exif is not None
    tags = {274: (SHORT, struct.pack("<H", exif[0x0112])), 270: (TEXT, AUTHOR.encode() + b"\0")}
    if stored.shape[2] == 4:
        tags[338] = (SHORT, struct.pack("<H", 2))
    if profile is not None:
        tags[34675] = (UNDEFINED, profile)
    return tiff(stored, tags, is_packed=True)


def _ycck_file(stored: Array, exif: Image.Exif | None, profile: bytes | None) -> bytes:
    data = simplejpeg.encode_jpeg(stored, quality=95, colorspace="CMYK", colorsubsampling="444")
    segments = b"" if exif is None else _segment(0xE1, exif.tobytes())
    if profile is not None:
        segments += _segment(0xE2, b"ICC_PROFILE\0\1\1" + profile)
    return data[:2] + segments + data[2:]


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
