"""superres-x4 with 16 bits: in floats from the file that is read to the one that is written."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError
from penstock.models.onnxruntime.deep import DeepSession, deepened
from penstock.models.onnxruntime.session import Session, files_of, manifest
from penstock.models.superres import SuperResolution
from penstock.models.superres.params import Alpha, SuperresParams, Variant
from penstock.pixels.decoding import UNBOUNDED, decode
from penstock.pixels.encoding import encode
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture, PixelForm
from penstock.settings import LimitSettings
from tests.pixels.pngs import png

CPU = Device(name="cpu", kind="cpu", threads=2, sides=(64,), any_side_to=384, batches=(1,))
SIXTEEN = OutputOptions(bits=16)
WHITE = 65_535
VARIANTS: tuple[Variant, ...] = ("general", "clean")


@pytest.fixture(scope="module")
def upscaler() -> SuperResolution:
    runner = SuperResolution(LimitSettings())
    runner.load_model(CPU)
    return runner


def file_of(runner: SuperResolution, data: bytes, params: SuperresParams, output: OutputOptions = SIXTEEN) -> bytes:
    work = runner.prepare(data, params, output)
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])
    file = runner.postprocess(work, params, output).file
    assert file is not None
    return file


def upscaled(runner: SuperResolution, data: bytes, variant: Variant = "clean", alpha: Alpha = "network") -> Picture:
    file = file_of(runner, data, SuperresParams(variant=variant, alpha=alpha))
    assert probe(file, ImageBounds()).bits == 16
    return decode(file, UNBOUNDED, PixelForm(is_deep=True))


def noise(channels: int, height: int = 20, width: int = 24) -> NDArray[np.uint16]:
    return np.random.default_rng(channels).integers(0, WHITE + 1, (height, width, channels), np.uint16)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_result_is_what_the_network_computes_in_floats(
    upscaler: SuperResolution, variant: Variant, shipped: Callable[[str], Callable[[Any], list[Any]]]
) -> None:
    values = noise(3)
    planes = (values / WHITE).astype(np.float32).transpose(2, 0, 1)[None]

    exact = shipped(manifest()[("superres-x4", variant)].file)(planes)[0][0].transpose(1, 2, 0)

    made = upscaled(upscaler, png(values, 16), variant).rgb
    assert np.abs(made - WHITE * exact.clip(0, 1)).max() <= 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_sixteen_bits_and_eight_are_the_same_within_rounding(upscaler: SuperResolution, variant: Variant) -> None:
    values = noise(4) >> 8
    values[..., 3] = 6 + np.indices((20, 24)).sum(axis=0) * 5
    data = png(values, 8)

    deep = upscaled(upscaler, data, variant, "bicubic")
    usual = decode(file_of(upscaler, data, SuperresParams(variant=variant, alpha="bicubic"), OutputOptions()))

    assert np.abs(deep.rgb / 257 - usual.rgb).max() <= 0.51
    assert deep.alpha is not None
    assert usual.alpha is not None
    assert np.abs(deep.alpha / 257 - usual.alpha).max() <= 1.01, "bicubic of bytes rounds twice"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gradient_stays_monotone_and_has_more_levels_than_bytes_have(
    upscaler: SuperResolution, channels: int
) -> None:
    ramp = np.linspace(20_000, 24_000, 96).astype(np.uint16)[None, :, None].repeat(24, 0).repeat(channels, 2)

    row = upscaled(upscaler, png(ramp, 16)).rgb[48, :, 1].astype(int)

    inner = row[16:-16]
    assert (np.diff(inner) >= 0).all()
    assert len(np.unique(inner)) > 256, "16 of 256 are between its ends"


@pytest.mark.parametrize("alpha", ["network", "bicubic"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_stays_grey_and_transparency_has_all_its_bits(
    upscaler: SuperResolution, channels: int, alpha: Alpha
) -> None:
    made = upscaled(upscaler, png(noise(channels), 16), alpha=alpha)

    assert made.grey == (channels < 3)
    assert (made.alpha is not None) == (channels in (2, 4))
    if made.alpha is not None:
        assert made.alpha.dtype == np.uint16
        assert len(np.unique(made.alpha)) > 256


def test_no_hidden_colour_reaches_what_is_nearly_transparent(upscaler: SuperResolution) -> None:
    made = []
    for hidden in (0, WHITE):
        values = np.full((24, 24, 4), (hidden, hidden, hidden, 0), np.uint16)
        values[:, :12] = (50_000, 9_000, 9_000, 1)  # an alpha that would be 0 with 8 bits
        made.append(upscaled(upscaler, png(values, 16)).rgb[:, :48].astype(int))

    assert np.abs(made[0] - made[1]).max() <= 257
    assert np.abs(made[0] - (50_000, 9_000, 9_000)).max() <= 8 * 257


def test_a_jpeg_gives_sixteen_bits_too(upscaler: SuperResolution) -> None:
    photo = encode(Picture((noise(3) >> 8).astype(np.uint8)), OutputOptions(format="jpeg"))

    assert len(np.unique(upscaled(upscaler, photo).rgb)) > 1000


@pytest.mark.parametrize("scale", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_result_of_another_size_has_all_its_bits(upscaler: SuperResolution, channels: int, scale: float) -> None:
    slope = (np.indices((20, 24)).sum(axis=0) * 1400)[..., None].repeat(channels, 2)
    data = png(slope + 257 * np.arange(channels), 16)
    params = SuperresParams(variant="clean", scale=scale)

    deep = decode(file_of(upscaler, data, params), UNBOUNDED, PixelForm(is_deep=True))
    usual = decode(file_of(upscaler, data, params, OutputOptions()))

    assert deep.rgb.dtype == np.uint16
    assert deep.rgb.shape == usual.rgb.shape
    assert len(np.unique(deep.rgb)) > 256
    assert deep.grey == usual.grey == (channels == 1)
    assert np.abs(deep.rgb / 257 - usual.rgb).mean() <= 1.5


def test_an_image_of_sixteen_bits_is_made_smaller_in_linear_light(upscaler: SuperResolution) -> None:
    values = noise(3, 40, 40) // 2 + 10_000
    params = SuperresParams(variant="clean", width=20)

    deep = decode(file_of(upscaler, png(values, 16), params), UNBOUNDED, PixelForm(is_deep=True))
    usual = decode(file_of(upscaler, png(values, 16), params, OutputOptions()))

    assert np.abs(deep.rgb / 257 - usual.rgb).max() <= 2


def test_a_background_and_a_density_are_those_of_eight_bits(upscaler: SuperResolution) -> None:
    values = noise(4)
    values[..., 3] = np.indices((20, 24)).sum(axis=0) * 1500
    made = {}
    for bits in (8, 16):
        output = OutputOptions(bits=bits, background="#204080", dpi=300)
        file = file_of(upscaler, png(values, 16), SuperresParams(), output)
        made[bits] = decode(file, UNBOUNDED, PixelForm(is_deep=True))
        assert round(Image.open(io.BytesIO(file)).info["dpi"][0]) == 300

    assert made[16].alpha is made[8].alpha is None
    assert np.abs(made[16].rgb / 257 - made[8].rgb).mean() <= 1.5


def test_a_large_image_in_tiles_has_no_seam() -> None:
    values = noise(3, 60, 150)
    runner = SuperResolution(LimitSettings())
    runner.load_model(Device(name="cpu", kind="cpu", threads=2, sides=(64,), any_side_to=80, batches=(1,)))

    whole, _ = DeepSession(manifest()[("superres-x4", "clean")], CPU).run(values[None])

    assert np.abs(upscaled(runner, png(values, 16)).rgb.astype(int) - whole[0]).max() <= 257


# -- what others pay for it ---------------------------------------------------------------------------


def test_nothing_is_opened_for_tasks_that_do_not_ask() -> None:
    runner = SuperResolution(LimitSettings())
    runner.load_model(CPU)
    data = png(noise(3), 16)

    file_of(runner, data, SuperresParams(variant="clean"), OutputOptions())
    assert runner._deep.opened == ()
    file_of(runner, data, SuperresParams(variant="clean"))
    assert len(runner._deep.opened) == 1


def test_the_memory_of_a_task_counts_its_bits(upscaler: SuperResolution) -> None:
    data = png(noise(4), 16)
    usual, deep = (upscaler.memory_needed(data, SuperresParams(), OutputOptions(bits=bits)) for bits in (8, 16))

    assert 1.8 * usual < deep < 3 * usual


@pytest.mark.parametrize("file", [file for file in files_of("superres-x4") if file.precision == "fp32"], ids=str)
def test_every_file_of_the_network_can_have_sixteen_bits(file: Any) -> None:
    contents = file.read()

    made = deepened(contents, file.file)

    assert len(made) == len(contents)
    assert sum(a != b for a, b in zip(made, contents, strict=True)) < 16


def test_a_graph_with_other_ends_is_refused() -> None:
    (scorer,) = files_of("image-scoring-v1")[:1]

    for contents in (scorer.read(), b"", b"\xff" * 50, scorer.read()[:1000]):
        with pytest.raises(ConfigurationError):
            deepened(contents, scorer.file)


@pytest.mark.at_length
def test_a_session_of_sixteen_bits_takes_and_gives_them() -> None:
    file = manifest()[("superres-x4", "clean")]
    tile = noise(3)[None]

    deep, usual = DeepSession(file, CPU), Session(file, CPU)

    assert deep.run(tile)[0].dtype == np.uint16
    assert usual.run((tile >> 8).astype(np.uint8))[0].dtype == np.uint8
