"""Results in the size that is asked for."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.core.output import OutputOptions
from penstock.core.target import Fit, Layout, Target
from penstock.errors import ImageTooLarge, InvalidRequest
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.pixels import fitting
from penstock.pixels.encoding import encode
from penstock.pixels.fitting import fitted, fitted_alpha
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

ROWS, COLUMNS = np.mgrid[:60, :90]
RGB = np.dstack([ROWS * 4, COLUMNS * 2, (ROWS * 7 + COLUMNS * 5) % 256]).astype(np.uint8)


PNG = OutputOptions()


def whole(width: int, height: int) -> Layout:
    return Layout((width, height), (width, height))


@pytest.mark.parametrize("in_linear_light", [False, True])
@pytest.mark.parametrize(("width", "height"), [(90, 60), (45, 30), (31, 47), (200, 100), (1, 1)])
def test_bands_join_without_a_seam(
    width: int, height: int, in_linear_light: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = fitted(RGB, whole(width, height), in_linear_light=in_linear_light)
    monkeypatch.setattr(fitting, "BAND_ROWS", 7)

    in_bands = fitted(RGB, whole(width, height), in_linear_light=in_linear_light)

    assert np.abs(in_bands.astype(int) - at_once).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(45, 30), (31, 47), (200, 100)])
def test_values_are_resampled_bicubically_as_they_are_stored(width: int, height: int) -> None:
    made = fitted(RGB, whole(width, height), in_linear_light=False)

    wanted = np.asarray(Image.fromarray(RGB).resize((width, height), Image.Resampling.BICUBIC))
    assert np.abs(made.astype(int) - wanted)[..., :2].max() <= 1  # where nothing is clipped on the way
    assert np.abs(made.astype(int) - wanted).mean() < 0.3


def test_in_linear_light_a_fine_pattern_keeps_its_brightness() -> None:
    fine = np.repeat(((ROWS + COLUMNS) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)

    light = fitted(fine, whole(45, 30), in_linear_light=True)[2:-2, 2:-2]
    stored = fitted(fine, whole(45, 30), in_linear_light=False)[2:-2, 2:-2]

    assert np.abs(light.astype(int) - 188).max() <= 1  # half of the light of white in sRGB
    assert np.abs(stored.astype(int) - 128).max() <= 1


def test_every_level_comes_back_from_linear_light() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)

    assert np.array_equal(
        fitted(levels.repeat(2, 0).repeat(2, 1), whole(32, 32), in_linear_light=True)[::2, ::2], levels
    )


@pytest.mark.parametrize("alpha", [None, np.full((20, 30), 200, np.uint8)])
def test_a_border_is_transparent_and_the_image_lies_in_the_middle(alpha: Any) -> None:
    layout = Target(width=90, height=100, fit="contain").layout(90, 60)

    opacity = fitted_alpha(alpha, layout)

    assert opacity is not None
    assert opacity.shape == (100, 90)
    assert not opacity[:20].any()
    assert not opacity[80:].any()
    assert (opacity[20:80] == (255 if alpha is None else 200)).all()
    assert np.array_equal(fitted(RGB, layout, in_linear_light=False)[20:80], RGB)


def logo() -> Any:
    """White, opaque and round, with a dark shadow around it that is nearly not there; nothing beyond that."""
    distance = np.hypot(ROWS - 30, COLUMNS - 45)
    alpha = np.select([distance < 18, distance < 24], [255, 60], 0).astype(np.uint8)
    return np.dstack([np.repeat(np.where(distance < 18, 255, 0).astype(np.uint8)[..., None], 3, 2), alpha])


def on(shade: int, rgb: Any, alpha: Any) -> Any:
    opacity = alpha[..., None] / np.iinfo(alpha.dtype).max
    return rgb / (np.iinfo(rgb.dtype).max / 255) * opacity + shade * (1 - opacity)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shade", [0, 255])
@pytest.mark.parametrize(("width", "height"), [(45, 30), (31, 47), (200, 100)])
def test_what_is_hardly_seen_does_not_discolour_the_edge_of_what_is_opaque(
    width: int, height: int, shade: int, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "BAND_ROWS", 16)
    source = logo().astype(kind) * (1 if kind is np.uint8 else 257)
    rgb, alpha, layout = source[..., :3], source[..., 3], whole(width, height)

    made = fitted(rgb, layout, in_linear_light=False, alpha=alpha)

    opacity = fitted_alpha(alpha, layout, kind)
    wanted = np.asarray(Image.fromarray(logo()).resize((width, height), Image.Resampling.BICUBIC))
    shown = np.abs(on(shade, made, opacity) - on(shade, wanted[..., :3], wanted[..., 3]))
    assert shown.max() < 20  # where the filter overshoots, and Pillow clips; 50 where all colours count the same
    assert shown.mean() < 0.2  # and 0.7 to 1.8


@pytest.mark.parametrize("in_linear_light", [False, True])
def test_an_alpha_of_another_size_counts_as_one_of_the_same(in_linear_light: bool) -> None:
    source, layout = logo(), whole(45, 30)
    large, alpha = source[..., :3].repeat(2, 0).repeat(2, 1), source[..., 3]
    enlarged = np.asarray(Image.fromarray(alpha).resize((180, 120), Image.Resampling.BICUBIC))

    same = fitted(large, layout, in_linear_light=in_linear_light, alpha=enlarged)
    other = fitted(large, layout, in_linear_light=in_linear_light, alpha=alpha)

    assert np.abs(same.astype(int) - other).max() <= 1


def test_covering_shows_the_middle() -> None:
    layout = Target(width=30, height=60, fit="cover").layout(90, 60)

    assert np.array_equal(fitted(RGB, layout, in_linear_light=False), RGB[:, 30:60])
    alpha = RGB[..., 0].copy()
    cut = fitted_alpha(alpha, layout)
    assert cut is not None
    assert np.array_equal(cut, alpha[:, 30:60])


def test_an_opaque_image_without_a_border_stays_opaque() -> None:
    assert fitted_alpha(None, whole(8, 8)) is None


# --- the model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runner() -> SuperResolution:
    runner = SuperResolution(LimitSettings(max_result_megapixels=1))
    runner.load_model(cpu(1))
    return runner


def run(
    on: SuperResolution, picture: Picture, params: SuperresParams, output: OutputOptions | None = None
) -> Image.Image:
    source, output = encode(picture, OutputOptions()), output or OutputOptions()
    work = on.prepare(source, params)
    for index in range(work.count):
        work.accept(index, on.infer(work.tile(index)[None], work)[0])
    product = on.postprocess(work, params, output)
    assert product.file is not None
    image = Image.open(io.BytesIO(product.file))
    assert image.size == work.size == (product.width, product.height)
    assert image.size == on.output_size(picture.rgb.shape[1], picture.rgb.shape[0], params)
    return image


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({"scale": 1.0}, (24, 16)),
        ({"scale": 2.0}, (48, 32)),
        ({"scale": 3.3}, (79, 53)),
        ({"scale": 4.0}, (96, 64)),
        ({"scale": 8.0}, (192, 128)),
        ({"width": 5}, (5, 3)),
        ({"width": 50, "height": 50}, (50, 33)),
        ({"width": 50, "height": 50, "fit": "fill"}, (50, 50)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_photo_comes_in_the_size_that_is_asked_for(
    runner: SuperResolution, asked: dict[str, Any], size: tuple[int, int], mode: str
) -> None:
    rgb = RGB[:16, :24]
    if mode == "L":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    picture = Picture(rgb, np.full((16, 24), 99, np.uint8) if mode == "RGBA" else None, mode == "L")

    image = run(runner, picture, SuperresParams(**asked))

    assert (image.size, image.mode) == (size, mode)
    bands = np.asarray(image.convert("RGBA"), float).mean(axis=(0, 1))
    assert np.abs(bands[:3] - rgb.mean(axis=(0, 1))).max() < 6
    assert bands[3] == (99 if mode == "RGBA" else 255)


@pytest.mark.parametrize(("fit", "mode"), [("contain", "RGBA"), ("cover", "RGB"), ("inside", "RGB")])
def test_only_a_border_makes_a_photo_transparent(runner: SuperResolution, fit: Fit, mode: str) -> None:
    params = SuperresParams(width=40, height=40, fit=fit)

    assert run(runner, Picture(RGB[:16, :24]), params).mode == mode
    bordered = run(runner, Picture(RGB[:16, :24]), params, OutputOptions(background="#204080"))
    if fit == "contain":
        assert bordered.getpixel((0, 0)) == (0x20, 0x40, 0x80)


def test_a_tile_has_no_longer_side_than_was_asked_for(runner: SuperResolution) -> None:
    source = encode(Picture(np.zeros((200, 300, 3), np.uint8)), OutputOptions())

    whole, cut = runner.prepare(source, SuperresParams()), runner.prepare(source, SuperresParams(tile=96))

    assert (whole.count, max(whole.shape[:2])) == (1, 300)
    assert cut.count > 1
    assert max(cut.shape[:2]) <= 96
    assert cut.device_size is not None
    assert whole.device_size is not None
    assert cut.device_size > whole.device_size


def test_a_result_that_is_too_large_is_refused_before_any_work(runner: SuperResolution) -> None:
    source = encode(Picture(RGB), OutputOptions())

    for params, param in (
        (SuperresParams(width=1001, height=1000, fit="fill"), "params.width"),
        (SuperresParams(height=900), "params.height"),
    ):
        with pytest.raises(ImageTooLarge, match="the limit is 1 MP") as refused:
            runner.memory_needed(source, params)
        assert refused.value.param == param
    with pytest.raises(InvalidRequest):
        runner.memory_needed(source, SuperresParams(scale=2.0, width=10))


@pytest.mark.parametrize(
    ("output", "bytes_each"),
    [
        (OutputOptions(format="jpeg"), 0),
        (OutputOptions(format="webp"), 6),
        (OutputOptions(format="webp", lossless=True), 23),
        (OutputOptions(format="avif"), 38),
        (OutputOptions(format="tiff"), 9),
    ],
)
def test_memory_for_a_result_has_what_its_encoder_takes(
    runner: SuperResolution, output: OutputOptions, bytes_each: int
) -> None:
    source, params = encode(Picture(RGB), PNG), SuperresParams(scale=2.0)

    needed = runner.memory_needed(source, params)

    assert runner.memory_for(source, params, output) == needed + bytes_each * 180 * 120


def test_memory_for_a_result_of_another_size_is_that_of_both(runner: SuperResolution) -> None:
    source = encode(Picture(RGB), OutputOptions())

    usual = runner.memory_needed(source, SuperresParams())
    small, large = (runner.memory_needed(source, SuperresParams(scale=scale)) for scale in (1.0, 8.0))

    assert usual < small < large
    assert large - small == 9 * 60 * 90 * (64 - 1)
