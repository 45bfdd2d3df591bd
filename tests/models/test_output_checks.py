"""What networks give is looked at: values that are no numbers, a wrong size, and one colour for a photo."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from penstock.errors import InvalidOutput
from penstock.models.onnxruntime.session import Session, manifest
from penstock.models.superres import SuperResolution
from penstock.models.superres.params import SuperresParams, Variant
from penstock.models.tiling import Ladder, TiledImage
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu
from tests.support.declared import ALONE, folder_of, loaded, model, node, noise, png, served

PLAIN = replace(cpu(2), streams=1)
FLAT = np.full((64, 64, 3), 37, np.uint8)
UPSCALER = '[output]\nscale = 2\n[input]\nresize = "none"\n'


class Faulty(Session):
    """A session whose results are replaced by what `give` makes of them."""

    give: Any

    def run(self, tiles: Any, *, owner: object = None) -> list[NDArray[Any]]:
        upscaled, totals = super().run(tiles, owner=owner)
        return list(self.give(upscaled, totals))


@pytest.fixture(scope="module")
def superres() -> SuperResolution:
    runner = SuperResolution(LimitSettings())
    runner.load_model(PLAIN)
    return runner


def outputs(runner: SuperResolution, rgb: NDArray[Any], variant: Variant = "general", **params: Any) -> Any:
    """Run all tiles of an image; returns its work."""
    work = runner.prepare(png(rgb), SuperresParams(variant=variant, **params))
    for index in range(work.count):
        (output,) = runner.infer(work.tile(index)[None], work)
        work.accept(index, output)
    return work


def tiled(rgb: NDArray[Any]) -> TiledImage:
    return TiledImage(rgb, Ladder(((64, 64),), 4), scale=2, lane="", context=None)


@pytest.mark.parametrize("level", [0, 255, 128])
def test_one_colour_in_place_of_a_photo_is_no_result(photos: Mapping[str, Image.Image], level: int) -> None:
    crop = np.asarray(photos["chelsea.png"].crop((100, 60, 164, 124)))

    with pytest.raises(InvalidOutput, match="gave one level"):
        tiled(crop).accept(0, (np.full((128, 128, 3), level, np.uint8), 0.0))


def test_one_tile_of_one_colour_in_a_photo_is_no_result(photos: Mapping[str, Image.Image]) -> None:
    work = tiled(np.asarray(photos["coffee.png"]))
    right = np.asarray(Image.fromarray(work.tile(0)).resize((128, 128)))

    work.accept(0, (right, 0.0))
    with pytest.raises(InvalidOutput, match="gave one level"):
        work.accept(1, (np.zeros((128, 128, 3), np.uint8), 0.0))


def test_one_colour_stays_one() -> None:
    tiled(FLAT).accept(0, (np.full((128, 128, 3), 37, np.uint8), 0.0))


def test_transparency_that_is_lost_is_no_result() -> None:
    sprite = np.dstack([noise(64, 64), np.indices((64, 64))[1] * 4]).astype(np.uint8)
    opaque = np.full((128, 128), 255, np.uint8)

    with pytest.raises(InvalidOutput, match="gave one level, 255"):
        tiled(sprite).accept(0, (noise(128, 128), 0.0, opaque))


@pytest.mark.parametrize("variant", ["general", "clean"])
def test_networks_pass_with_what_is_next_to_nothing(superres: SuperResolution, variant: Variant) -> None:
    random, shape = np.random.default_rng(3), (96, 96, 3)
    speck = np.full(shape, 255, np.uint8)
    speck[48, 48] = 0
    for rgb in (FLAT, speck, *(random.normal(base, 8, shape).clip(0, 255).astype(np.uint8) for base in (0, 128, 255))):
        outputs(superres, rgb, variant)


def test_what_fp16_cannot_compute_is_run_once_more_in_fp32(photos: Mapping[str, Image.Image]) -> None:
    crop = np.asarray(photos["astronaut.png"].crop((100, 60, 164, 124)))
    runner = SuperResolution(LimitSettings())
    runner.load_model(replace(PLAIN, precision="auto"))
    half = runner._sessions["general"].file
    assert half.precision == "fp16"
    broken = runner._sessions["general"] = Faulty(half, PLAIN)
    broken.give = lambda upscaled, totals: (upscaled, totals * np.inf)

    work = runner.prepare(png(crop), SuperresParams())
    with pytest.raises(InvalidOutput, match="not numbers"):
        work.accept(0, runner.infer(work.tile(0)[None], work)[0])
    again = runner.in_fp32(work)
    assert again is not None
    again.accept(0, runner.infer(again.tile(0)[None], again)[0])

    expected, _ = Session(manifest()["superres-x4", "general"], PLAIN).run(crop[None])
    assert (again.canvas.pixels == expected[0]).all()
    assert runner.in_fp32(again) is None
    assert runner.in_fp32(runner.prepare(png(crop), SuperresParams(variant="clean"))) is None


def test_in_fp32_and_with_16_bits_there_is_no_other_try(superres: SuperResolution) -> None:
    work = outputs(superres, noise(16, 16))
    deep = work.again("general+16")

    assert superres.in_fp32(work) is None
    assert superres.in_fp32(deep) is None


def repeating(value: str) -> bytes:
    """An upscaler of images of any size that repeats each pixel, and gives what `value` makes of the input `x`."""
    nodes = [*OPERATIONS[value], node("Resize", "v - scales", "y", mode="nearest")]
    ports = [("x", "float32", ["n", 3, "h", "w"])], [("y", "float32", ["n", 3, "H", "W"])]
    return model(nodes, *ports, zero=np.float32(0), scales=np.array([1, 1, 2, 2], np.float32))


OPERATIONS = {
    "x": [node("Identity", "x", "v")],
    "0": [node("Mul", "x zero", "v")],
    "x / 0": [node("Div", "x zero", "v")],
    "0 / 0": [node("Mul", "x zero", "z"), node("Div", "z zero", "v")],
}


@pytest.mark.parametrize("tiles", ["", '[tiles]\nallowed = "supported"\noverlap_px = 8\n'], ids=["whole", "tiles"])
@pytest.mark.parametrize(
    ("value", "wrong"), [("0", "one (level|colour)"), ("x / 0", "not numbers"), ("0 / 0", "not numbers")]
)
async def test_a_declared_upscaler_is_looked_at_too(tmp_path: Any, value: str, wrong: str, tiles: str) -> None:
    toml = f'kind = "image-to-image"\n{UPSCALER}{tiles}'
    folder = folder_of(tmp_path, toml, repeating(value))

    with pytest.raises(InvalidOutput, match=wrong):
        await served(folder, [png(noise(70, 90))], ALONE)


async def test_of_a_flat_image_a_declared_upscaler_may_make_one_colour(tmp_path: Any) -> None:
    folder = folder_of(tmp_path, f'kind = "image-to-image"\n{UPSCALER}', repeating("0"))

    (made,) = await served(folder, [png(FLAT)], ALONE)
    assert made.file


@pytest.mark.parametrize("said", ["may_be_flat = true", "scale = 1"])
async def test_a_declared_model_may_say_that_one_colour_is_a_result(tmp_path: Any, said: str) -> None:
    scale = "" if "scale" in said else "scale = 2\n"
    content = repeating("0") if scale else model(
        [node("Mul", "x zero", "y")], [("x", "float32", ["n", 3, "h", "w"])], [("y", "float32", ["n", 3, "h", "w"])],
        zero=np.float32(0),
    )  # fmt: skip
    folder = folder_of(
        tmp_path, f'kind = "image-to-image"\n[output]\n{scale}{said}\n[input]\nresize = "none"\n', content
    )

    (made,) = await served(folder, [png(noise(70, 90))], ALONE)
    assert made.file


def test_a_declared_upscaler_of_a_wrong_size_is_no_result(tmp_path: Any) -> None:
    toml = 'kind = "image-to-image"\n[output]\nscale = 3\n[input]\nresize = "none"\n'
    runner = loaded(folder_of(tmp_path, toml, repeating("x")))
    work = runner.prepare(png(noise(20, 30)), runner.params())

    work.accept(0, runner.infer(work.tile(0)[None], work)[0])
    with pytest.raises(InvalidOutput, match="gave 60x40 px, not 90x60"):
        runner.postprocess(work, runner.params(), None)
