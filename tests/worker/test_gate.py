"""The quality gate: scores of an image and of what was made of it, and both beside one another."""

import io
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image

import penstock.models.scoring  # noqa: F401  registers its model
from penstock.conformance.local_model import loaded
from penstock.core.gate import SCORED_KILOPIXELS, SCORER
from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Outcome, Priority
from penstock.errors import InvalidRequest, ModelUnavailable
from penstock.models.declared.runner import declared_runner
from penstock.models.gate import SIDE_BY_SIDE_PX, gate_bytes, side_by_side
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.pixels.picture import Picture
from penstock.settings import Settings
from penstock.worker.pipeline import Pipeline
from tests.support.declared import ALONE, folder_of, noise
from tests.support.memory_storage import MemoryStorage
from tests.support.workers import pipeline
from tests.worker.test_output_checks import file_of, squared

pytestmark = pytest.mark.asyncio(loop_scope="module")  # the models are loaded once

MODEL = "superres-x4"
SCORE = {"post": {"score": True}}
COMPARE = {"compare": True}


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def photo() -> bytes:
    """A JPEG of 72 x 48 pixels."""
    whole = Image.open(io.BytesIO((resources.files("penstock.models") / "photo.jpg").read_bytes()))
    return encoded(whole.resize((72, 48)), "JPEG")


PHOTO = photo()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(storage: MemoryStorage) -> AsyncIterator[Pipeline]:
    async with pipeline(storage, MODEL, SCORER) as opened:
        yield opened


async def attempt(
    running: Pipeline, image: bytes, params: dict[str, Any], *, model: str = MODEL, **output: Any
) -> Outcome:
    params = params if model != MODEL else {"variant": "clean"} | params
    options = OutputOptions(**output)
    request = Request(model=model, inputs={"image": Source(data=image)}, params=params, output=options)
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    return await running.run(lease, lambda stage, progress: None)


def images_of(outcome: Outcome, storage: MemoryStorage) -> dict[str, Image.Image]:
    """The images of a result by the names of their files, each as large as the record says."""
    assert outcome.result
    images = {}
    for file in outcome.result.artifacts:
        image = Image.open(io.BytesIO(storage.objects[file.s3_key]))
        assert (file.width, file.height) == image.size
        assert file.content_type == f"image/{image.format.lower()}"  # type: ignore[union-attr]
        images[file.name] = image
    return images


def data_of(outcome: Outcome) -> dict[str, Any]:
    assert outcome.result
    return outcome.result.data or {}


def sprite() -> NDArray[np.uint8]:
    """A disc with soft edges."""
    rows, columns = np.indices((40, 30))
    alpha = (255 * (14 - np.hypot(rows - 20, columns - 15))).clip(0, 255).astype(np.uint8)
    return np.dstack([noise(40, 30) // 3 + 80, alpha])


async def test_scores_are_those_that_the_model_gives_the_two_files(running: Pipeline, storage: MemoryStorage) -> None:
    outcome = await attempt(running, PHOTO, SCORE)
    (image,) = images_of(outcome, storage).values()
    alone = [data_of(await attempt(running, file, {}, model=SCORER)) for file in (PHOTO, encoded(image))]

    score = data_of(outcome)["score"]
    assert [score["before"], score["after"]] == [one["score"] for one in alone]
    assert score == {"model": SCORER, "before": alone[0]["score"], "after": alone[1]["score"], "gain": score["gain"]}
    assert score["gain"] == pytest.approx(score["after"] - score["before"], abs=1e-4)
    assert outcome.result
    assert outcome.result.notes == ()


@pytest.mark.parametrize("params", [{"scale": 2}, {"width": 64, "height": 64, "fit": "contain"}])
async def test_what_is_scored_is_the_result_in_its_size_on_white(
    running: Pipeline, storage: MemoryStorage, params: dict[str, Any]
) -> None:
    file = encoded(Image.fromarray(sprite()))
    outcome = await attempt(running, file, SCORE | params)
    (image,) = images_of(outcome, storage).values()

    alone = [data_of(await attempt(running, one, {}, model=SCORER)) for one in (file, encoded(image))]
    score = data_of(outcome)["score"]
    assert [score["before"], score["after"]] == [one["score"] for one in alone]


async def test_a_result_below_the_gain_is_flagged_and_no_other(running: Pipeline) -> None:
    gain = data_of(await attempt(running, PHOTO, SCORE))["score"]["gain"]

    for min_gain, is_below in ((gain, False), (gain - 0.01, False), (gain + 0.0001, True), (9, True)):
        outcome = await attempt(running, PHOTO, {"post": {"score": True, "min_gain": min_gain}})
        assert outcome.result
        assert data_of(outcome)["score"]["min_gain"] == min_gain
        assert data_of(outcome)["score"]["below_min_gain"] is is_below
        assert outcome.result.notes == (("below_min_gain",) if is_below else ())
        assert outcome.result.artifacts[0].name == "result.png"


async def test_what_scores_take_of_the_device_is_counted(running: Pipeline) -> None:
    plain, scored = await attempt(running, PHOTO, {}), await attempt(running, PHOTO, SCORE)

    assert scored.execution["kilopixels"] == plain.execution["kilopixels"] + SCORED_KILOPIXELS
    assert scored.execution["device_ms"] > 0
    assert scored.execution["tiles"] == plain.execution["tiles"]


async def test_without_the_scoring_model_a_worker_refuses_before_any_work() -> None:
    async with pipeline(MemoryStorage(), MODEL) as alone:
        with pytest.raises(ModelUnavailable, match=f"has no {SCORER}"):
            await attempt(alone, b"no image", SCORE)
        await attempt(alone, PHOTO, COMPARE | {"scale": 1})


@pytest.mark.parametrize(
    ("mode", "params"),
    [
        ("RGB", {}),
        ("L", {}),
        ("RGB", {"scale": 3}),
        ("L", {"scale": 3}),
        ("RGB", {"scale": 1}),
        ("RGB", {"width": 100}),
        ("RGB", {"width": 90, "height": 400, "fit": "fill"}),
    ],
)
async def test_before_is_the_input_in_the_size_of_the_result_bicubically(
    running: Pipeline, storage: MemoryStorage, mode: str, params: dict[str, Any]
) -> None:
    photo = Image.open(io.BytesIO(PHOTO)).convert(mode)

    images = images_of(await attempt(running, encoded(photo), COMPARE | params), storage)

    assert [*images] == ["result.png", "before.png", "after.png", "side_by_side.png"]
    result, before, after, both = (np.asarray(image).astype(int) for image in images.values())
    assert (after == result).all()
    assert before.shape == after.shape
    assert images["before.png"].mode == mode
    expected = np.asarray(photo.resize(images["result.png"].size, Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(before - expected).max() <= 1
    assert (both == np.concatenate([before, after], axis=1)).all()


async def test_a_cut_is_shown_of_both(running: Pipeline, storage: MemoryStorage) -> None:
    photo = Image.open(io.BytesIO(PHOTO))  # 72 x 48
    params = {"width": 96, "height": 96, "fit": "cover"}

    images = images_of(await attempt(running, PHOTO, COMPARE | params), storage)

    whole = photo.resize((144, 96), Image.Resampling.BICUBIC).crop((24, 0, 120, 96))
    off = np.abs(np.asarray(images["before.png"]).astype(int) - np.asarray(whole))
    assert off.max() <= 2
    apart = np.abs(np.asarray(images["before.png"]).astype(int) - np.asarray(images["after.png"]))
    assert 0 < apart.mean() < 12  # they lie on one another


async def test_transparency_is_compared_too(running: Pipeline, storage: MemoryStorage) -> None:
    picture = Image.fromarray(sprite())

    images = images_of(await attempt(running, encoded(picture), COMPARE), storage)

    assert {image.mode for image in images.values()} == {"RGBA"}
    expected = np.asarray(picture.getchannel("A").resize((120, 160), Image.Resampling.BICUBIC)).astype(int)
    before = np.asarray(images["before.png"])
    assert np.abs(before[..., 3] - expected).max() <= 1
    on_white = [Image.alpha_composite(Image.new("RGBA", (120, 160), "white"), one) for one in (
        images["before.png"], picture.resize((120, 160), Image.Resampling.BICUBIC)
    )]  # fmt: skip
    assert np.abs(np.asarray(on_white[0]).astype(int) - np.asarray(on_white[1])).mean() < 1


@pytest.mark.parametrize(
    "output", [{"format": "jpeg"}, {"format": "webp"}, {"format": "jpeg", "max_bytes": 20_000}, {"bits": 16}]
)
async def test_all_pictures_are_encoded_as_the_result(
    running: Pipeline, storage: MemoryStorage, output: dict[str, Any]
) -> None:
    outcome = await attempt(running, PHOTO, COMPARE | SCORE, **output)

    images, form = images_of(outcome, storage), output.get("format", "png")
    assert [*images] == [f"{name}.{form}" for name in ("result", "before", "after", "side_by_side")]
    assert outcome.result
    assert outcome.result.artifacts[0].size <= output.get("max_bytes", 2**30)
    assert data_of(outcome)["score"]["after"] > 1
    if "bits" in output:
        assert {storage.objects[file.s3_key][24] for file in outcome.result.artifacts} == {16}


async def test_side_by_side_is_bounded() -> None:
    before, after = Picture(noise(500, 2000)), Picture(noise(500, 2000, 1))

    for most_px, longest_px in ((10**6, 10**6), (10**7, 1234), (100, 10), (10**7, 300)):
        made = side_by_side(before, after, most_px=most_px, longest_px=longest_px)
        height, width = made.rgb.shape[:2]
        assert height * width <= most_px
        assert max(height, width) <= longest_px
        assert width / height == pytest.approx(8, rel=0.1) or min(height, width) < 9
    assert SIDE_BY_SIDE_PX >= 2 * 4000 * 2000


@pytest.mark.parametrize(("wishes", "is_streamed"), [({}, True), (SCORE, False), (COMPARE, False)])
async def test_a_large_result_is_not_streamed_when_it_is_looked_at(
    running: Pipeline, monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any], is_streamed: bool
) -> None:
    monkeypatch.setattr("penstock.models.tiling.LEAST_BY_ROWS_BYTES", 1)
    runner = running.models.runner_of(MODEL)
    assert runner is not None
    params = msgspec.convert({"variant": "clean", "tile": 96} | wishes, SuperresParams)

    work = runner.prepare(file_of(noise(200, 20)), params)

    assert (runner.stream(work, params, OutputOptions()) is not None) is is_streamed


PROGRAM = """
import re, sys
import msgspec, numpy as np
from penstock.core.output import OutputOptions
from penstock.core.target import Layout
from penstock.models.base import Product
from penstock.models.gate import Comparison, GateParams, gate_bytes
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings
from penstock.worker.gate import GateReport, with_report

def memory(word):
    return 1024 * int(re.search(word + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def compare(width, height, options):
    source = np.random.default_rng(1).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    open("/proc/self/clear_refs", "w").write("5")
    before = memory("VmRSS")
    result = Picture(source.repeat(4, 0).repeat(4, 1))
    comparison = Comparison(Picture(source), result, Layout((width, height), (width, height)))
    product = Product(file=bytes(2 * width * height), extension=options.format, width=width, height=height)
    with_report(product, GateReport({}, (), comparison), options, LimitSettings())
    return memory("VmHWM") - before

options = msgspec.json.decode(sys.argv[1], type=OutputOptions)
compare(64, 64, options)
print(compare(2400, 1600, options), gate_bytes(GateParams(compare=True), options, 2400 * 1600))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not measure a process anew")
@pytest.mark.parametrize("form", ["png", "webp"])
async def test_a_comparison_takes_no_more_than_is_set_aside_for_it(form: str) -> None:
    command = [sys.executable, "-c", PROGRAM, f'{{"format": "{form}"}}']

    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout  # noqa: ASYNC221  nothing beside

    taken, set_aside = map(int, said.split())
    file_bytes = 2 * 2400 * 1600  # of the result, which is counted there
    assert set_aside / 4 < taken <= set_aside + file_bytes + 8 * 2**20


async def test_the_memory_of_a_task_has_that_of_its_comparison(running: Pipeline) -> None:
    runner = running.models.runner_of(MODEL)
    assert isinstance(runner, SuperResolution)
    plain, compared = (
        runner.memory_for(PHOTO, SuperresParams(compare=compare), OutputOptions()) for compare in (False, True)
    )
    assert compared == plain + gate_bytes(SuperresParams(compare=True), OutputOptions(), 288 * 192)


TOML = """
kind = "image-to-image"
[output]
scale = 2
[input]
resize = "none"
"""


@pytest.mark.parametrize("tiles", ["", '[tiles]\nallowed = "supported"\noverlap_px = 8\n'], ids=["whole", "tiles"])
async def test_an_image_model_of_a_definition_has_the_gate_too(tmp_path: Path, tiles: str) -> None:
    square = declared_runner(folder_of(tmp_path, TOML + tiles, squared(half=False)))
    storage, rgb = MemoryStorage(), noise(120, 150) // 2 + 60

    async with pipeline(storage, SCORER, own=[square]) as running:
        outcome = await attempt(running, file_of(rgb), SCORE | COMPARE, model=square.name)
        plain = await attempt(running, file_of(rgb), {}, model=square.name)

    images = images_of(outcome, storage)
    assert [*images] == ["result.png", "before.png", "after.png", "side_by_side.png"]
    expected = np.asarray(Image.fromarray(rgb).resize((300, 240), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(images["before.png"]).astype(int) - expected).max() <= 1
    assert 1 <= data_of(outcome)["score"]["before"] <= 10
    assert outcome.execution["kilopixels"] == plain.execution["kilopixels"] + SCORED_KILOPIXELS


async def test_a_model_that_is_tried_without_a_server_is_compared_and_not_scored(tmp_path: Path) -> None:
    square = declared_runner(folder_of(tmp_path, TOML, squared(half=False)))
    image = file_of(noise(20, 30) // 2)

    async with loaded(square, Settings(), ALONE) as local:
        run = await local.run(image, msgspec.convert(COMPARE, square.params))
        with pytest.raises(InvalidRequest, match="a server scores"):
            await local.run(image, msgspec.convert(SCORE, square.params))

    assert [file.name for file in run.files] == ["result.png", "before.png", "after.png", "side_by_side.png"]
