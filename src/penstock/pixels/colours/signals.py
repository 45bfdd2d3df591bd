"""What a PNG says of its values without a profile: the chunks cICP, and gAMA with cHRM.

A value becomes light by a transfer function, the light of three primaries that of sRGB's by a matrix, and light a value
of sRGB again. Sources: PNG, third edition of the W3C, 4.3; the numbers in cICP are those of ITU-T H.273.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

Light: TypeAlias = "NDArray[Any]"
Chromaticities = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""x and y of white, red, green and blue, in the order of cHRM."""

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    5: (D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}

USUAL_GAMMA, AS_GOOD_AS = 1 / 2.2, 0.05
"""What gAMA says of sRGB, and the share by which others may differ from it and still be taken for it, as in libpng
(PNG_GAMMA_THRESHOLD)."""

WHITE_NITS = 203
"""The light of a white page in a picture of high dynamic range (ITU-R BT.2408). Brighter light is clipped."""

LEVELS = 2**14
"""Steps of light between 0 and 1 for which the value of sRGB is kept: at the dark end, one is a fifth of a level."""


class Signal(Struct, frozen=True, eq=False):
    """How values become light: the light of 0..1, (n,), and primaries; None for those of sRGB."""

    light_of: Callable[[Light], Light]
    primaries: Chromaticities | None = None
    is_narrow: bool = False

    def in_srgb(self, pixels: Pixels) -> Pixels:
        """Convert (height, width, 3), or one channel, (height, width)."""
        light = self.light_of(self.shares(np.arange(256) / 255)).astype(np.float32)
        if self.primaries is None or pixels.ndim == 2:
            return _value_of(light)[pixels]
        seen = light[pixels]
        matrix = (np.linalg.inv(primaries_to_xyz(SRGB)) @ primaries_to_xyz(self.primaries)).astype(np.float32)
        mixed = [sum(weight * seen[..., i] for i, weight in enumerate(row)) for row in matrix]
        return _value_of(np.stack(mixed, axis=2))

    def shares(self, values: Light) -> Light:
        """Values of 0..1 as shares of white: a narrow signal has 16 of 255 for black, and 235 for white."""
        return ((values * 255 - 16) / 219).clip(0, 1) if self.is_narrow else values


def signal_of(cicp: bytes | None, gamma: float | None, chromaticity: tuple[float, ...] | None) -> Signal | None:
    """What these chunks say; None where it is sRGB, or nothing that is known. `gamma` and `chromaticity` are numbers as
    Pillow reads them."""
    if cicp is not None and len(cicp) == 4 and cicp[0] in PRIMARIES and cicp[1] in TRANSFERS and not cicp[2]:
        primaries = None if PRIMARIES[cicp[0]] == SRGB else PRIMARIES[cicp[0]]
        is_plain = primaries is None and cicp[1] == 13 and cicp[3] == 1
        return None if is_plain else Signal(TRANSFERS[cicp[1]], primaries, cicp[3] == 0)
    if not gamma or gamma <= 0:
        return None
    primaries = _own_primaries(chromaticity)
    is_usual = abs(gamma / USUAL_GAMMA - 1) <= AS_GOOD_AS
    if is_usual and primaries is None:
        return None
    return Signal(_of_srgb if is_usual else lambda values: values ** (1 / gamma), primaries)


def _own_primaries(chromaticity: tuple[float, ...] | None) -> Chromaticities | None:
    """Those of a chunk cHRM, unless they are sRGB's, or no colours that a screen can have."""
    if chromaticity is None or len(chromaticity) != 8:
        return None
    x, y = chromaticity[::2], chromaticity[1::2]
    if min(y) <= 0 or np.abs(np.subtract(chromaticity, np.ravel(SRGB))).max() < 0.002:
        return None
    found: Any = tuple(zip(x, y, strict=True))
    return found if abs(np.linalg.det([[a, b, 1 - a - b] for a, b in found[1:]])) > 0.01 else None


def primaries_to_xyz(primaries: Chromaticities) -> Light:
    """The matrix from light of these primaries to CIE XYZ, with white at the same place for all: (Bruce Lindbloom's
    derivation, without adaptation: all but one of the whites are D65)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries[1:]]).T
    x, y = D65
    matrix: Light = columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])
    return matrix


def _value_of(light: Light) -> Pixels:
    table = np.linspace(0, 1, LEVELS)
    dark = table <= 0.0031308
    values = np.where(dark, 12.92 * table, 1.055 * table ** (1 / 2.4) - 0.055)
    steps = np.rint(light.clip(0, 1) * (LEVELS - 1)).astype(np.uint16)
    made: Pixels = np.rint(values * 255).astype(np.uint8)[steps]
    return made


def _of_srgb(values: Light) -> Light:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _of_bt709(values: Light) -> Light:
    return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


def _of_pq(values: Light) -> Light:
    """SMPTE ST 2084."""
    root = values ** (32 / 2523)
    nits = 10_000 * (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    light: Light = nits / WHITE_NITS
    return light


def _of_hlg(values: Light) -> Light:
    """ITU-R BT.2100, with the light of 75 % as that of a white page (BT.2408)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light: Light = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    scaled: Light = light / ((np.exp((0.75 - c) / a) + b) / 12)
    return scaled


TRANSFERS: dict[int, Callable[[Light], Light]] = {
    **dict.fromkeys((1, 6, 14, 15), _of_bt709),
    4: lambda values: values**2.2,
    5: lambda values: values**2.8,
    8: lambda values: values,
    13: _of_srgb,
    16: _of_pq,
    18: _of_hlg,
}
