"""image-to-scores: numbers that say something about an image."""

from __future__ import annotations

from typing import Any

from penstock.core.request import OutputOptions
from penstock.models.base import Work
from penstock.models.declared.kinds.activation import activated
from penstock.models.declared.kinds.contract import KindAnswer, finite
from penstock.models.declared.kinds.labels import label_of
from penstock.models.declared.kinds.one_image import OneImage


class ImageToScores(OneImage):
    """Answers `score` where the network gives one number, else `scores`: a list, or an object by name where the
    definition has labels."""

    produces = "data"

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """All numbers of the output, after the activation."""
        values = finite(activated(work.outputs[0][0].ravel(), self.definition.output.activation))
        scores = [round(value, 6) for value in values.astype(float).tolist()]
        if len(scores) == 1:
            return KindAnswer({"score": scores[0]})
        if self.labels:
            return KindAnswer({"scores": {label_of(self.labels, index): score for index, score in enumerate(scores)}})
        return KindAnswer({"scores": scores})
