"""superres-x4: a photo, four times as wide and as high."""

from itertools import product
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from penstock import imaging
from penstock.errors import ImageTooLarge
from penstock.runners.base import BaseModelRunner, Card, Device, Outputs, Params, Product, Work, model_runner
from penstock.runners.onnx import Session, manifest
from penstock.runners.tiling import TiledImage, plan
from penstock.task import OutputOptions

Variant = Literal["general", "clean"]


class SuperresParams(Params, frozen=True):
    """`general` repairs photos from the open web (noise, JPEG blocks); `clean` stays closest to a clean original."""

    variant: Variant = "general"


class _Sides(Struct, frozen=True, eq=False):
    """What bypasses the network."""

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

    def load_model(self, device: Device) -> None:
        """Load both variants; a GPU is shown every shape once, for a CPU a new shape costs nothing."""
        files = {v: manifest()[(self.name, v)] for v in ("general", "clean")}
        self._files = files
        self._sessions = {variant: Session(file, device) for variant, file in files.items()}
        self._shapes = device.shapes
        warm = product(device.batches, device.shapes) if device.kind == "cuda" else [(1, device.shapes[0])]
        for batch, (height, width) in warm:
            for session in self._sessions.values():
                session.run(np.zeros((batch, 3, height, width), np.float32))

    def prepare(self, source: bytes, params: SuperresParams) -> Work:
        """Decode and lay out the tiles."""
        picture = self.image(source)
        height, width = picture.rgb.shape[:2]
        file = self._files[params.variant]
        layout = plan(height, width, self._shapes, file.overlap_px)
        sides = _Sides(picture.alpha, picture.grey)
        return TiledImage(picture.rgb, layout, scale=file.scale, lane=params.variant, context=sides)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """(n, 3, h, w) of 0..1 -> (n, 3, 4h, 4w)."""
        return self._sessions[work.lane].run(tiles)[0]

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Encode the joined tiles."""
        assert isinstance(work, TiledImage)  # noqa: S101  prepare made it
        canvas, sides = work.canvas, work.context
        height, width = canvas.shape[:2]
        if output.format == "webp" and max(height, width) > imaging.WEBP_MAX_SIDE:
            raise ImageTooLarge(f"a WebP side holds {imaging.WEBP_MAX_SIDE} px at most; ask for png or jpeg")
        alpha = None if sides.alpha is None else imaging.resize(sides.alpha, width, height)
        return Product(
            file=imaging.encode(imaging.Picture(canvas, alpha, sides.grey), output),
            content_type=imaging.CONTENT_TYPES[output.format],
            extension=output.format,
            width=width,
            height=height,
        )

    def interrupt(self) -> None:
        """Stop the run at its next node."""
        for session in self._sessions.values():
            session.interrupt()
