"""The model superres-x4, which makes a photo four times as wide and as high."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from penstock.core.device import CPU_TILE_PX, Device
from penstock.core.model import SMALL_PHOTO, Example
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes, TileSides
from penstock.errors import ConfigurationError, ModelUnavailable
from penstock.lazy_import import lazy_import
from penstock.models.base import BaseModelRunner, Card, DeviceBroken, Outputs, Params, Product, Work, model_runner
from penstock.models.grain import with_grain
from penstock.models.onnxruntime.golden import GoldenWork
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import digest_of, files_of, manifest
from penstock.models.tiling import TiledImage, tiling_on
from penstock.pixels.encoding import CONTENT_TYPES
from penstock.pixels.filling import filled
from penstock.pixels.headers import ImageBounds, ImageHeader, probe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

READ_BYTES, WRITTEN_BYTES = 8, 6
"""Bytes for each pixel that is read and for each that is written. Read: 3 in the array, 4 in Pillow, and at most 1 in
the file. Written: 4 in Pillow, and at most 2 in the file (a PNG of noise). The channels of an image that is transparent
or grey as well take 1 or 2 more for a moment."""

Variant = Literal["general", "clean", "best"]


class NetworkUse(Struct, frozen=True, kw_only=True):
    """How the network of a variant is run.

    It takes `effort` times as long for a pixel as `general` does. Its tiles have sides of up to `longest_px` by the
    kind of device, and a CPU needs `working_bytes` of memory for each pixel of a tile that it computes.
    """

    effort: float = 1.0
    longest_px: dict[str, int] = {}
    working_bytes: int = 0
    at_start: bool = True


NETWORKS: dict[str, NetworkUse] = {
    "general": NetworkUse(),
    "clean": NetworkUse(),
    # Measured on a CPU: 7.9 s instead of 0.53 s for a tile of 128 x 128, and 253 MB. Tiles that overlap by 32 px differ
    # from the whole image by at most 4 levels of 255, one value in 400 by more than one; 16 px leave 14 levels.
    "best": NetworkUse(effort=15.0, longest_px={"cpu": 192, "cuda": 256}, working_bytes=16384, at_start=False),
}


Denoise = Annotated[float, Meta(ge=0, le=1, description="how much of what the network takes for noise is left out")]


class SuperresParams(Params, frozen=True):
    """`general` repairs photos from the open web (noise, JPEG blocks); `clean` stays closest to a clean original;
    `best` shows the most detail, some of it invented, and takes about 15 times as long.

    With less `denoise` the result has more of the input's own grain: what the network took for noise comes back.
    """

    variant: Variant = "general"
    denoise: Denoise = 1.0


class _Sides(Struct, frozen=True, eq=False):
    """What bypasses the network: transparency, and whether the source was grey."""

    alpha: NDArray[np.uint8] | None
    grey: bool


@model_runner("superres-x4")
class SuperResolution(BaseModelRunner[SuperresParams]):
    """Real-ESRGAN general x4 v3, SPAN x4, or RealESRGAN x4plus: fully convolutional, run in tiles. The last one, which
    is large, is loaded when a task asks for it.

    Transparency is resampled bicubically and put back; a grey image stays grey.
    """

    params = SuperresParams
    card = Card(
        title="Super-resolution, 4×",
        licence="BSD-3-Clause (general, best), Apache-2.0 (clean)",
        source="realesr-general-x4v3 and RealESRGAN_x4plus (Xintao Wang); SPAN x4 ch48 (Wan, Yu et al.)",
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
                variant: SizeRule(
                    scale=file.scale,
                    tiles=TileSides(
                        longest=NETWORKS[variant].longest_px.get("cpu", CPU_TILE_PX), overlap_px=file.overlap_px
                    ),
                    effort=NETWORKS[variant].effort,
                )
                for variant, file in files.items()
            },
        )

    def load_model(self, device: Device) -> None:
        """Open the sessions of the variants that are there from the start."""
        files = {v: manifest(device.kind)[(self.name, v)] for v in NETWORKS}
        self._device = device
        self._files = files
        self._sessions = {v: open_session(file, device) for v, file in files.items() if NETWORKS[v].at_start}
        self._opening = Lock()
        self._tilings = {
            variant: tiling_on(device, file.overlap_px, longest=NETWORKS[variant].longest_px.get(device.kind))
            for variant, file in files.items()
        }

    def warmup(self) -> Iterator[Work]:
        """Yield every shape of those variants for a GPU, and none for a CPU: a new shape costs it nothing, and the
        golden check was the first run."""
        shapes = self._device.shapes if self._device.kind == "cuda" else ()
        # `clean` first: of two batches of one size its takes more memory, which then serves that of `general`.
        for variant, (height, width) in product(reversed(self._sessions), shapes):
            yield GoldenWork(self._files[variant], self._device, (height, width), lane=variant)

    def memory_needed(self, source: bytes, params: SuperresParams) -> int:
        """The bytes of the pixels before and after the network, in arrays, in Pillow and in files, and of what a CPU
        computes with where that is much."""
        header = probe(source, ImageBounds.of(self.limits))
        scale = self._files[params.variant].scale
        pixels = int(header.megapixels * 1e6) * (READ_BYTES + scale**2 * WRITTEN_BYTES)
        return pixels + self._working_bytes(header, params.variant)

    def _working_bytes(self, header: ImageHeader, variant: Variant) -> int:
        each = NETWORKS[variant].working_bytes
        if self._device.kind == "cuda" or not each:
            return 0
        plan = self._tilings[variant].plan(header.height, header.width)
        at_a_time = min(self._device.streams, len(plan.rows) * len(plan.columns))
        return at_a_time * plan.height * plan.width * each

    def prepare(self, source: bytes, params: SuperresParams) -> Work:
        """Decode the image and lay out its tiles. The network is loaded where it is not. Raises ModelUnavailable."""
        if params.variant not in self._sessions:
            self._open(params.variant)
        picture = self.image(source)
        file = self._files[params.variant]
        sides = _Sides(picture.alpha, picture.grey)
        height, width = picture.rgb.shape[:2]
        work = TiledImage(
            filled(picture.rgb, picture.alpha),
            self._tilings[params.variant],
            scale=file.scale,
            lane=params.variant,
            context=sides,
            device_size=self.device_size(width, height, params),
        )
        if params.denoise < 1:
            work.finish = partial(with_grain, share=1 - params.denoise)
        return work

    def _open(self, variant: Variant) -> None:
        with self._opening:
            if variant in self._sessions:  # another task has opened it meanwhile
                return
            try:
                self._sessions[variant] = open_session(self._files[variant], self._device)
            except (ConfigurationError, DeviceBroken) as error:
                raise ModelUnavailable(f"the variant {variant} cannot be loaded: {error}") from error

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Turn (n, h, w, 3) into n pairs: the pixels, (4h, 4w, 3), and their sum before they were levels."""
        upscaled, totals = self._sessions[work.lane].run(tiles, owner=work)
        return list(zip(upscaled, totals, strict=True))

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Encode the image that was joined from the tiles."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        width, height = work.canvas.size
        return Product(
            file=work.canvas.encode(output, alpha=work.context.alpha, grey=work.context.grey),
            content_type=CONTENT_TYPES[output.format],
            extension=output.format,
            width=width,
            height=height,
        )

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        self._sessions[work.lane].interrupt(work)
