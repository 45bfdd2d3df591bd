"""ICC profiles that are three curves and a matrix, or one curve of greys, as those of nearly all working spaces are.

The library that converts by profiles has 8 bits in Pillow: for more, these are computed here. Source: ICC.1:2022,
7.2 (header), 8.3.3 and 8.4.3 (the models), 10.6 (curveType), 10.18 (parametricCurveType), 10.31 (XYZType).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

Light: TypeAlias = "NDArray[Any]"

SRGB_D50 = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
"""From light of sRGB's primaries to CIE XYZ with the white of profiles (Bruce Lindbloom, adapted by Bradford)."""

PARAMETERS = (1, 3, 4, 5, 7)
"""How many numbers each parametric curve has: the first of g, a, b, c, d, e, f."""

TABLES = frozenset({b"A2B0", b"A2B1", b"A2B2"})
"""A profile that has one of these means them, whatever curves and matrix it has beside."""

COLOURS = ((b"rTRC", b"rXYZ"), (b"gTRC", b"gXYZ"), (b"bTRC", b"bXYZ"))

_fixed = struct.Struct(">i").unpack_from


class MatrixProfile(Struct, frozen=True, eq=False):
    """From values of 0..1 to light: a curve for each channel, and from the light of its primaries to that of sRGB's;
    None for greys."""

    curves: tuple[Callable[[Light], Light], ...]
    matrix: Light | None = None


def matrix_profile(profile: bytes | None, *, is_grey: bool) -> MatrixProfile | None:
    """The curves of a profile for greys or for RGB; None for one of another kind, and one that cannot be read."""
    if not profile or profile[16:20] != (b"GRAY" if is_grey else b"RGB "):
        return None
    try:
        tags = _tags(profile)
        if tags.keys() & TABLES:
            return None
        if is_grey:
            return _finite(MatrixProfile((_of_greys(tags, is_lightness=profile[20:24] == b"Lab "),)))
        return None if profile[20:24] != b"XYZ " else _finite(_of_colours(tags))
    except (KeyError, IndexError, struct.error, ValueError, np.linalg.LinAlgError):
        return None


def _finite(profile: MatrixProfile) -> MatrixProfile | None:
    """The profile, unless its curves have no light for some value."""
    with np.errstate(all="ignore"):
        is_finite = all(np.isfinite(curve(np.linspace(0, 1, 256))).all() for curve in profile.curves)
    return profile if is_finite else None


def _of_greys(tags: dict[bytes, bytes], *, is_lightness: bool) -> Callable[[Light], Light]:
    curve = _curve(tags[b"kTRC"])
    return (lambda values: _light_of_lightness(curve(values))) if is_lightness else curve


def _light_of_lightness(values: Light) -> Light:
    """Light for the lightness of CIE L*a*b*, 0..1 (ISO/CIE 11664-4)."""
    return np.where(values > 0.08, ((100 * values + 16) / 116) ** 3, 100 * values * 27 / 24389)


def _of_colours(tags: dict[bytes, bytes]) -> MatrixProfile:
    to_xyz = np.array([[_fixed(tags[place], at)[0] / 65536 for at in (8, 12, 16)] for _, place in COLOURS]).T
    return MatrixProfile(tuple(_curve(tags[curve]) for curve, _ in COLOURS), np.linalg.inv(SRGB_D50) @ to_xyz)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * n) for n in range(min(count, 100)))
    return {kind: profile[at : at + size] for kind, at, size in entries}


def _curve(tag: bytes) -> Callable[[Light], Light]:
    if tag[:4] == b"para":
        return _parametric(tag)
    if tag[:4] != b"curv":
        raise ValueError(tag[:4])
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return lambda values: values
    points = np.frombuffer(tag, ">u2", count, 12)
    if count == 1:
        gamma = points[0] / 256
        return lambda values: values**gamma
    return lambda values: np.interp(values, np.linspace(0, 1, count), points / 65535)


def _parametric(tag: bytes) -> Callable[[Light], Light]:
    (kind,) = struct.unpack_from(">H", tag, 8)
    given = [_fixed(tag, 12 + 4 * n)[0] / 65536 for n in range(PARAMETERS[kind])]
    g, a, b, c, d, e, f = (given + [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(given) :])[:7]
    if kind in (1, 2):  # their break is where the base is 0, and a constant is below it
        c, d, e, f = 0.0, -b / a, c, c
    return lambda values: np.where(values >= d, np.maximum(a * values + b, 0) ** g + e, c * values + f)
