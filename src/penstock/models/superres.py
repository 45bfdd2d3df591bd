"""The model superres-x4, which makes a photo four times as wide and as high."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.device import CPU_TILE_PX, Device
from penstock.core.model import SMALL_PHOTO, Example
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes, TileSides
from penstock.lazy_import import lazy_import
from penstock.models.base import (
    BaseModelRunner,
    Card,
    Outputs,
    Params,
    Product,
    ResultStream,
    Work,
    model_runner,
)
from penstock.models.onnxruntime.golden import GoldenWork
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import digest_of, files_of, manifest
from penstock.models.tiling import TiledImage, tiling_on, waiting_bytes
from penstock.pixels.encoding import CONTENT_TYPES
from penstock.pixels.filling import filled
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.row_writer import RowWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

READ_BYTES, WRITTEN_BYTES = 8, 6
"""Bytes for each pixel that is read and for each that is written. Read: 3 in the array, 4 in Pillow, and at most 1 in
the file. Written: 4 in Pillow, and at most 2 in the file (a PNG of noise). The channels of an image that is transparent
or grey as well take 1 or 2 more for a moment."""

SENT_BYTES = 128 * 2**20
"""What a file that is sent while it is written takes: what one call of the encoder makes of noise, and its parts."""

Variant = Literal["general", "clean"]


class SuperresParams(Params, frozen=True):
    """`general` repairs photos from the open web (noise, JPEG blocks); `clean` stays closest to a clean original."""

    variant: Variant = "general"


class _Sides(Struct, frozen=True, eq=False):
    """What bypasses the network: transparency, and whether the source was grey."""

    alpha: NDArray[np.uint8] | None
    grey: bool


@model_runner("superres-x4")
class SuperResolution(BaseModelRunner[SuperresParams]):
    """Real-ESRGAN general x4 v3, or SPAN x4: both fully convolutional, run in tiles.

    Transparency is resampled bicubically and put back; a grey image stays grey.
    """

    params = SuperresParams
    card = Card(
        title="Super-resolution, 4×",
        licence="BSD-3-Clause (general), Apache-2.0 (clean)",
        source="realesr-general-x4v3 (Xintao Wang); SPAN x4 ch48 (Wan, Yu et al.)",
        produces="image",
        notes={"scale": 4, "formats": ["png", "jpeg", "webp"]},
    )

    example = Example(
        input={"image_url": SMALL_PHOTO},
        params={"variant": "general"},
        files=("result.png",),
    )

    concurrent = True

    @classmethod
    def digest(cls) -> str:
        """The version of the code and of the model files."""
        return f"{cls.card.version} {digest_of(files_of(cls.name))}"

    @classmethod
    def sizes(cls) -> Sizes:
        """For each variant its scale, and tiles as a CPU cuts them: clients do not know the device."""
        files = {variant: file for (name, variant), file in manifest().items() if name == cls.name}
        return Sizes(
            param="variant",
            by_value={
                variant: SizeRule(scale=file.scale, tiles=TileSides(longest=CPU_TILE_PX, overlap_px=file.overlap_px))
                for variant, file in files.items()
            },
        )

    def load_model(self, device: Device) -> None:
        """Open the sessions of both variants."""
        files = {v: manifest(device.kind)[(self.name, v)] for v in ("general", "clean")}
        self._device = device
        self._files = files
        self._sessions = {variant: open_session(file, device) for variant, file in files.items()}
        self._tilings = {variant: tiling_on(device, file.overlap_px) for variant, file in files.items()}

    def warmup(self) -> Iterator[Work]:
        """Yield every shape for a GPU, and none for a CPU: a new shape costs it nothing, and the golden check was the
        first run."""
        shapes = self._device.shapes if self._device.kind == "cuda" else ()
        # `clean` first: of two batches of one size its takes more memory, which then serves that of `general`.
        for variant, (height, width) in product(reversed(self._sessions), shapes):
            yield GoldenWork(self._files[variant], self._device, (height, width), lane=variant)

    def memory_needed(self, source: bytes, params: SuperresParams) -> int:
        """The bytes of the pixels before and after the network, in arrays, in Pillow and in files."""
        header = probe(source, ImageBounds.of(self.limits))
        scale = self._files[params.variant].scale
        return int(header.megapixels * 1e6) * (READ_BYTES + scale**2 * WRITTEN_BYTES)

    def memory_for(self, source: bytes, params: SuperresParams, output: OutputOptions) -> int:
        """Less where rows of the result, and parts of its file, are given back before others come."""
        whole = self.memory_needed(source, params)
        if not _is_streamed(params, output):
            return whole
        header, scale = probe(source, ImageBounds.of(self.limits)), self._files[params.variant].scale
        tile = self._device.any_side_to or max(height for height, _ in self._device.shapes)
        waiting = waiting_bytes(max(header.width, header.height) * scale, tile * scale)
        pixels = int(header.megapixels * 1e6)
        return min(whole, pixels * READ_BYTES + waiting + SENT_BYTES)

    def prepare(self, source: bytes, params: SuperresParams) -> Work:
        """Decode the image and lay out its tiles."""
        picture = self.image(source)
        file = self._files[params.variant]
        sides = _Sides(picture.alpha, picture.grey)
        height, width = picture.rgb.shape[:2]
        return TiledImage(
            filled(picture.rgb, picture.alpha),
            self._tilings[params.variant],
            scale=file.scale,
            lane=params.variant,
            context=sides,
            device_size=self.device_size(width, height, params),
        )

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Turn (n, h, w, 3) into n pairs: the pixels, (4h, 4w, 3), and their sum before they were levels."""
        upscaled, totals = self._sessions[work.lane].run(tiles, owner=work)
        return list(zip(upscaled, totals, strict=True))

    def stream(self, work: Work, params: SuperresParams, output: OutputOptions) -> ResultStream | None:
        """A large PNG is written while its tiles come, if nothing needs the whole image."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        rows = work.by_rows() if _is_streamed(params, output) else None
        if rows is None:
            return None
        writer = RowWriter(rows, alpha=work.context.alpha, grey=work.context.grey)
        return ResultStream(_product(work, output), writer)

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Encode the image that was joined from the tiles."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        file = work.canvas.encode(output, alpha=work.context.alpha, grey=work.context.grey)
        return replace(_product(work, output), file=file)

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        self._sessions[work.lane].interrupt(work)


def _is_streamed(params: SuperresParams, output: OutputOptions) -> bool:
    # Whatever else is asked for may need the whole image.
    plain = OutputOptions(format="png", quality=output.quality, lossless=output.lossless)
    return output == plain and params == SuperresParams(variant=params.variant)


def _product(work: TiledImage, output: OutputOptions) -> Product:
    width, height = work.canvas.size
    content_type = CONTENT_TYPES[output.format]
    return Product(content_type=content_type, extension=output.format, width=width, height=height)
