"""The input tensor, compared with what a few lines of plain NumPy and Pillow make of the same image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from penstock.models.declared.definition import InputSection
from penstock.models.declared.placement import place
from penstock.models.declared.tensor import BOUNDS, TensorForm, tensor_of
from penstock.pixels.picture import Picture
from penstock.pixels.resampling import FILTERS

UNHURRIED = settings(max_examples=50)
"""A machine may be busy."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height: int, width: int, seed: int, *, alpha: bool = False, grey: bool = False) -> Picture:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (height, width, 3), np.uint8)
    if grey:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    return Picture(rgb, random.integers(0, 256, (height, width), np.uint8) if alpha else None, grey)


def made(image: Picture, section: InputSection) -> np.ndarray:
    height, width = image.rgb.shape[:2]
    return tensor_of(image, place(section, width, height, max_pixels=1e9), section, TensorForm(section))


def plain(pixels: np.ndarray, section: InputSection) -> np.ndarray:
    """(height, width, channels) in the order of the tensor -> the tensor, step by step in fp64."""
    low, high = BOUNDS[section.range]
    values = pixels.astype(np.float64) / 255 * (high - low) + low
    values = (values - np.array(section.mean or (0.0,))) / np.array(section.std or (1.0,))
    return values.transpose(2, 0, 1) if section.layout.startswith(("NC", "C")) else values


@UNHURRIED
@given(
    st.sampled_from(["NCHW", "NHWC", "CHW", "HWC"]),
    st.sampled_from(["RGB", "BGR"]),
    st.sampled_from(sorted(BOUNDS)),
    st.booleans(),
    st.sampled_from([("float32", 1e-6), ("float16", 2e-3)]),
    st.integers(0, 2**32),
)
def test_layout_colours_range_mean_and_type_are_as_declared(
    layout: str, colour: str, span: str, normalised: bool, dtype: tuple[str, float], seed: int
) -> None:
    more: dict[str, Any] = {"mean": MEAN, "std": STD} if normalised else {}
    section = InputSection(layout=layout, colour=colour, range=span, dtype=dtype[0], resize="none", **more)  # type: ignore[arg-type]
    image = picture(5, 7, seed)

    tensor = made(image, section)

    expected = plain(image.rgb if colour == "RGB" else image.rgb[..., ::-1], section)
    assert tensor.dtype == dtype[0]
    assert np.abs(tensor - expected).max() <= dtype[1] * np.abs(expected).max()


@pytest.mark.parametrize("how", sorted(FILTERS))
def test_an_image_is_stretched_with_the_filter_of_pillow(how: str) -> None:
    section = InputSection(size=(20, 30), resample=how)  # type: ignore[arg-type]
    image = picture(70, 50, 1)

    expected = np.asarray(Image.fromarray(image.rgb).resize((20, 30), Image.Resampling[FILTERS[how]]))

    assert made(image, section) == pytest.approx(plain(expected, section), abs=1e-6)


def test_bytes_stay_bytes() -> None:
    section = InputSection(dtype="uint8", range="0-255", layout="NHWC", resize="none")
    image = picture(5, 7, 2)

    assert (made(image, section) == image.rgb).all()


@pytest.mark.parametrize(("pad_at", "top"), [("centre", 8), ("end", 0)])
@pytest.mark.parametrize(("level", "value"), [(114, 114 / 255), (0, 0.0)])
def test_a_letterbox_has_the_level_around(pad_at: str, top: int, level: int, value: float) -> None:
    section = InputSection(resize="letterbox", size=(32, 32), pad_value=level, pad_at=pad_at)  # type: ignore[arg-type]
    image = picture(16, 32, 3)

    tensor = made(image, section)

    assert tensor[:, top : top + 16] == pytest.approx(plain(image.rgb, section), abs=1e-6)
    around = np.delete(tensor, slice(top, top + 16), axis=1)
    assert around == pytest.approx(np.full((3, 16, 32), value), abs=1e-6)


def test_half_of_all_levels_is_nought_between_minus_one_and_one() -> None:
    section = InputSection(resize="height", size=(32, 16), pad_value=127.5, range="-1-1")

    tensor = made(picture(16, 8, 4), section)

    assert (tensor[..., 8:] == 0).all()
    assert (np.abs(tensor[..., :8]) > 0).all()


def test_an_image_is_padded_to_a_square_before_it_is_stretched() -> None:
    section = InputSection(resize="square", size=(16, 16), resample="area", pad_value=50)
    image = picture(16, 32, 5)

    squared = np.full((32, 32, 3), 50, np.uint8)
    squared[:16] = image.rgb
    expected = np.asarray(Image.fromarray(squared).resize((16, 16), Image.Resampling.BOX))

    assert made(image, section) == pytest.approx(plain(expected, section), abs=1e-6)


def test_the_middle_of_a_crop_is_kept() -> None:
    section = InputSection(resize="crop", size=(8, 8))
    image = picture(8, 20, 6)

    assert made(image, section) == pytest.approx(plain(image.rgb[:, 6:14], section), abs=1e-6)


def test_a_border_is_put_around() -> None:
    section = InputSection(resize="none", border_px=3, pad_value=255)
    image = picture(4, 5, 7)

    tensor = made(image, section)

    assert tensor.shape == (3, 10, 11)
    assert tensor[:, 3:7, 3:8] == pytest.approx(plain(image.rgb, section), abs=1e-6)
    assert (tensor[:, :3] == 1).all()


def test_what_is_transparent_lies_on_white_unless_the_network_takes_four_channels() -> None:
    image = picture(6, 6, 8, alpha=True)
    assert image.alpha is not None
    share = image.alpha[..., None] / 255

    three = made(image, InputSection(resize="none"))
    four = made(image, InputSection(resize="none", channels=4, colour="BGRA"))

    assert three == pytest.approx(((image.rgb * share + 255 * (1 - share)) / 255).transpose(2, 0, 1), abs=1 / 255)
    assert four[3] == pytest.approx(image.alpha / 255, abs=1e-6)
    assert four[:3] == pytest.approx(image.rgb[..., ::-1].transpose(2, 0, 1) / 255, abs=1e-6)


@pytest.mark.parametrize("grey", [True, False])
def test_one_channel_is_the_luma_of_the_colours(grey: bool) -> None:
    image = picture(6, 6, 9, grey=grey)

    tensor = made(image, InputSection(resize="none", channels=1, colour="grey"))

    expected = image.rgb[..., 0] if grey else np.asarray(Image.fromarray(image.rgb).convert("L"))
    assert tensor[0] == pytest.approx(expected / 255, abs=1e-6)
