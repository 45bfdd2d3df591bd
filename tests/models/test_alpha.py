"""Transparency that goes through the network: nearer to the original than bicubic, and exact where nothing changes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models.superres import SuperResolution
from penstock.models.superres.params import Alpha, SuperresParams, Variant
from penstock.models.tiling import TiledImage
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture, Pixels
from penstock.settings import LimitSettings

SIDE, SCALE, FINER = 256, 4, 4
VARIANTS: tuple[Variant, ...] = ("general", "clean")
WAYS: tuple[Alpha, ...] = ("network", "bicubic")


@pytest.fixture(scope="module")
def upscaler() -> SuperResolution:
    runner = SuperResolution(LimitSettings())
    runner.load_model(Device(name="cpu", kind="cpu", threads=2, sides=(64,), any_side_to=384, batches=(1,)))
    return runner


def done(runner: SuperResolution, data: bytes, params: SuperresParams) -> TiledImage:
    work = runner.prepare(data, params)
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])
    assert isinstance(work, TiledImage)
    return work


def answered(runner: SuperResolution, data: bytes, params: SuperresParams) -> Picture:
    file = runner.postprocess(done(runner, data, params), params, OutputOptions()).file
    assert file is not None
    return decode(file)


def upscaled(runner: SuperResolution, alpha: Pixels, params: SuperresParams) -> Pixels:
    picture = Picture(np.full((*alpha.shape, 3), 90, np.uint8), alpha)
    made = answered(runner, encode(picture, OutputOptions()), params).alpha
    assert made is not None
    return made


# -- shapes whose edges are known in full resolution --------------------------------------------------


def drawn(draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
    image = Image.new("L", (SIDE * FINER, SIDE * FINER), 0)
    draw(ImageDraw.Draw(image), FINER)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def text() -> Image.Image:
    def draw(on: ImageDraw.ImageDraw, unit: int) -> None:
        for line in range(5):
            on.text((6 * unit, 50 * line * unit), "Rag & brown", font=ImageFont.load_default(40 * unit), fill=255)

    return drawn(draw)


def logo() -> Image.Image:
    def draw(on: ImageDraw.ImageDraw, unit: int) -> None:
        on.ellipse((20 * unit, 20 * unit, 235 * unit, 235 * unit), fill=255)
        on.ellipse((50 * unit, 50 * unit, 205 * unit, 205 * unit), fill=0)
        on.polygon([(128 * unit, 30 * unit), (160 * unit, 150 * unit), (95 * unit, 165 * unit)], fill=200)
        on.line((0, 250 * unit, 256 * unit, 190 * unit), fill=255, width=4 * unit)

    return drawn(draw)


def hair() -> Image.Image:
    def draw(on: ImageDraw.ImageDraw, unit: int) -> None:
        random = np.random.default_rng(3)
        for start in np.linspace(-3, 0, 90):
            angles = start + np.cumsum(random.normal(0, 0.06, 40))
            steps = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * 4, axis=0)
            places = (steps + np.array([128, 200])) * unit
            on.line([tuple(place) for place in places], fill=int(random.uniform(90, 255)), width=2 * unit)

    return drawn(draw)


def shadow() -> Image.Image:
    return logo().filter(ImageFilter.GaussianBlur(8))


SHAPES = {"text": text, "logo": logo, "hair": hair, "shadow": shadow}


class Gain(NamedTuple):
    """By how much the network is nearer to a shape than bicubic, on average over ways to reduce it."""

    decibels: float
    similarity: float


def gain(runner: SuperResolution, shape: str) -> Gain:
    whole = SHAPES[shape]()
    gains = []
    for reduced_by in (Image.Resampling.BOX, Image.Resampling.BICUBIC):
        small = np.asarray(whole.resize((SIDE // SCALE, SIDE // SCALE), reduced_by))
        network, bicubic = (upscaled(runner, small, SuperresParams(variant="clean", alpha=how)) for how in WAYS)
        gains.append(nearness(network, whole) - nearness(bicubic, whole))
    return Gain(*np.mean(gains, axis=0))


def nearness(made: Pixels, whole: Image.Image) -> NDArray[np.float64]:
    # It loads SciPy, for two seconds in each process that collects the tests.
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    truth = np.asarray(whole)
    return np.array([peak_signal_noise_ratio(truth, made), structural_similarity(truth, made)])


@pytest.mark.parametrize(
    ("shape", "least"),
    [("text", Gain(2, 0.1)), ("logo", Gain(6, 0.02)), ("hair", Gain(0.2, 0.05)), ("shadow", Gain(-0.3, -0.001))],
    ids=list(SHAPES),
)
def test_the_network_is_nearer_to_edges_than_bicubic_and_keeps_soft_shadows(
    upscaler: SuperResolution, shape: str, least: Gain
) -> None:
    gained = gain(upscaler, shape)

    assert gained.decibels >= least.decibels
    assert gained.similarity >= least.similarity


def test_the_network_for_repairs_would_make_a_hard_edge_of_a_soft_shadow(upscaler: SuperResolution) -> None:
    whole = shadow()
    small = whole.resize((SIDE // SCALE, SIDE // SCALE), Image.Resampling.BICUBIC)
    as_colours = encode(Picture(np.asarray(small.convert("RGB"))), OutputOptions())

    repaired, clean = (answered(upscaler, as_colours, SuperresParams(variant=v)).rgb[..., 1] for v in VARIANTS)

    assert nearness(clean, whole)[0] > nearness(repaired, whole)[0] + 15


def test_transparency_is_the_same_whatever_the_network_of_the_colours(upscaler: SuperResolution) -> None:
    alpha: Pixels = np.asarray(logo().crop((40, 40, 90, 90)))

    general, clean = (upscaled(upscaler, alpha, SuperresParams(variant=variant)) for variant in VARIANTS)

    assert np.array_equal(general, clean)


def test_the_network_is_what_a_task_gets_that_says_nothing() -> None:
    assert SuperresParams().alpha == "network"


# -- what must hold of any ----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("alpha", WAYS)
def test_what_is_transparent_or_opaque_all_around_stays_exactly_so(
    upscaler: SuperResolution, variant: Variant, alpha: Alpha
) -> None:
    half = np.zeros((24, 40), np.uint8)
    half[:, 20:] = 255

    made = upscaled(upscaler, half, SuperresParams(variant=variant, alpha=alpha))

    assert not made[:, : 4 * 17].any()
    assert (made[:, 4 * 23 :] == 255).all()


def test_the_colours_are_the_same_however_transparency_is_enlarged(upscaler: SuperResolution) -> None:
    random = np.random.default_rng(5)
    alpha = random.integers(1, 256, (20, 30), np.uint8)
    data = encode(Picture(random.integers(0, 256, (20, 30, 3), np.uint8), alpha), OutputOptions())

    network, bicubic = (answered(upscaler, data, SuperresParams(alpha=how)) for how in WAYS)

    assert np.array_equal(network.rgb, bicubic.rgb)


def test_transparency_has_no_seam_where_tiles_meet() -> None:
    alpha: Pixels = np.asarray(logo().crop((0, 0, 100, 120)))
    data = encode(Picture(np.zeros((*alpha.shape, 3), np.uint8), alpha), OutputOptions())
    made: list[NDArray[np.uint8]] = []
    for longest in (384, 72):
        runner = SuperResolution(LimitSettings())
        device = Device(name="cpu", kind="cpu", threads=2, sides=(64,), any_side_to=longest, batches=(1,))
        runner.load_model(device)
        work = done(runner, data, SuperresParams(variant="clean"))
        assert work.alpha is not None
        made.append(work.alpha.pixels)

    assert np.abs(made[0].astype(int) - made[1]).max() <= 1


def test_an_alpha_that_is_the_same_everywhere_costs_nothing(upscaler: SuperResolution) -> None:
    colours = np.zeros((20, 30, 3), np.uint8)
    opaque = encode(Picture(colours, np.full((20, 30), 255, np.uint8)), OutputOptions())

    work = upscaler.prepare(opaque, SuperresParams())

    assert work.device_size == SuperResolution.device_size(30, 20, SuperresParams())
    assert work.shape == (20, 30, 3)
    assert (upscaled(upscaler, np.full((20, 30), 77, np.uint8), SuperresParams()) == 77).all()


def test_an_image_with_transparency_is_counted_as_what_the_device_computes_for_it(upscaler: SuperResolution) -> None:
    height, width = 200, 300
    alpha = np.indices((height, width))[1].astype(np.uint8)
    image = Picture(np.zeros((height, width, 3), np.uint8), alpha)
    sent = [encode(image, options) for options in (OutputOptions(), OutputOptions(format="webp", lossless=True))]
    plain = encode(Picture(image.rgb), OutputOptions())
    network, bicubic = SuperresParams(), SuperresParams(alpha="bicubic")

    for data in sent:
        assert upscaler.prepare(data, network).device_size == 2 * height * width // 1000
        assert upscaler.prepare(data, bicubic).device_size == height * width // 1000
        assert upscaler.memory_needed(data, network) > upscaler.memory_needed(data, bicubic)
    assert upscaler.memory_needed(plain, network) == upscaler.memory_needed(plain, bicubic)
