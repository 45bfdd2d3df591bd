"""What is hidden under full transparency does not reach what is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.filling import filled
from penstock.pixels.picture import Picture, Pixels
from penstock.settings import LimitSettings

RED = (220, 40, 40)


def disc(hidden: tuple[int, int, int], *, soft: bool) -> Picture:
    """A red disc with a hard or a soft edge, and another colour under what is not seen."""
    rows, columns = np.mgrid[:48, :48] - 23.5
    distance = np.hypot(rows, columns)
    alpha = (np.clip((18 - distance) / (4 if soft else 1e-6), 0, 1) * 255).astype(np.uint8)
    rgb = np.where(alpha[..., None] > 0, np.array(RED), np.array(hidden)).astype(np.uint8)
    return Picture(rgb, alpha)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seen=st.floats(0, 1),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_what_is_seen_stays_and_what_is_hidden_lies_between_seen_colours(
    height: int, width: int, seen: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (height, width, 3), np.uint8)
    alpha = np.where(random.random((height, width)) < seen, np.uint8(255), np.uint8(0))

    made = filled(rgb, alpha)

    visible = alpha > 0
    assert made.shape == rgb.shape
    assert np.array_equal(made[visible], rgb[visible])
    if visible.any():
        low, high = rgb[visible].min(axis=0).astype(int), rgb[visible].max(axis=0).astype(int)
        assert (made[~visible] >= low - 2).all()
        assert (made[~visible] <= high + 2).all()


def test_an_image_with_nothing_hidden_or_all_of_it_is_not_copied() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)

    assert filled(rgb, None) is rgb
    assert filled(rgb, np.full((4, 4), 1, np.uint8)) is rgb
    assert filled(rgb, np.zeros((4, 4), np.uint8)) is rgb


@pytest.fixture(scope="module")
def upscaler() -> SuperResolution:
    runner = SuperResolution(LimitSettings())
    runner.load_model(Device(name="cpu", kind="cpu", threads=2, sides=(64,), any_side_to=384, batches=(1,)))
    return runner


def upscaled(runner: SuperResolution, picture: Picture) -> Pixels:
    params = SuperresParams(variant="clean")
    work = runner.prepare(encode(picture, OutputOptions()), params)
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])
    made = decode(bytes(runner.postprocess(work, params, OutputOptions()).file))
    assert made.alpha is not None
    return made.rgb[made.alpha > 8]


@pytest.mark.parametrize("soft", [True, False], ids=["soft", "hard"])
def test_no_colour_under_transparency_bleeds_into_the_edge(upscaler: SuperResolution, soft: bool) -> None:
    made = {hidden: upscaled(upscaler, disc(hidden, soft=soft)) for hidden in ((0, 0, 0), (255, 255, 255), (0, 0, 255))}

    for pixels in made.values():
        assert np.abs(pixels.astype(int) - RED).max() <= 24
    first, *others = made.values()
    assert all(np.abs(first.astype(int) - other).max() <= 1 for other in others)
