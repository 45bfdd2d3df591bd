"""The runner of superres-x4: its sessions, the tiles of an image, and what a task takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict, replace

from penstock.core.device import CPU_TILE_PX, Device
from penstock.core.gate import SCORER
from penstock.core.model import SMALL_PHOTO, Example
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes, TileSides
from penstock.core.target import Layout
from penstock.errors import ConfigurationError, ModelUnavailable
from penstock.lazy_import import lazy_import
from penstock.models.base import (
    BaseModelRunner,
    Card,
    DeviceBroken,
    Outputs,
    Product,
    ResultStream,
    Work,
    model_runner,
)
from penstock.models.gate import Comparison, gate_bytes
from penstock.models.grain import with_grain
from penstock.models.members import bounds_for
from penstock.models.network_use import NETWORKS
from penstock.models.onnxruntime.deep import DeepSession, deep_sessions
from penstock.models.onnxruntime.golden import GoldenWork
from penstock.models.onnxruntime.precision import exact_sessions, open_session
from penstock.models.onnxruntime.session import Session, digest_of, files_of, manifest
from penstock.models.superres.params import SuperresParams, Variant
from penstock.models.superres.result import ResultPlan, comparison_of, encoded, product_without_file
from penstock.models.tiling import TiledImage, Tiling, is_by_rows, row_writer, waiting_bytes
from penstock.pixels.decoding import decode
from penstock.pixels.filling import filled
from penstock.pixels.formats import check_result_size
from penstock.pixels.headers import ImageHeader, probe
from penstock.pixels.picture import USUAL, Picture, PixelForm, deepened
from penstock.pixels.transparency import is_uniform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

ALPHA_READ_BYTES, ALPHA_WRITTEN_BYTES = 8, 2
"""As many more where transparency goes through the network: 4 of the array of both, 3 of the filled colours and 1 for
what is even; and the alpha of the result twice while it joins the colours."""

WRITTEN_BYTES = 6
"""Bytes for each pixel that is written: 4 in Pillow, and at most 2 in the file (a PNG of noise). The channels of an
image that is transparent or grey as well take 1 or 2 more for a moment."""

CANVAS_BYTES, FITTED_BYTES = 7, 9
"""Where the result is resampled: for each pixel of the network's result, 4 in Pillow and 3 in an array; for each of
the result, 3 in an array beside what is written."""

EIGHT_BITS = OutputOptions()

SENT_BYTES = 128 * 2**20
"""What a file that is sent while it is written takes: what one call of the encoder makes of noise, and its parts."""

ALPHA_VARIANT = "clean"
"""The network for transparency, whatever that of the colours is: `general` takes a soft shadow for a blurred edge, and
makes a hard one of it."""

ALPHA_LANE, DEEP_LANE, EXACT_LANE = "+alpha", "+16", "+fp32"
"""What the lane of a variant ends with where tiles have an alpha, where they have 16 bits, and where they are run again
in fp32: then with all of these."""

DEEP_WRITTEN_BYTES = 14
"""Of a result with 16 bits: 6 in the array, at most 6 in the file, and 2 for a moment."""


@model_runner("superres-x4")
class SuperResolution(BaseModelRunner[SuperresParams]):
    """Real-ESRGAN general x4 v3, SPAN x4, or RealESRGAN x4plus: fully convolutional, run in tiles. The last one, which
    is large, is loaded when a task asks for it.

    Transparency goes through the second of them, or is resampled bicubically; a grey image stays grey.
    """

    params = SuperresParams
    card = Card(
        title="Super-resolution, 4×",
        licence="BSD-3-Clause (general, best), Apache-2.0 (clean)",
        source="realesr-general-x4v3 and RealESRGAN_x4plus (Xintao Wang); SPAN x4 ch48 (Wan, Yu et al.)",
        produces="image",
        max_bits=16,
        keeps_color=True,
        notes={
            "scale": 4,
            "formats": ["png", "jpeg", "webp", "avif", "tiff"],
            "bits": [8, 16],
            "color": ["srgb", "keep"],
        },
    )

    example = Example(
        input={"image_url": SMALL_PHOTO},
        params={"variant": "general"},
        files=("result.png",),
    )

    concurrent = True
    reads_output = True

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
            scorer=SCORER,
            param="variant",
            alpha_param="alpha",
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
        self._deep = deep_sessions(files, device)
        self._exact = exact_sessions(files, device)
        self._opening = Lock()
        self._tilings = {v: NETWORKS[v].tiling_on(device, file.overlap_px) for v, file in files.items()}

    def warmup(self) -> Iterator[Work]:
        """Yield every shape of those variants for a GPU, and none for a CPU: a new shape costs it nothing, and the
        golden check was the first run."""
        shapes = self._device.shapes if self._device.kind == "cuda" else ()
        # `clean` first: of two batches of one size its takes more memory, which then serves that of `general`.
        for variant, (height, width) in product(reversed(self._sessions), shapes):
            yield GoldenWork(self._files[variant], self._device, (height, width), lane=variant)

    def memory_needed(self, source: bytes, params: SuperresParams, output: OutputOptions = EIGHT_BITS) -> int:
        """The bytes of the pixels before and after the network, in arrays, in Pillow and in files, and of what a CPU
        computes with where that is much. Raises ImageTooLarge for a result that is larger than the operator allows."""
        header, is_deep = probe(source, bounds_for(self.limits, params)), output.bits == 16
        layout = self._layout(header.width, header.height, params)
        pixels = header.width * header.height
        canvas, step = pixels * self._files[params.variant].scale ** 2, 2 if is_deep else 1
        needed = step * header.decoding_bytes + self._working_bytes(header, params)
        if header.has_alpha and (params.alpha == "network" or is_deep):  # bicubic of uint16 is made of floats
            needed += step * (pixels * ALPHA_READ_BYTES + canvas * ALPHA_WRITTEN_BYTES)
        written = DEEP_WRITTEN_BYTES if is_deep else WRITTEN_BYTES
        if layout is None:
            return needed + canvas * written
        return needed + step * (canvas * CANVAS_BYTES + prod(layout.canvas) * FITTED_BYTES)

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
        if output.bits == 16:
            whole += self.memory_needed(source, params, output) - self.memory_needed(source, params)
        header = probe(source, bounds_for(self.limits, params))
        layout = self._layout(header.width, header.height, params)
        has_alpha = header.has_alpha and params.alpha == "network"
        if has_alpha or params.needs_whole or not is_by_rows(output) or layout is not None:
            pixels = prod(self.output_size(header.width, header.height, params) or ())
            return whole + gate_bytes(params, output, pixels)
        tile = params.tile or self._device.any_side_to or max(height for height, _ in self._device.shapes)
        scale = self._files[params.variant].scale
        waiting = waiting_bytes(max(header.width, header.height) * scale, tile * scale)
        return min(whole, header.decoding_bytes + waiting + SENT_BYTES + self._working_bytes(header, params))

    def prepare(self, source: bytes, params: SuperresParams, output: OutputOptions = EIGHT_BITS) -> Work:
        """Decode the image, with 16 bits where the result has as many, and lay out its tiles. The network is loaded
        where it is not. Raises ModelUnavailable."""
        is_deep = output.bits == 16
        if params.variant not in self._sessions and not is_deep:
            self._open(params.variant)
        picture = self._picture(source, params, output)
        pixels, alpha = filled(picture.rgb, picture.alpha), picture.alpha
        if with_network := alpha is not None and params.alpha == "network" and not is_uniform(alpha):
            pixels, alpha = np.dstack([pixels, alpha]), None
        height, width = pixels.shape[:2]
        layout = self._layout(width, height, params)
        is_smaller = layout is not None and prod(layout.image) < width * height
        work = TiledImage(
            pixels,
            self._tiling(params),
            scale=self._files[params.variant].scale,
            lane=params.variant + (ALPHA_LANE if with_network else "") + (DEEP_LANE if is_deep else ""),
            context=ResultPlan(alpha, picture.grey, picture.profile, layout, is_smaller and picture.profile is None),
            device_size=self._rule(params).kilopixels_of(width, height, has_alpha=with_network),
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
        target = self._rule(params).target
        if target is None:
            return None
        layout = target.layout(width, height)
        check_result_size(self.limits, *layout.canvas, param=target.param)
        return layout

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Turn (n, h, w, 3) into n pairs: the pixels, (4h, 4w, 3), and their sum before they were levels. Of an alpha
        behind the colours it returns one too, (4h, 4w), and adds its sum. Tiles are uint8 or uint16, and so is what
        they become."""
        variant, *ends = work.lane.split("+")
        upscaled, totals = self._session_of(variant, ends).run(tiles[..., :3], owner=work)
        if tiles.shape[3] == 3:
            return list(zip(upscaled, totals, strict=True))
        greys, sums = self._session_of(ALPHA_VARIANT, ends).run(np.repeat(tiles[..., 3:], 3, axis=3), owner=work)
        return list(zip(upscaled, totals + sums, greys[..., 1], strict=True))

    def stream(self, work: Work, params: SuperresParams, output: OutputOptions) -> ResultStream | None:
        """A large PNG is written while its tiles come, unless it is resampled."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        sides = work.context
        if sides.layout is not None or params.needs_whole:
            return None
        writer = row_writer(work, output, alpha=sides.alpha, grey=sides.grey)
        return None if writer is None else ResultStream(product_without_file(work, output), writer)

    def comparison(self, work: Work, params: SuperresParams) -> Comparison:
        """Return the image as the network has seen it, and the result as it will be encoded."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        return comparison_of(work)

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Encode the image that was joined from the tiles."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        return replace(product_without_file(work, output), file=encoded(work, output))

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        for session in (*self._sessions.values(), *self._deep.opened, *self._exact.opened):
            session.interrupt(work)

    def in_fp32(self, work: Work) -> Work | None:
        """The same work for the fp32 file, which is opened here; None where the colours were run in fp32."""
        variant, *ends = work.lane.split("+")
        if self._session_of(variant, ends) is self._session_of(variant, [*ends, EXACT_LANE[1:]]):
            return None
        return work.again(work.lane + EXACT_LANE)

    def _session_of(self, variant: str, ends: Sequence[str]) -> Session | DeepSession:
        if DEEP_LANE[1:] in ends:
            return self._deep.of(variant)
        usual = self._sessions[variant]
        is_exact = EXACT_LANE[1:] not in ends or usual.file.precision == "fp32"
        return usual if is_exact else self._exact.of(variant)

    def _picture(self, source: bytes, params: SuperresParams, output: OutputOptions) -> Picture:
        """The picture in the form of the result: with 16 bits uint16, whatever the file has."""
        wanted = PixelForm(is_deep=output.bits == 16, keeps_colours=output.color == "keep")
        if wanted == USUAL:
            return self.image(source, params)
        picture = decode(source, bounds_for(self.limits, params), wanted)
        if not wanted.is_deep:
            return picture
        alpha = None if picture.alpha is None else deepened(picture.alpha)
        return replace(picture, rgb=deepened(picture.rgb), alpha=alpha)

    def _rule(self, params: SuperresParams) -> SizeRule:
        return self.sizes().rule_of(asdict(params))
