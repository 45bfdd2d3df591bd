"""image-to-mask: which pixels of an image belong to something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.definition import Definition
from penstock.models.declared.kinds.activation import activated
from penstock.models.declared.kinds.contract import KindAnswer, finite, value_of
from penstock.models.declared.kinds.labels import label_of
from penstock.models.declared.kinds.levels import levels, pixels_of
from penstock.models.declared.kinds.one_image import OneImage
from penstock.models.declared.placement import ImagePlacement
from penstock.models.declared.settings import Setting
from penstock.pixels.encoding import CONTENT_TYPES, encode
from penstock.pixels.picture import Picture, Pixels
from penstock.pixels.resampling import Resample, resampled
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

SURE = 128
"""The level from which a pixel counts as belonging to it."""


class ImageToMask(OneImage):
    """Answers an image of the size of the original: a grey mask, the original cut out of its background, or the index
    of the class of each pixel. The data has `share`, the part of the pixels that belong to it, or one for each
    class."""

    produces = "image"

    def __init__(self, definition: Definition, labels: tuple[str, ...], limits: LimitSettings) -> None:
        super().__init__(definition, labels, limits)
        self._section = definition.output
        self.keeps_picture = self._section.mask == "cut-out"

    @property
    def sizes(self) -> Sizes:
        """As large as the original."""
        return Sizes(rule=SizeRule(scale=1.0, kilopixels=super().sizes.rule.kilopixels))

    @property
    def settings(self) -> dict[str, Setting]:
        """Whether the mask has greys."""
        if self._section.mask == "classes":
            return {}
        description = "Values from here on become 1 and others 0; without it the mask has greys."
        chosen = self._section.threshold
        return {"threshold": Setting(default=chosen, minimum=0, maximum=1, description=description)}

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """The mask, encoded as asked."""
        picture, data = self._answers(work, params)
        height, width = picture.rgb.shape[:2]
        content_type = CONTENT_TYPES[output.format]
        return KindAnswer(data, encode(picture, output), content_type, output.format, width, height)

    def _answers(self, work: Work, params: Any) -> tuple[Picture, dict[str, Any]]:
        seen = work.context
        values = pixels_of(work.outputs[0][0], self.form)
        if self._section.mask == "classes":
            classes = _in_source(_classes(values), seen.placement, "nearest")
            return _grey(classes), {"shares": self._shares(classes)}
        mask = _in_source(self._mask(values), seen.placement, self._section.resample)
        threshold = value_of(params, "threshold", self._section.threshold)
        if threshold is not None:
            mask = np.where(mask >= threshold * 255, 255, 0).astype(np.uint8)
        share = {"share": round(float((mask >= SURE).mean()), 6)}
        if seen.picture is None:
            return _grey(mask), share
        return Picture(seen.picture.rgb, _both(mask, seen.picture.alpha)), share

    def _mask(self, values: NDArray[Any]) -> Pixels:
        if values.shape[2] > 2:
            raise InvalidOutput(
                f"the model gave {values.shape[2]} channels, and a mask 1 or 2: say output.mask = classes"
            )
        # Of two classes, the second is what is looked for, as in softmax over background and foreground.
        return levels(activated(finite(values), self._section.activation)[..., -1], self._section.range)

    def _shares(self, classes: Pixels) -> dict[str, float]:
        counts = np.bincount(classes.ravel())
        return {
            label_of(self.labels, index): round(int(count) / classes.size, 6)
            for index, count in enumerate(counts)
            if count
        }


def _classes(values: NDArray[Any]) -> Pixels:
    if values.shape[2] > 256:
        raise InvalidOutput(f"the model gave {values.shape[2]} classes, a grey image holds 256")
    if values.shape[2] == 1:  # the graph has chosen
        return finite(values)[..., 0].clip(0, 255).astype(np.uint8)
    best: Pixels = finite(values).argmax(axis=2).astype(np.uint8)
    return best


def _in_source(mask: Pixels, placement: ImagePlacement, how: Resample) -> Pixels:
    """A mask of the canvas, at any scale, in the size of the original; black where the network saw nothing."""
    (width, height), canvas = placement.source, placement.canvas
    down, across = mask.shape[0] / canvas[1], mask.shape[1] / canvas[0]
    left, top, right, low = placement.content
    inner = mask[round(top * down) : round(low * down), round(left * across) : round(right * across)]
    if not inner.size:
        raise InvalidOutput(f"the model gave a mask of {mask.shape[1]}x{mask.shape[0]}")
    inner = np.ascontiguousarray(inner)
    x, y, x_end, y_end = placement.visible
    if (x, y, x_end, y_end) == (0, 0, width, height):
        return resampled(inner, width, height, how)
    whole = np.zeros((height, width), np.uint8)
    whole[y:y_end, x:x_end] = resampled(inner, x_end - x, y_end - y, how)
    return whole


def _grey(levels_: Pixels) -> Picture:
    return Picture(np.repeat(levels_[..., None], 3, axis=2), grey=True)


def _both(mask: Pixels, alpha: Pixels | None) -> Pixels:
    return mask if alpha is None else np.minimum(mask, alpha)
