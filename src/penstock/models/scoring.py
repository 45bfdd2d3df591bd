"""The model image-scoring-v1: how much people would like a photo, from 1 to 10."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from penstock.core.device import Device
from penstock.core.model import SMALL_PHOTO, Example
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import AcceptTruncated, BaseModelRunner, Card, Params, Product, Work, model_runner
from penstock.models.members import bounds_for
from penstock.models.onnxruntime.golden import GoldenWork
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import digest_of, files_of, manifest
from penstock.pixels.headers import probe
from penstock.pixels.picture import Levels, Picture, on_white

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

SIDE = 224
"""Height and width of the images that the network was trained on."""

MOST_CELLS = 8
"""The most rows and columns of a grid."""

KILOPIXELS = SIDE * SIDE // 1000

Grid = Annotated[int, Meta(ge=1, le=MOST_CELLS, description="rows and columns of local scores; 1 leaves them out")]


class ScoringParams(Params, frozen=True):
    """With a `grid` of 2 or more, parts of the image are scored too: so many rows and columns, or fewer where a part
    would have less than 224 pixels of height or width."""

    grid: Grid = 1
    accept_truncated: AcceptTruncated = False


class Cells(Struct, frozen=True):
    """How many rows and columns an image is divided into."""

    rows: int
    columns: int


@model_runner("image-scoring-v1")
class ImageScoring(BaseModelRunner[ScoringParams]):
    """NIMA (Talebi, Milanfar 2018), MobileNet, trained on the AVA photo contest: an *aesthetic* score, the mean of a
    predicted distribution of ten ratings. Content and exposure count, not sharpness alone."""

    params = ScoringParams
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
        """The network sees every image in one size, and so each part of it; all parts, whether they are there or
        not: clients do not know the image."""
        cells = {str(n): SizeRule(kilopixels=KILOPIXELS * (1 + n * n)) for n in range(2, MOST_CELLS + 1)}
        return Sizes(rule=SizeRule(kilopixels=KILOPIXELS), param="grid", by_value=cells)

    def load_model(self, device: Device) -> None:
        """Open the session."""
        self._device = device
        self._file = manifest(device.kind)[(self.name, "nima")]
        self._session = open_session(self._file, device, [(SIDE, SIDE)])

    def warmup(self) -> Iterator[Work]:
        """Yield the one shape there is for a GPU, and none for a CPU, whose first run was the golden check."""
        if self._device.kind == "cuda":
            yield GoldenWork(self._file, self._device, (SIDE, SIDE))

    def memory_needed(self, source: bytes, params: ScoringParams) -> int:
        """What decoding takes, and the file."""
        return probe(source, bounds_for(self.limits, params)).decoding_bytes + len(source)

    def prepare(self, source: bytes, params: ScoringParams) -> Work:
        """Make one tile of the whole image, with transparency on white, and one of each part, row by row."""
        rgb = on_white(self.image(source, params))
        height, width = rgb.shape[:2]
        cells = cells_of(height, width, params.grid)
        tiles = [nearest(part, SIDE) for part in (rgb, *parts(rgb, cells))]
        return Work(tiles, context=cells, device_size=KILOPIXELS * len(tiles))

    def work_of(self, pictures: Iterable[Picture]) -> Work:
        """Make one tile of each picture, for `scores`. One of uint16 is brought to 8 bits."""
        tiles = [on_white(_in_eight_bits(_sampled(picture))) for picture in pictures]
        return Work(tiles, device_size=KILOPIXELS * len(tiles))

    def scores(self, work: Work) -> list[float]:
        """Return the score of each tile. Raises InvalidOutput."""
        _check(work)
        return [_rounded(score) for score, _ in work.outputs]

    def infer(self, tiles: NDArray[Any], work: Work) -> Sequence[Any]:
        """Return a score and a distribution for each tile of (n, 224, 224, 3)."""
        score, distribution = self._session.run(tiles, owner=work)
        return list(zip(score, distribution, strict=True))

    def postprocess(self, work: Work, params: ScoringParams, output: OutputOptions) -> Product:
        """Return the score, and the share of each rating 1..10; with a grid the scores of its rows."""
        _check(work)
        (score, distribution), *local = work.outputs
        data = {"score": _rounded(score), "distribution": [round(float(p), 6) for p in distribution]}
        if params.grid > 1:
            scores, columns = [_rounded(one) for one, _ in local or work.outputs], work.context.columns
            data["grid"] = [scores[first : first + columns] for first in range(0, len(scores), columns)]
        return Product(data=data)

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        self._session.interrupt(work)


def _check(work: Work) -> None:
    if not all(np.isfinite(shares).all() for _, shares in work.outputs):
        raise InvalidOutput("the model gave values that are not numbers")


def _sampled(picture: Picture) -> Picture:
    alpha = None if picture.alpha is None else nearest(picture.alpha, SIDE)
    return Picture(nearest(picture.rgb, SIDE), alpha, picture.grey)


def _in_eight_bits(picture: Picture) -> Picture:
    if picture.rgb.itemsize == 1:
        return picture
    rgb, alpha = (None if one is None else np.rint(one / 257).astype(np.uint8) for one in (picture.rgb, picture.alpha))
    assert rgb is not None  # noqa: S101
    return Picture(rgb, alpha, picture.grey)


def _rounded(score: np.float32) -> float:
    return round(float(score), 4)


def cells_of(height: int, width: int, grid: int) -> Cells:
    """As many rows and columns as are asked for, or as many as have SIDE pixels each: enlarged, a part would look
    blurred. At least one."""
    return Cells(*(max(1, min(grid, length // SIDE)) for length in (height, width)))


def parts(rgb: NDArray[np.uint8], cells: Cells) -> Iterator[NDArray[np.uint8]]:
    """Yield the parts of an image, row by row, where there are several."""
    if cells == Cells(1, 1):
        return
    rows, columns = (
        [round(number * length / count) for number in range(count + 1)]
        for length, count in zip(rgb.shape[:2], (cells.rows, cells.columns), strict=True)
    )
    for (top, bottom), (left, right) in product(pairwise(rows), pairwise(columns)):
        yield rgb[top:bottom, left:right]


def nearest(rgb: Levels, side: int) -> Levels:
    """Resize to a square by nearest neighbour, with the source index floor((2i+1)·size/(2·side))."""
    # The network was trained with this resampling; bilinear lowers its scores by 0.3 to 1.1.
    rows, columns = (((2 * np.arange(side) + 1) * size) // (2 * side) for size in rgb.shape[:2])
    sampled: Levels = rgb.take(rows, axis=0).take(columns, axis=1)
    return sampled
