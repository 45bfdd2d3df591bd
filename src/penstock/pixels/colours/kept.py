"""Colours that are kept as a file has them: the profile that says what they are, for the file of the result."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageCms

from penstock.lazy_import import lazy_import
from penstock.pixels.colours.matrix_profiles import matrix_profile
from penstock.pixels.colours.parts import GREY, signal_in
from penstock.pixels.colours.signals import SRGB, Signal, primaries_to_xyz
from penstock.pixels.headers.metadata import MOST_PROFILE_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

MEANINGS = ("icc_profile", "cicp", "gamma", "chromaticity")
"""Where an image of Pillow has what its file says of its values."""

INKS = ("CMYK", "LAB")
"""Modes that become RGB whatever is asked for: results have no others."""

POINTS = 1024
"""Of a curve that is written as a table."""

BRADFORD = ((1.0478112, 0.0228866, -0.0501270), (0.0295424, 0.9904844, -0.0170491), (-0.0092345, 0.0150436, 0.7521316))
"""From CIE XYZ with the white of sRGB to that with the white of profiles (Bruce Lindbloom)."""

D50 = (0.9642, 1.0, 0.8249)


def take_profile(image: Image.Image) -> bytes | None:
    """Take what its file says of the colours of an image, so that they are not converted, and return it as a profile;
    None where there is nothing that a profile can say: then what the file says, if anything, stays."""
    if image.mode in INKS:
        return None
    is_grey, signal = image.mode in GREY or image.mode.startswith("I"), signal_in(image)
    profile = _sound(image.info.get("icc_profile"), is_grey) if signal is None else profile_of(signal, is_grey=is_grey)
    if profile is not None:
        for name in MEANINGS:
            image.info.pop(name, None)
    return profile


def profile_of(signal: Signal, *, is_grey: bool) -> bytes | None:
    """A profile for values of this meaning; None where they mean light beyond white, which a curve cannot say."""
    light = signal.light_of(signal.shares(np.linspace(0, 1, POINTS)))
    if light.max() > 1.001:
        return None
    curve = b"curv" + bytes(4) + struct.pack(">I", POINTS) + np.rint(light.clip(0, 1) * 65_535).astype(">u2").tobytes()
    tags = {b"desc": _named("colours of the source"), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(D50)}
    if is_grey:
        return _written(b"GRAY", tags | {b"kTRC": curve})
    columns = (np.array(BRADFORD) @ primaries_to_xyz(signal.primaries or SRGB)).T
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return _written(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def for_colours(profile: bytes) -> bytes:
    """A profile by which equal values of red, green and blue are what one value is by this profile of greys; itself
    where its curve is not understood."""
    greys = matrix_profile(profile, is_grey=True)
    return (greys and profile_of(Signal(greys.curves[0]), is_grey=False)) or profile


def _sound(profile: Any, is_grey: bool) -> bytes | None:
    """A profile that a reader of the result can use."""
    if not isinstance(profile, bytes) or len(profile) > MOST_PROFILE_BYTES:
        return None
    if profile[16:20] != (b"GRAY" if is_grey else b"RGB "):
        return None
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError):
        return None
    return profile


def _written(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of version 2.4 (ICC.1:2001-04), for a display."""
    table, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    begin = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        if data not in places:
            places[data] = begin + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    header = struct.pack(">I4xI4s4s4s12x4s", begin + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    illuminant = _xyz(D50)[8:]
    return (header + bytes(28) + illuminant).ljust(128, b"\0") + table + body


def _named(text: str) -> bytes:
    name = text.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67)


def _xyz(values: tuple[float, ...] | NDArray[Any]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))
