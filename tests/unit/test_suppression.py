"""Boxes that overlap, compared with the plainest way to write it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.models.declared.definition import OutputSection
from penstock.models.declared.kinds.detections import Form, detections
from penstock.models.declared.kinds.suppression import kept


def shared(a: list[int], b: list[int]) -> float:
    """The intersection of two boxes as a share of their union."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def plainly(boxes: list[list[int]], scores: list[float], groups: list[int], iou: float, most: int) -> list[int]:
    found: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(groups[index] != groups[one] or shared(boxes[one], boxes[index]) <= iou for one in found):
            found.append(index)
    return found[:most]


UNHURRIED = settings(max_examples=50)
"""A machine may be busy."""

BOX = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 12), st.integers(1, 12))


@UNHURRIED
@given(
    st.lists(st.tuples(BOX, st.integers(0, 9), st.integers(0, 2)), max_size=30),
    st.sampled_from([0.0, 0.3, 0.45, 1.0]),
    st.integers(1, 12),
)
def test_those_are_kept_that_share_little_with_a_better_one_of_their_class(
    found: list[tuple[tuple[int, int, int, int], int, int]], iou: float, most: int
) -> None:
    boxes = [[x, y, x + w, y + h] for (x, y, w, h), _, _ in found]
    scores, groups = [score / 10 for _, score, _ in found], [group for _, _, group in found]

    chosen = kept(np.array(boxes).reshape(-1, 4), np.array(scores), np.array(groups, int), iou=iou, most=most)

    assert chosen.tolist() == plainly(boxes, scores, groups, iou, most)


@pytest.mark.parametrize(
    ("boxes", "shape"),
    [("4+n", (1, 6, 0)), ("5+n", (1, 7, 0)), ("end2end", (1, 0, 6)), ("end2end", (0, 6)), ("yolox", (1, 0, 7))],
)
def test_an_image_without_anything_in_it_has_no_boxes(boxes: str, shape: tuple[int, ...]) -> None:
    section = OutputSection(boxes=boxes, strides=(128,))  # type: ignore[arg-type]

    found = detections([np.zeros(shape, np.float32)], Form(section, ("a", "b"), (64, 64)))

    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))
