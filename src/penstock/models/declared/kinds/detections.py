"""The forms in which detectors give boxes, each brought into one: corners in pixels of the tensor, scores, classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.declared.definition import OutputSection
from penstock.models.declared.kinds.activation import activated
from penstock.models.declared.kinds.contract import finite
from penstock.models.declared.network import Arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class Detections(NamedTuple):
    """n boxes: corners (n, 4), and for each its score and the index of its class."""

    boxes: NDArray[Any]
    scores: NDArray[Any]
    classes: NDArray[Any]

    def at(self, chosen: NDArray[Any]) -> Detections:
        """Those that an array of indices or truth values chooses."""
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


class Form(NamedTuple):
    """What the form of an output depends on: the section, the names of the classes, and width and height of the
    tensor."""

    section: OutputSection
    labels: tuple[str, ...]
    canvas: tuple[int, int]


def detections(outputs: Arrays, form: Form) -> Detections:
    """All boxes of one image, with corners in pixels of the tensor. Raises InvalidOutput."""
    found = FORMS[form.section.boxes](outputs, form)
    boxes = found.boxes.astype(np.float64)
    if form.section.corners == "centre" and form.section.boxes != "end2end":
        boxes = _corners(boxes)
    if form.section.units == "share":
        boxes = boxes * np.array(form.canvas * 2, np.float64)
    return found._replace(boxes=boxes)


def _raw(outputs: Arrays, form: Form) -> Detections:
    rows = _rows(outputs, form)
    return _best_class(rows[:, :4], _of_classes(rows[:, 4:], form))


def _with_objectness(outputs: Arrays, form: Form) -> Detections:
    rows = _rows(outputs, form)
    objects = activated(rows[:, 4:5], form.section.activation)
    return _best_class(rows[:, :4], _of_classes(rows[:, 5:], form) * objects)


def _on_grids(outputs: Arrays, form: Form) -> Detections:
    # YOLOX without its decoding: the distance from the cell in strides, and the logarithm of the size in strides.
    rows = _rows(outputs, form)
    cells = [_cells(form.canvas, stride) for stride in form.section.strides]
    grid, strides = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    if len(grid) != len(rows):
        raise InvalidOutput(f"the model gave {len(rows)} boxes, and its grids have {len(grid)} cells")
    centres, sizes = (rows[:, :2] + grid) * strides, np.exp(rows[:, 2:4]) * strides
    scores = _of_classes(rows[:, 5:], form) * activated(rows[:, 4:5], form.section.activation)
    return _best_class(np.concatenate([centres, sizes], axis=1), scores)


def _cells(canvas: tuple[int, int], stride: int) -> tuple[NDArray[Any], NDArray[Any]]:
    down, across = np.meshgrid(np.arange(canvas[1] // stride), np.arange(canvas[0] // stride), indexing="ij")
    cells = np.stack([across.ravel(), down.ravel()], axis=1)
    return cells, np.full((len(cells), 1), stride)


def _end_to_end(outputs: Arrays, form: Form) -> Detections:  # noqa: ARG001  as the others
    rows = finite(outputs[0].reshape(-1, outputs[0].shape[-1])).astype(np.float64)
    if rows.shape[1] < 6:
        raise InvalidOutput(f"the model gave rows of {rows.shape[1]} numbers, where 6 are expected")
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].round().astype(np.int64))


def _separate(outputs: Arrays, form: Form) -> Detections:
    _check_separate(outputs)
    boxes = finite(outputs[0].reshape(-1, 4)).astype(np.float64)
    scores = outputs[1].reshape(len(boxes), -1) if len(boxes) else outputs[1].reshape(0, 1)
    if not form.section.classes:
        return _best_class(boxes, _of_classes(scores, form))
    return Detections(boxes, _of_classes(scores, form)[:, 0], outputs[2].ravel().astype(np.int64))


def _check_separate(outputs: Arrays) -> None:
    boxes, scores, *classes = outputs
    count = boxes.size // 4
    fits = boxes.shape[-1:] == (4,) and (scores.size % count == 0 and scores.size > 0 if count else scores.size == 0)
    if not fits or any(one.size != count or scores.size != count for one in classes):
        shapes = ", ".join(str(list(output.shape)) for output in outputs)
        raise InvalidOutput(f"the model gave {shapes}, where boxes of 4 numbers and as many scores are expected")


def _rows(outputs: Arrays, form: Form) -> NDArray[Any]:
    output = outputs[0]
    if output.ndim < 2:
        raise InvalidOutput(f"the model gave {list(output.shape)}, where boxes are expected")
    height, width = output.shape[-2:]
    rows = output.reshape(height, width) if output.size == height * width else output[0]
    rows = rows if form.section.transposed or form.section.boxes == "yolox" else rows.T
    least = 5 if form.section.boxes == "4+n" else 6
    if rows.ndim != 2 or rows.shape[1] < least:
        raise InvalidOutput(f"the model gave {list(output.shape)}, where boxes of {least} numbers or more are expected")
    return finite(rows)


def _of_classes(scores: NDArray[Any], form: Form) -> NDArray[Any]:
    named = scores[:, : len(form.labels)] if form.labels else scores  # what follows are points or weights of masks
    return activated(finite(named), form.section.activation)


def _best_class(boxes: NDArray[Any], scores: NDArray[Any]) -> Detections:
    classes = scores.argmax(axis=1) if scores.size else np.zeros(0, np.int64)
    return Detections(boxes, scores[np.arange(len(scores)), classes] if scores.size else np.zeros(0), classes)


def _corners(boxes: NDArray[Any]) -> NDArray[Any]:
    half = boxes[:, 2:4] / 2
    corners: NDArray[Any] = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return corners


FORMS: dict[str, Callable[[Arrays, Form], Detections]] = {
    "4+n": _raw,
    "5+n": _with_objectness,
    "yolox": _on_grids,
    "end2end": _end_to_end,
    "separate": _separate,
}
