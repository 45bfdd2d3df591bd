"""How far an enlarged photo is from the original, without the outermost 4 pixels.

PSNR counts colours, SSIM and GMSD (Xue 2014) the brightness, LPIPS what people see of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve  # type: ignore[import-untyped]
from skimage.metrics import structural_similarity

from .damage import Pixels

SHAVE_PX = 4
LUMINANCE = np.array([65.481, 128.553, 24.966]) / 255

Values = NDArray[np.float64]
Distance = Callable[[NDArray[Any], NDArray[Any]], float]


class Measures(NamedTuple):
    """PSNR is in dB; more is better of the first two, and less of the others."""

    psnr: float
    ssim: float
    lpips: float
    gmsd: float


def measured(large: Pixels, made: Pixels, lpips: Distance) -> Measures:
    wanted, got = (image[SHAVE_PX:-SHAVE_PX, SHAVE_PX:-SHAVE_PX].astype(np.float64) for image in (large, made))
    light, lit = (image @ LUMINANCE + 16 for image in (wanted, got))
    psnr = 10 * np.log10(255**2 / ((wanted - got) ** 2).mean())
    ssim = structural_similarity(  # type: ignore[no-untyped-call]
        light, lit, data_range=219, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return Measures(psnr, ssim, lpips(wanted, got), gmsd(light, lit))


def gmsd(one: Values, other: Values) -> float:
    """The deviation of the likeness of gradients, at half the size, with the authors' constant of 170."""
    first, second = slope(one), slope(other)
    return float(((2 * first * second + 170) / (first**2 + second**2 + 170)).std())


def slope(image: Values) -> Values:
    half = convolve(image, np.full((2, 2), 0.25))[::2, ::2]
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    sizes: Values = np.hypot(convolve(half, prewitt), convolve(half, prewitt.T))
    return sizes
