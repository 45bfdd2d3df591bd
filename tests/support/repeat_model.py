"""A model that repeats each pixel in place of a network, and whose result is written while its tiles come."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.request import OutputOptions
from penstock.core.sizes import TileSides
from penstock.errors import DeviceOutOfMemory
from penstock.models.base import BaseModelRunner, Card, Outputs, Params, Product, ResultStream, Work, model_runner
from penstock.models.tiling import AnyShape, TiledImage
from penstock.pixels.row_writer import RowWriter

MODEL = "repeat-x4"
SCALE = 4
TILE_PX = 64


class RepeatParams(Params, frozen=True):
    """Tiles from the `split_at`-th on with a longer side than half of TILE_PX are too much for the device. With `noise`
    no pixel is like another, and a file is as large as its pixels."""

    split_at: int | None = None
    noise: bool = False


class Watched:
    """What a test sees of the model, and the two places where it can hold it up."""

    def __init__(self) -> None:
        self.tiles = 0
        self.writes = 0
        self.before_infer: Callable[[int], None] = lambda tiles: None
        self.before_write: Callable[[], None] = lambda: None
        self.is_writing = threading.Lock()


WATCHED = Watched()


class WatchedWriter(RowWriter):
    """Counts its calls, of which there is one at a time."""

    def write(self) -> bytes:
        assert WATCHED.is_writing.acquire(blocking=False)
        try:
            WATCHED.writes += 1
            WATCHED.before_write()
            return super().write()
        finally:
            WATCHED.is_writing.release()


@model_runner(MODEL)
class RepeatModel(BaseModelRunner[RepeatParams]):
    params = RepeatParams
    card = Card(title="Repeats each pixel", produces="image")

    def prepare(self, source: bytes, params: RepeatParams) -> Work:
        picture = self.image(source)
        tiles = AnyShape(TileSides(longest=TILE_PX, least=8, overlap_px=4))
        return TiledImage(picture.rgb, tiles, scale=SCALE, lane="", context=(picture, params))

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        WATCHED.before_infer(WATCHED.tiles)
        _, params = work.context
        if params.split_at is not None and WATCHED.tiles >= params.split_at and tiles.shape[1] > TILE_PX // 2:
            raise DeviceOutOfMemory
        WATCHED.tiles += len(tiles)
        if params.noise:
            shape = (SCALE * tiles.shape[1], SCALE * tiles.shape[2], 3)
            return [(np.random.default_rng().integers(0, 256, shape, np.uint8), 0.0) for _ in tiles]
        return [(tile.repeat(SCALE, axis=0).repeat(SCALE, axis=1), 0.0) for tile in tiles]

    def stream(self, work: Work, params: RepeatParams, output: OutputOptions) -> ResultStream | None:
        assert isinstance(work, TiledImage)
        rows = work.by_rows() if output.format == "png" else None
        if rows is None:
            return None
        picture, _ = work.context
        return ResultStream(
            self._product(work, output), WatchedWriter(rows, output, alpha=picture.alpha, grey=picture.grey)
        )

    def postprocess(self, work: Work, params: RepeatParams, output: OutputOptions) -> Product:
        assert isinstance(work, TiledImage)
        picture, _ = work.context
        product = self._product(work, output)
        return Product(
            file=work.canvas.encode(output, alpha=picture.alpha, grey=picture.grey),
            content_type=product.content_type,
            extension=product.extension,
        )

    def _product(self, work: Work, output: OutputOptions) -> Product:
        assert work.size is not None
        width, height = work.size
        return Product(content_type=f"image/{output.format}", extension=output.format, width=width, height=height)
