"""A model that takes a chosen time without CPU, ignores interrupts, and returns a chosen product.

Penstock loads it through `PENSTOCK_MODELS_MODULES=tests.support.slow_model`.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.request import OutputOptions
from penstock.models.base import (
    BaseModelRunner,
    Card,
    Device,
    Outputs,
    Params,
    Product,
    ProductFile,
    Work,
    model_runner,
)

MODEL = "slow-v1"
LARGE = 4_000_000
"""Bytes of the large file that a product may have."""


def _nested(levels: int) -> dict[str, Any]:
    return {"a": _nested(levels - 1)} if levels else {}


def _cyclic() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["itself"] = data
    return data


PRODUCTS: dict[str, Any] = {
    "file": Product(file=b"x" * 1000, content_type="image/png", extension="png"),
    "numpy": Product(
        data={
            "score": np.float32(0.5),
            "best": np.int64(3),
            "is_sure": np.bool_(True),
            "distribution": np.array([0.25, 0.75]),
        }
    ),
    "pixels of numpy": Product(
        file=memoryview(b"x"),  # type: ignore[arg-type]
        content_type="image/png",
        extension="png",
        width=np.int64(2),  # type: ignore[arg-type]
        height=np.uint8(1),  # type: ignore[arg-type]
    ),
    "several files": Product(
        file=b"picture",
        content_type="image/png",
        extension="png",
        files=[ProductFile("mask.png", b"mask", "image/png", 4, 3), ProductFile("notes.txt", b"a,b", "text/plain")],
        data={"masks": 1},
    ),
    "a small and a large file": Product(
        file=b"small", content_type="image/png", extension="png", files=[ProductFile("large.bin", b"x" * LARGE)]
    ),
    "named files alone": Product(files=(ProductFile("left.wav", b"l"), ProductFile("right.wav", b"r"))),
    "not a number": Product(data={"scores": [0.5, float("nan")]}),
    "infinite in an array": Product(data={"scores": np.array([np.inf])}),
    "a number as a name": Product(data={"by": {1: "one"}}),
    "an object": Product(data={"of": object()}),
    "a long double": Product(data={"of": np.longdouble(1)}),
    "half of a pair": Product(data={"text": "\ud800"}),
    "too deep": Product(data=_nested(100)),
    "a circle": Product(data=_cyclic()),
    "too long": Product(data={"text": "x" * (256 * 1024)}),
    "too large an array": Product(data={"pixels": np.broadcast_to(np.uint8(0), 1 << 40)}),
    "a list": Product(data=[1, 2]),  # type: ignore[arg-type]
    "nothing": None,
    "text as a file": Product(file="text", extension="txt"),  # type: ignore[arg-type]
    "a path as extension": Product(file=b"x", extension="../x"),
    "lines as content type": Product(file=b"x", content_type="image/png\r\nX-Other: 1"),
    "two files of one name": Product(files=[ProductFile("a.png", b"x"), ProductFile("A.PNG", b"y")]),
    "a file with the name of the first": Product(file=b"x", extension="png", files=[ProductFile("result.png", b"y")]),
    "a path as a name": Product(files=[ProductFile("../a.png", b"x")]),
    "a hidden name": Product(files=[ProductFile(".a", b"x")]),
    "no name": Product(files=[ProductFile("", b"x")]),
    "a long name": Product(files=[ProductFile("a" * 65, b"x")]),
    "bytes among the files": Product(files=[b"x"]),  # type: ignore[list-item]
    "one file as the files": Product(files=ProductFile("a", b"x")),  # type: ignore[arg-type]
    "text in a file": Product(files=[ProductFile("a", "text")]),  # type: ignore[arg-type]
    "half a pixel in a file": Product(files=[ProductFile("a.png", b"x", "image/png", 0.5)]),  # type: ignore[arg-type]
    "too many files": Product(files=[ProductFile(f"{n}", b"x") for n in range(65)]),
    "half a pixel": Product(file=b"x", content_type="image/png", extension="png", width=1.5),  # type: ignore[arg-type]
}
"""What runners return, by mistake or not."""

RIGHT = ("file", "numpy", "pixels of numpy", "several files", "a small and a large file", "named files alone")

WRONG = [name for name in PRODUCTS if name not in RIGHT]


class SlowParams(Params, frozen=True):
    """`tiles` runs on the device, each of `tile_s` seconds; then the product of this name."""

    tiles: int = 1
    tile_s: float = 0.05
    product: str = ""


@model_runner(MODEL)
class Slow(BaseModelRunner[SlowParams]):
    """A run keeps the device until its end, as native code does."""

    params = SlowParams
    card = Card(title="Sleeps")

    def load_model(self, device: Device) -> None:
        pass

    def prepare(self, source: bytes, params: SlowParams) -> Work:
        return Work([np.zeros((1, 1), np.float32)] * params.tiles, lane=str(params.tile_s), context=params)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        time.sleep(work.context.tile_s)
        return [0] * len(tiles)

    def postprocess(self, work: Work, params: SlowParams, output: OutputOptions) -> Product:
        return PRODUCTS[params.product] if params.product else Product(data={"tiles": work.count})
