"""How a worker encodes the result of one input."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.core.lease import Lease
from penstock.core.output import Format, OutputOptions
from penstock.core.request import Request, Source
from penstock.core.task import Priority
from penstock.errors import ImageTooLarge, InvalidRequest, OutputTooLarge, PenstockError
from penstock.models.base import BaseModelRunner, Card, Outputs, Params, Work, model_runner
from tests.support.drive import image
from tests.support.memory_storage import MemoryStorage
from tests.support.workers import pipeline

SAME, NOISE = "same-image-v1", np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)


@model_runner(SAME)
class Same(BaseModelRunner[Params]):
    """Returns its image as an array, which the worker encodes."""

    card = Card(title="The same image", produces="image")

    def prepare(self, source: bytes, params: Params) -> Work:
        picture = self.image(source)
        return Work([picture.rgb])

    def infer(self, tiles: Any, work: Work) -> Outputs:
        return list(tiles)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Any:
        assert output.format != "source"
        return work.outputs[0]


async def result_of(data: bytes, output: OutputOptions) -> tuple[str, Image.Image]:
    """Runs an image, and returns the key of its result and the file."""
    request = Request(model=SAME, inputs={"image": Source(data=data)}, params={}, output=output)
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    storage = MemoryStorage()
    async with pipeline(storage, SAME) as on:
        outcome = await on.run(lease, lambda stage, progress: None)
    assert outcome.result
    (artifact,) = outcome.result.artifacts
    file = Image.open(io.BytesIO(storage.objects[artifact.s3_key]))
    assert Image.MIME[file.format or ""] == artifact.content_type
    return artifact.s3_key, file


@pytest.mark.parametrize(("source", "written"), [("PNG", "PNG"), ("JPEG", "JPEG"), ("WEBP", "WEBP")])
async def test_a_result_has_the_format_of_its_input_where_that_is_asked_for(source: str, written: str) -> None:
    key, file = await result_of(image(format=source), OutputOptions(format="source"))

    assert file.format == written
    assert key.endswith(f".{written.lower()}")


@pytest.mark.parametrize("keep_location", [False, True])
@pytest.mark.parametrize("written", ["png", "jpeg", "webp", "avif"])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
async def test_a_result_keeps_what_describes_a_photo_and_its_place_only_when_asked(
    source: str, written: Format, keep_location: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x0110] = 6, "Ansel", "Camera 3"
    exif.get_ifd(0x8769)[0x829A] = 0.02
    exif.get_ifd(0x8769)[0x927C] = b"what only the maker knows"
    exif.get_ifd(0x8825)[1] = "N"
    options = OutputOptions(format=written, metadata="keep", keep_location=keep_location)

    _, file = await result_of(image(format=source, exif=exif.tobytes()), options)

    found = file.getexif()
    assert (found.get(0x013B), found.get(0x0110), found.get(0x0112)) == ("Ansel", "Camera 3", None)
    assert found.get_ifd(0x8769) == {0x829A: 0.02}
    assert found.get_ifd(0x8825) == ({1: "N"} if keep_location else {})
    assert file.size == (6, 8), "it is upright"


async def test_a_tiff_keeps_the_description_alone() -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ansel"
    exif.get_ifd(0x8769)[0x829A] = 0.02

    _, file = await result_of(image(format="JPEG", exif=exif), OutputOptions(format="tiff", metadata="keep"))

    found = file.getexif()
    assert found[0x013B] == "Ansel"
    assert not found.get_ifd(0x8769)


@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("written", ["png", "jpeg", "tiff"])
async def test_the_pixels_per_inch_of_the_input_are_kept_with_its_metadata(source: str, written: Format) -> None:
    data = image(format=source, dpi=(300, 300))

    _, kept = await result_of(data, OutputOptions(format=written, metadata="keep"))
    _, other = await result_of(data, OutputOptions(format=written, metadata="keep", dpi=72))
    _, stripped = await result_of(data, OutputOptions(format=written))

    assert kept.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert other.info["dpi"] == pytest.approx((72, 72), abs=0.01)
    assert stripped.info.get("dpi", (1, 1)) == (1, 1)


async def test_metadata_is_stripped_unless_it_is_asked_for() -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ansel"

    _, file = await result_of(image(format="JPEG", exif=exif), OutputOptions(format="jpeg"))

    assert not file.getexif()


REFUSED: dict[str, tuple[bytes, OutputOptions, type[PenstockError], str]] = {
    "what the format of the source cannot do": (
        image(format="WEBP"),
        OutputOptions(format="source", dpi=300),
        InvalidRequest,
        "output.dpi",
    ),
    "an image that the format of the source cannot hold": (
        image(16_384, 1, format="PNG"),
        OutputOptions(format="webp"),
        ImageTooLarge,
        "output.format",
    ),
    "a file that no quality makes small enough": (
        (lambda out: Image.fromarray(NOISE).save(out, "PNG") or out.getvalue())(io.BytesIO()),  # type: ignore[func-returns-value]
        OutputOptions(format="jpeg", max_bytes=500),
        OutputTooLarge,
        "output.max_bytes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_result_that_cannot_be_written_is_an_error_that_names_the_option(case: str) -> None:
    data, output, error, param = REFUSED[case]

    with pytest.raises(error) as refused:
        await result_of(data, output)
    assert refused.value.param == param
