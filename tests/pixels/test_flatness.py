"""What counts as one colour, and what as a picture that must not become one."""

import numpy as np
import pytest

from penstock.pixels.flatness import GLANCE_PX, SEEN_LEVELS, has_content, is_flat


def grey(height: int = 200, width: int = 300) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


@pytest.mark.parametrize("shape", [(1, 1, 3), (200, 300, 3), (200, 300), (7, 500, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_one_colour_is_flat_also_where_it_is_rounded(shape: tuple[int, ...], kind: type) -> None:
    levels = np.full(shape, 90, kind)
    assert is_flat(levels)

    levels[..., -1] += 1
    levels[0] += 0 if len(shape) == 2 else 1
    assert is_flat(levels)
    assert not has_content(levels)


@pytest.mark.parametrize("at", [(0, 0), (1, 1), (GLANCE_PX + 1, 5), (199, 299)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_pixel_of_another_colour_is_seen_wherever_it_is(at: tuple[int, int], channel: int) -> None:
    levels = grey()
    levels[(*at, channel)] += 2

    assert not is_flat(levels)


def test_channels_are_compared_with_themselves() -> None:
    assert is_flat(np.broadcast_to(np.array([10, 200, 90], np.uint8), (50, 50, 3)))
    assert not has_content(np.broadcast_to(np.array([10, 200, 90], np.uint8), (50, 50, 3)))


def test_a_hot_pixel_and_weak_noise_are_no_content_and_a_line_of_text_is() -> None:
    page, dark = np.full((600, 400, 3), 255, np.uint8), np.zeros((384, 384, 3), np.uint8)
    dark[100, 100] = 255
    noise = np.random.default_rng(1).normal(128, SEEN_LEVELS - 1, (200, 200, 3)).round().astype(np.uint8)
    assert not has_content(dark)
    assert not has_content(noise)

    page[300:312:2, 40:360] = 0
    assert has_content(page)
    assert has_content(page.astype(np.uint16) * 257)
    assert has_content(page[..., 0])
