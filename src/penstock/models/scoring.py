"""The model image-scoring-v1: how much people would like a photo, from 1 to 10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.device import Device
from penstock.core.model import SMALL_PHOTO, Example
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work, model_runner
from penstock.models.onnxruntime.golden import GoldenWork
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import digest_of, files_of, manifest
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import on_white

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

SIDE = 224
"""Height and width of the images that the network was trained on."""


@model_runner("image-scoring-v1")
class ImageScoring(BaseModelRunner[Params]):
    """NIMA (Talebi, Milanfar 2018), MobileNet, trained on the AVA photo contest: an *aesthetic* score, the mean of a
    predicted distribution of ten ratings. Content and exposure count, not sharpness alone."""

    card = Card(
        title="Aesthetic score",
        licence="Apache-2.0",
        source="NIMA MobileNet aesthetic (idealo image-quality-assessment)",
        produces="data",
        score_range=(1, 10),
        notes={"resize": "nearest, 224 x 224, aspect ratio not kept"},
    )

    example = Example(
        input={"image_url": SMALL_PHOTO},
        data={
            "score": 3.4443,
            "distribution": [
                *(0.007683, 0.283191, 0.232754, 0.291975, 0.128966),
                *(0.035241, 0.013822, 0.006258, 0.000111, 0.0),
            ],
        },
    )

    concurrent = True

    @classmethod
    def digest(cls) -> str:
        """The version of the code and of the model files."""
        return f"{cls.card.version} {digest_of(files_of(cls.name))}"

    @classmethod
    def sizes(cls) -> Sizes:
        """The network sees every image in one size."""
        return Sizes(rule=SizeRule(kilopixels=SIDE * SIDE // 1000))

    def load_model(self, device: Device) -> None:
        """Open the session."""
        self._device = device
        self._file = manifest(device.kind)[(self.name, "nima")]
        self._session = open_session(self._file, device, [(SIDE, SIDE)])

    def warmup(self) -> Iterator[Work]:
        """Yield the one shape there is for a GPU, and none for a CPU, whose first run was the golden check."""
        if self._device.kind == "cuda":
            yield GoldenWork(self._file, self._device, (SIDE, SIDE))

    def memory_needed(self, source: bytes, params: Params) -> int:
        """What decoding takes, and the file."""
        return probe(source, ImageBounds.of(self.limits)).decoding_bytes + len(source)

    def prepare(self, source: bytes, params: Params) -> Work:
        """Make one tile of the whole image, with transparency on white."""
        pixels = nearest(on_white(self.image(source)), SIDE)
        return Work([pixels], device_size=SIDE * SIDE // 1000)

    def infer(self, tiles: NDArray[Any], work: Work) -> Sequence[Any]:
        """Return a score and a distribution for each tile of (n, 224, 224, 3)."""
        score, distribution = self._session.run(tiles, owner=work)
        return list(zip(score, distribution, strict=True))

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        """Return the score, and the share of each rating 1..10."""
        score, distribution = work.outputs[0]
        if not np.isfinite(distribution).all():
            raise InvalidOutput("the model gave values that are not numbers")
        return Product(
            data={"score": round(float(score), 4), "distribution": [round(float(p), 6) for p in distribution]}
        )

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        self._session.interrupt(work)


def nearest(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize to a square by nearest neighbour, with the source index floor((2i+1)·size/(2·side))."""
    # The network was trained with this resampling; bilinear lowers its scores by 0.3 to 1.1.
    rows, columns = (((2 * np.arange(side) + 1) * size) // (2 * side) for size in rgb.shape[:2])
    sampled: NDArray[np.uint8] = rgb.take(rows, axis=0).take(columns, axis=1)
    return sampled
