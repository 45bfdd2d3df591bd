"""image-to-boxes: what is where in an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.request import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.kinds.contract import KindAnswer, value_of
from penstock.models.declared.kinds.detections import Detections, Form, detections
from penstock.models.declared.kinds.labels import label_of
from penstock.models.declared.kinds.one_image import OneImage
from penstock.models.declared.kinds.suppression import kept
from penstock.models.declared.settings import Setting

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


class ImageToBoxes(OneImage):
    """Answers `boxes`, best first: each with its `label`, `index`, `score` and `box` (left, top, right, bottom in
    pixels of the upright image); and `width` and `height` of that image."""

    produces = "data"

    @property
    def settings(self) -> dict[str, Setting]:
        """The least score, the overlap that is allowed, and the most boxes."""
        section = self.definition.output
        least = "Boxes with a lower score are left out."
        score = Setting(default=section.score, minimum=0, maximum=1, description=least)
        overlap = "Of two boxes that share more than this of their union, the one with the lower score is left out."
        iou = Setting(default=section.iou, minimum=0, maximum=1, description=overlap)
        most = Setting(
            default=section.most, minimum=1, maximum=section.most, whole=True, description="At most so many boxes."
        )
        return {"score": score, "iou": iou, "most": most} if self._suppresses else {"score": score, "most": most}

    @property
    def _suppresses(self) -> bool:
        return self.definition.output.nms != "none" and self.definition.output.boxes != "end2end"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The boxes, and their scores and classes where these have outputs of their own."""
        section = self.definition.output
        more = (section.scores, section.classes) if section.boxes == "separate" else ()
        return (section.name, *filter(None, more))

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """The boxes that count, in pixels of the image."""
        section, placed = self.definition.output, work.context.placement
        found = detections(work.outputs[0], Form(section, self.labels, placed.canvas))
        found = found.at(found.scores >= value_of(params, "score", section.score))
        found = found.at(self._chosen(found, params))
        boxes = placed.undone(found.boxes)
        rows = zip(boxes.round(3).tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
        width, height = placed.source
        return KindAnswer({"boxes": [self._named(*row) for row in rows], "width": width, "height": height})

    def _chosen(self, found: Detections, params: Any) -> Any:
        section = self.definition.output
        most = value_of(params, "most", section.most)
        if not self._suppresses:
            return np.argsort(-found.scores, kind="stable")[:most]
        groups = found.classes if section.nms == "class" else np.zeros_like(found.classes)
        return kept(found.boxes, found.scores, groups, iou=value_of(params, "iou", section.iou), most=most)

    def _named(self, box: list[float], score: float, index: int) -> dict[str, Any]:
        return {"label": label_of(self.labels, index), "index": index, "score": round(score, 6), "box": box}
