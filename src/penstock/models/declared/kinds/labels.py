"""image-to-labels: the classes that an image most probably shows; image-to-scores: numbers that say something about
it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.request import OutputOptions
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.kinds.activation import activated
from penstock.models.declared.kinds.contract import KindAnswer, finite, value_of
from penstock.models.declared.kinds.one_image import OneImage
from penstock.models.declared.settings import Setting

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


class ImageToLabels(OneImage):
    """Answers `labels`: the `top_k` most probable classes, each with its `label`, `index` and `probability`."""

    produces = "data"

    @property
    def settings(self) -> dict[str, Setting]:
        """How many classes are named."""
        top_k = self.definition.output.top_k
        return {
            "top_k": Setting(default=top_k, minimum=1, maximum=1000, whole=True, description="At most so many labels.")
        }

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """The most probable classes, that with the lowest index first where two are equal."""
        section = self.definition.output
        probabilities = finite(activated(work.outputs[0][0].ravel(), section.activation))
        check_labels(self.labels, len(probabilities))
        best = np.argsort(-probabilities, kind="stable")[: value_of(params, "top_k", section.top_k)]
        return KindAnswer({"labels": [self._named(int(index), float(probabilities[index])) for index in best]})

    def _named(self, index: int, probability: float) -> dict[str, Any]:
        return {"label": label_of(self.labels, index), "index": index, "probability": round(probability, 6)}


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
            check_labels(self.labels, len(scores))
            return KindAnswer({"scores": {label_of(self.labels, index): score for index, score in enumerate(scores)}})
        return KindAnswer({"scores": scores})


def check_labels(labels: tuple[str, ...], classes: int) -> None:
    """Raises InvalidOutput when there are more labels than classes: they are those of another network, or shifted."""
    if len(labels) > classes:
        raise InvalidOutput(f"output.labels has {len(labels)} names, and the graph gives {classes} numbers")


def label_of(labels: tuple[str, ...], index: int) -> str:
    """The name of a class: `class3` where it has none."""
    named = labels[index] if 0 <= index < len(labels) else ""
    return named or f"class{index}"
