"""What was done to the images of a task is told with its result, whatever model ran it."""

import io
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from penstock.core.lease import Lease
from penstock.core.output import OutputOptions
from penstock.core.request import Request, Source
from penstock.core.task import Priority, Result
from penstock.errors import ImageDecodeFailed, ModelResultInvalid
from penstock.models.base import AcceptTruncated, BaseModelRunner, Card, Outputs, Params, Product, Work, model_runner
from penstock.models.products import ProductFile
from penstock.pixels.filling import filled
from penstock.pixels.notes import note, noting
from tests.support.drive import image
from tests.support.memory_storage import MemoryStorage
from tests.support.workers import pipeline

OWN, SIZE, PART = "own-notes-v1", "size-v1", "part-v1"

TURNED = Image.Exif()
TURNED[0x0112] = 6


@model_runner(OWN)
class OwnNotes(BaseModelRunner[Params]):
    """Returns its image, and what `said` has as its own notes. It knows nothing of those of decoding."""

    card = Card(title="An image with notes", produces="image")
    said: ClassVar[Any] = ()

    def prepare(self, source: bytes, params: Params) -> Work:
        picture = self.image(source)
        return Work([filled(picture.rgb, picture.alpha)])

    def infer(self, tiles: Any, work: Work) -> Outputs:
        return list(tiles)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        out = io.BytesIO()
        Image.fromarray(work.outputs[0]).save(out, "PNG")
        return Product(files=[ProductFile("a.png", out.getvalue(), "image/png")], notes=self.said)


@model_runner(SIZE)
class Size(OwnNotes):
    """Returns data."""

    card = Card(title="The size of an image", produces="data")

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        return Product(data={"height": len(work.outputs[0])})


class PartParams(Params, frozen=True):
    """What the model may be asked."""

    accept_truncated: AcceptTruncated = False


@model_runner(PART)
class Part(Size):
    """Takes truncated images where a task asks for that."""

    params = PartParams

    def prepare(self, source: bytes, params: Params) -> Work:
        return Work([self.image(source, params).rgb])


async def result_of(
    data: bytes, model: str = OWN, output: OutputOptions | None = None, params: dict[str, Any] | None = None
) -> Result:
    inputs = {"image": Source(data=data)}
    request = Request(model=model, inputs=inputs, params=params or {}, output=output or OutputOptions())
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    async with pipeline(MemoryStorage(), model) as on:
        outcome = await on.run(lease, lambda stage, progress: None)
    assert outcome.result
    return outcome.result


def png(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


async def test_a_model_with_the_parameter_takes_a_truncated_image_and_that_is_noted() -> None:
    half = image(format="JPEG", width=64, height=64)[:-40]

    with pytest.raises(ImageDecodeFailed):
        await result_of(half, PART)
    assert (await result_of(half, PART, params={"accept_truncated": True})).notes == ("truncated",)


async def test_a_plain_image_has_no_notes() -> None:
    assert (await result_of(image())).notes == ()


async def test_a_photo_of_a_phone_is_turned_and_loses_its_metadata() -> None:
    assert (await result_of(image(format="JPEG", exif=TURNED))).notes == ("turned", "metadata_stripped")


async def test_a_result_that_is_data_says_nothing_of_metadata() -> None:
    assert (await result_of(image(format="JPEG", exif=TURNED), SIZE)).notes == ("turned",)


async def test_colours_that_were_filled_in_under_transparency_are_noted() -> None:
    sprite = np.full((8, 8, 4), 255, np.uint8)
    sprite[2:6, 2:6] = 0

    assert (await result_of(png(sprite))).notes == ("alpha_filled",)
    assert (await result_of(png(np.full((8, 8, 4), 99, np.uint8)))).notes == ()


async def test_metadata_that_is_kept_is_not_said_to_be_stripped() -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ansel"
    keep = OutputOptions(format="jpeg", metadata="keep")

    assert (await result_of(image(format="JPEG", exif=exif), output=keep)).notes == ()
    assert (await result_of(image(format="JPEG", exif=TURNED), output=keep)).notes == ("turned", "metadata_stripped")


async def test_a_model_adds_notes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnNotes, "said", ["truncated", "turned"])

    assert (await result_of(image())).notes == ("turned", "truncated")


@pytest.mark.parametrize("said", [["sharpened"], "turned", [3], None])
async def test_a_note_that_is_none_fails_the_task(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnNotes, "said", said)

    with pytest.raises(ModelResultInvalid, match="not all among turned"):
        await result_of(image())


def test_what_is_noted_outside_of_a_task_is_forgotten() -> None:
    note("turned")

    with noting() as noted:
        note("first_frame")
    note("truncated")
    assert noted == {"first_frame"}
