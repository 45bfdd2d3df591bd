"""Resampling as OpenCV's INTER_LINEAR, compared with digests of what `cv2.resize` of OpenCV 5.0.0 gives."""

import hashlib

import numpy as np
import pytest

from penstock.pixels.linear import linear

# Each: height, width and channels (0 for none) of the source, width and height of the result, and the sha256 of its
# bytes. Source pixels are (31 n² + 17 n) mod 251.
OPENCV = [
    (7, 9, 3, 5, 4, "31790da5174753a8"),
    (60, 80, 3, 30, 40, "bc753b384ec80cac"),
    (61, 83, 3, 224, 224, "3aa83c22327c593f"),
    (300, 200, 3, 17, 33, "37395d7a48390f2e"),
    (64, 48, 0, 64, 13, "281423113870fcb9"),
    (33, 21, 4, 100, 5, "99af82858a162cb9"),
]


@pytest.mark.parametrize(("height", "width", "channels", "to_width", "to_height", "digest"), OPENCV)
def test_every_pixel_is_that_of_opencv(
    height: int, width: int, channels: int, to_width: int, to_height: int, digest: str
) -> None:
    n = np.arange(height * width * max(channels, 1))
    source = ((31 * n * n + 17 * n) % 251).astype(np.uint8)
    shaped = source.reshape((height, width, channels) if channels else (height, width))

    result = linear(shaped, to_width, to_height)

    assert result.shape[:2] == (to_height, to_width)
    assert hashlib.sha256(np.ascontiguousarray(result)).hexdigest()[:16] == digest


def test_an_image_of_the_wanted_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)

    assert (linear(pixels, 7, 9) == pixels).all()
