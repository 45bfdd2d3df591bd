"""Colours with 16 bits: what a file says of its values, in sRGB, with no step of 8 bits on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from penstock.lazy_import import lazy_import
from penstock.pixels.colours.matrix_profiles import MatrixProfile, matrix_profile
from penstock.pixels.colours.profiles import in_srgb
from penstock.pixels.colours.signals import SRGB, Signal, primaries_to_xyz
from penstock.pixels.picture import Levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

WHITE = 65_535
STEP = 257
"""As many levels of 16 bits are one of 8."""

BAND_ROWS = 64
"""So many rows are converted at a time: light is kept in floats."""


def deep_in_srgb(levels: Levels, profile: bytes | None, signal: Signal | None) -> Levels:
    """Convert (height, width, 3), or one channel, (height, width), of uint16; `levels` itself where nothing is to be
    done. A profile with tables of colours, which is not curves and a matrix, is applied with 8 bits."""
    meaning = _of_signal(signal) if signal is not None else matrix_profile(profile, is_grey=levels.ndim == 2)
    if meaning is not None:
        return _converted(levels, meaning)
    rough = None if levels.ndim == 2 else in_srgb(Image.fromarray((levels // STEP).astype(np.uint8)), profile)
    return levels if rough is None else np.asarray(rough).astype(np.uint16) * np.uint16(STEP)


def _of_signal(signal: Signal) -> MatrixProfile:
    curves = (lambda values: signal.light_of(signal.shares(values)),) * 3
    if signal.primaries is None:
        return MatrixProfile(curves)
    return MatrixProfile(curves, np.linalg.inv(primaries_to_xyz(SRGB)) @ primaries_to_xyz(signal.primaries))


def _converted(levels: Levels, meaning: MatrixProfile) -> Levels:
    values = np.arange(WHITE + 1) / WHITE
    lights = [curve(values).astype(np.float32) for curve in meaning.curves]
    if meaning.matrix is None or levels.ndim == 2:
        tables = [levels_of_light(light) for light in lights]
        return _looked_up(levels, tables, np.empty_like(levels))
    made = np.empty_like(levels)
    for top in range(0, len(levels), BAND_ROWS):
        band = levels[top : top + BAND_ROWS]
        seen = _looked_up(band, lights, np.empty(band.shape, np.float32))
        mixed = [
            sum(weight * seen[..., i] for i, weight in enumerate(row)) for row in meaning.matrix.astype(np.float32)
        ]
        made[top : top + BAND_ROWS] = levels_of_light(np.stack(mixed, axis=2))
    return made


def _looked_up(levels: Levels, tables: list[NDArray[Any]], into: NDArray[Any]) -> NDArray[Any]:
    if levels.ndim == 2:
        into[...] = tables[0][levels]
        return into
    for channel, table in enumerate(tables * (3 // len(tables))):
        into[..., channel] = table[levels[..., channel]]
    return into


def levels_of_light(light: NDArray[Any]) -> Levels:
    """The transfer function of sRGB (IEC 61966-2-1), as levels."""
    light = light.clip(0, 1)
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    made: Levels = np.rint(values * WHITE).astype(np.uint16)
    return made
