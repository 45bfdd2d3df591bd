"""Whether images come out of the card as they come out of the CPU: the same files, decoded, run, and joined."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.errors import InvalidOutput
from penstock.gpu_checks.measures.product import SCORER, UPSCALER, Runner, loaded
from penstock.models.base import Params, Work
from penstock.models.onnxruntime.precision import check_images, open_session
from penstock.models.onnxruntime.session import manifest
from penstock.models.superres import SuperresParams
from penstock.models.tiling import TiledImage
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture
from penstock.worker.devices import cpu

SIDE = 128
PATTERNS = ("photo", "stripes", "dots", "noise")
"""What `check_images` gives, in its order."""

GENERAL, CLEAN = SuperresParams(variant="general"), SuperresParams(variant="clean")


def right(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the largest difference from the CPU for each network and pattern: in levels of 255 for images, and in
    points of 10 for scores."""
    sources = _sources()
    yield {"general_arithmetic": open_session(manifest(device.kind)[UPSCALER, "general"], device).file.precision}
    on_cpu, ours = loaded(UPSCALER, cpu()), loaded(UPSCALER, device)
    yield from _images("general", ours, on_cpu, sources, GENERAL)
    yield from _images("clean", ours, on_cpu, sources, CLEAN)
    yield from _images("general_fp32", loaded(UPSCALER, replace(device, precision="fp32")), on_cpu, sources, GENERAL)
    yield from _scores(loaded(SCORER, device), loaded(SCORER, cpu()), sources)


def _sources() -> dict[str, bytes]:
    """The check images as PNG files."""
    options = OutputOptions(format="png")
    images = zip(PATTERNS, check_images(SIDE, SIDE), strict=True)
    return {name: encode(Picture(rgb), options) for name, rgb in images}


def _images(
    name: str, ours: Runner, theirs: Runner, sources: dict[str, bytes], params: SuperresParams
) -> Iterator[dict[str, Any]]:
    worst = 0.0
    for pattern, source in sources.items():
        expected = _canvas(theirs, source, params)
        try:
            pixels = _canvas(ours, source, params)
        except InvalidOutput as error:
            yield {f"{name}_{pattern}_error": str(error)}
            worst = 255.0
            continue
        levels = float(np.abs(pixels.astype(int) - expected).max())
        worst = max(worst, levels)
        yield {f"{name}_{pattern}_levels": levels, f"{name}_{pattern}_blank": bool((pixels == pixels[0, 0]).all())}
    yield {f"worst_{name}_levels": worst}


def _scores(ours: Runner, theirs: Runner, sources: dict[str, bytes]) -> Iterator[dict[str, Any]]:
    worst = 0.0
    for pattern, source in sources.items():
        expected = _score(theirs, source)
        try:
            score = _score(ours, source)
        except InvalidOutput as error:
            yield {f"nima_{pattern}_error": str(error)}
            worst = 10.0
            continue
        worst = max(worst, abs(score - expected))
        yield {f"nima_{pattern}_score": score}
    yield {"worst_nima_score": worst}


def _canvas(runner: Runner, source: bytes, params: SuperresParams) -> NDArray[np.uint8]:
    work = _done(runner, source, params)
    assert isinstance(work, TiledImage)  # noqa: S101  the upscaler makes it
    return work.canvas.pixels


def _score(runner: Runner, source: bytes) -> float:
    product = runner.postprocess(_done(runner, source, runner.params()), runner.params(), OutputOptions(format="png"))
    return float((product.data or {})["score"])


def _done(runner: Runner, source: bytes, params: Params) -> Work:
    """The work of this file with all its outputs, which were run tile by tile."""
    work = runner.prepare(source, params)
    for index in range(work.count):
        tile = np.empty((1, *work.shape), work.dtype)
        work.write_tile(index, tile[0])
        work.accept(index, runner.infer(tile, work)[0])
    return work
