"""The model superres-x4, which makes a photo four times as wide and as high."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from penstock.core.device import CPU_TILE_PX, Device
from penstock.core.model import SMALL_PHOTO, Example
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes, TileSides
from penstock.core.target import Fit, Layout
from penstock.errors import ConfigurationError, ModelUnavailable
from penstock.lazy_import import lazy_import
from penstock.models.base import (
    BaseModelRunner,
    Card,
    DeviceBroken,
    Outputs,
    Params,
    Product,
    ResultStream,
    Work,
    model_runner,
)
from penstock.models.grain import with_grain
from penstock.models.onnxruntime.golden import GoldenWork
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import digest_of, files_of, manifest
from penstock.models.tiling import TiledImage, Tiling, is_by_rows, row_writer, tiling_on, waiting_bytes
from penstock.pixels.canvas import Canvas
from penstock.pixels.encoding import encode
from penstock.pixels.filling import filled
from penstock.pixels.fitting import fitted, fitted_alpha
from penstock.pixels.formats import CONTENT_TYPES, check_result_size
from penstock.pixels.headers import ImageBounds, ImageHeader, probe
from penstock.pixels.picture import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

WRITTEN_BYTES = 6
"""Bytes for each pixel that is written: 4 in Pillow, and at most 2 in the file (a PNG of noise). The channels of an
image that is transparent or grey as well take 1 or 2 more for a moment."""

CANVAS_BYTES, FITTED_BYTES = 7, 9
"""Where the result is resampled: for each pixel of the network's result, 4 in Pillow and 3 in an array; for each of
the result, 3 in an array beside what is written."""

SENT_BYTES = 128 * 2**20
"""What a file that is sent while it is written takes: what one call of the encoder makes of noise, and its parts."""

Variant = Literal["general", "clean", "best"]


class NetworkUse(Struct, frozen=True, kw_only=True):
    """How the network of a variant is run.

    It takes `effort` times as long for a pixel as `general` does. Its tiles have sides of up to `longest_cpu_px` on a
    CPU and `longest_gpu_px` on a GPU, or as long as the device's are. A CPU needs `working_bytes` of memory for each
    pixel of a tile that it computes.
    """

    effort: float = 1.0
    longest_cpu_px: int | None = None
    longest_gpu_px: int | None = None
    working_bytes: int = 0
    at_start: bool = True

    def tiling_on(self, device: Device, overlap: int) -> Tiling:
        """How images are cut for the network on a device."""
        usual = tiling_on(device, overlap)
        longest = self.longest_cpu_px if device.kind == "cpu" else self.longest_gpu_px
        return usual if longest is None else usual.up_to(longest)


NETWORKS: dict[str, NetworkUse] = {
    "general": NetworkUse(),
    "clean": NetworkUse(),
    # Measured on a CPU: 7.9 s instead of 0.53 s for a tile of 128 x 128, and 253 MB. Tiles that overlap by 32 px differ
    # from the whole image by at most 4 levels of 255, one value in 400 by more than one; 16 px leave 14 levels.
    "best": NetworkUse(effort=15.0, longest_cpu_px=192, longest_gpu_px=256, working_bytes=16384, at_start=False),
}

Denoise = Annotated[float, Meta(ge=0, le=1, description="how much of what the network takes for noise is left out")]
Scale = Annotated[float, Meta(ge=1, le=8, description="how many times as wide and high the result is")]
Length = Annotated[int, Meta(ge=1, le=65_535, description="pixels; the other side follows where it is not given")]
TileLength = Annotated[int, Meta(ge=96, le=4096, description="longest side of a tile, in pixels of the input")]


class SuperresParams(Params, frozen=True):
    """`general` repairs photos from the open web (noise, JPEG blocks); `clean` stays closest to a clean original;
    `best` shows the most detail, some of it invented, and takes about 15 times as long.

    With less `denoise` the result has more of the input's own grain: what the network took for noise comes back.

    The result has `scale` times the size of the input, or the `width` and `height`, into which another shape goes as
    `fit` says: `inside` them, `outside`, `contain` with a border, `cover` with its edges cut off, or `fill` by being
    stretched.
    """

    variant: Variant = "general"
    denoise: Denoise = 1.0
    scale: Scale = 4.0
    width: Length | None = None
    height: Length | None = None
    fit: Fit = "inside"
    tile: TileLength | None = None


class _Sides(Struct, frozen=True, eq=False):
    """What bypasses the network: transparency, and whether the source was grey; and where the image lies in a result
    of another size than the network makes, which is resampled in linear light or as it is."""

    alpha: NDArray[np.uint8] | None
    grey: bool
    layout: Layout | None = None
    in_linear_light: bool = False


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
        notes={"scale": 4, "formats": ["png", "jpeg", "webp", "avif", "tiff"]},
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
            asked=True,
            param="variant",
            by_value={
                variant: SizeRule(
                    scale=file.scale,
                    tiles=TileSides(
                        longest=NETWORKS[variant].longest_cpu_px or CPU_TILE_PX, overlap_px=file.overlap_px
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
        self._tilings = {v: NETWORKS[v].tiling_on(device, file.overlap_px) for v, file in files.items()}

    def warmup(self) -> Iterator[Work]:
        """Yield every shape of those variants for a GPU, and none for a CPU: a new shape costs it nothing, and the
        golden check was the first run."""
        shapes = self._device.shapes if self._device.kind == "cuda" else ()
        # `clean` first: of two batches of one size its takes more memory, which then serves that of `general`.
        for variant, (height, width) in product(reversed(self._sessions), shapes):
            yield GoldenWork(self._files[variant], self._device, (height, width), lane=variant)

    def memory_needed(self, source: bytes, params: SuperresParams) -> int:
        """The bytes of the pixels before and after the network, in arrays, in Pillow and in files, and of what a CPU
        computes with where that is much. Raises ImageTooLarge for a result that is larger than the operator allows."""
        header = probe(source, ImageBounds.of(self.limits))
        layout = self._layout(header.width, header.height, params)
        canvas = header.width * header.height * self._files[params.variant].scale ** 2
        needed = header.decoding_bytes + self._working_bytes(header, params)
        if layout is None:
            return needed + canvas * WRITTEN_BYTES
        return needed + canvas * CANVAS_BYTES + prod(layout.canvas) * FITTED_BYTES

    def _working_bytes(self, header: ImageHeader, params: SuperresParams) -> int:
        each = NETWORKS[params.variant].working_bytes
        if self._device.kind == "cuda" or not each:
            return 0
        plan = self._tiling(params).plan(header.height, header.width)
        at_a_time = min(self._device.streams, len(plan.rows) * len(plan.columns))
        return at_a_time * plan.height * plan.width * each

    def _tiling(self, params: SuperresParams) -> Tiling:
        tiling = self._tilings[params.variant]
        return tiling if params.tile is None else tiling.up_to(params.tile)

    def memory_for(self, source: bytes, params: SuperresParams, output: OutputOptions) -> int:
        """Less where rows of the result, and parts of its file, are given back before others come."""
        whole = super().memory_for(source, params, output)
        header = probe(source, ImageBounds.of(self.limits))
        if not is_by_rows(output) or self._layout(header.width, header.height, params) is not None:
            return whole
        tile = params.tile or self._device.any_side_to or max(height for height, _ in self._device.shapes)
        scale = self._files[params.variant].scale
        waiting = waiting_bytes(max(header.width, header.height) * scale, tile * scale)
        return min(whole, header.decoding_bytes + waiting + SENT_BYTES + self._working_bytes(header, params))

    def prepare(self, source: bytes, params: SuperresParams) -> Work:
        """Decode the image and lay out its tiles. The network is loaded where it is not. Raises ModelUnavailable."""
        if params.variant not in self._sessions:
            self._open(params.variant)
        picture = self.image(source)
        file = self._files[params.variant]
        height, width = picture.rgb.shape[:2]
        layout = self._layout(width, height, params)
        is_smaller = layout is not None and prod(layout.image) < width * height
        work = TiledImage(
            filled(picture.rgb, picture.alpha),
            self._tiling(params),
            scale=file.scale,
            lane=params.variant,
            context=_Sides(picture.alpha, picture.grey, layout, is_smaller),
            device_size=self.device_size(width, height, params),
            result_size=layout and layout.canvas,
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

    def _layout(self, width: int, height: int, params: SuperresParams) -> Layout | None:
        """The layout of a result that is resampled; None of one that has the size that the network makes."""
        target = self.sizes().rule_of(asdict(params)).target
        if target is None:
            return None
        layout = target.layout(width, height)
        check_result_size(self.limits, *layout.canvas, param=target.param)
        return layout

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Turn (n, h, w, 3) into n pairs: the pixels, (4h, 4w, 3), and their sum before they were levels."""
        upscaled, totals = self._sessions[work.lane].run(tiles, owner=work)
        return list(zip(upscaled, totals, strict=True))

    def stream(self, work: Work, params: SuperresParams, output: OutputOptions) -> ResultStream | None:
        """A large PNG is written while its tiles come, unless it is resampled."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        sides = work.context
        if sides.layout is not None:
            return None
        writer = row_writer(work, output, alpha=sides.alpha, grey=sides.grey)
        return None if writer is None else ResultStream(_product(work, output), writer)

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Encode the image that was joined from the tiles."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        return replace(_product(work, output), file=_encoded(work.canvas, work.context, output))

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        self._sessions[work.lane].interrupt(work)


def _encoded(canvas: Canvas, sides: _Sides, output: OutputOptions) -> bytes:
    if sides.layout is None:
        return canvas.encode(output, alpha=sides.alpha, grey=sides.grey)
    rgb = fitted(canvas.pixels, sides.layout, in_linear_light=sides.in_linear_light)
    return encode(Picture(rgb, fitted_alpha(sides.alpha, sides.layout), sides.grey), output)


def _product(work: TiledImage, output: OutputOptions) -> Product:
    width, height = work.size
    content_type = CONTENT_TYPES[output.format]
    return Product(content_type=content_type, extension=output.format, width=width, height=height)
