"""Drops boxes that overlap a better one (non-maximum suppression)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

CANDIDATES = 30_000
"""The most boxes that are looked at, those with the best scores; Ultralytics takes as many."""


def kept(boxes: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any], *, iou: float, most: int) -> NDArray[Any]:
    """The indices of at most `most` boxes, best first: all whose intersection with each better one of their group is at
    most `iou` of the union. Boxes are left, top, right, bottom, (n, 4); of equal scores the first comes first."""
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    corners = boxes.astype(np.float64)[order]
    groups = groups[order]
    areas = (corners[:, 2:] - corners[:, :2]).clip(0).prod(axis=1)
    waiting = np.arange(len(order))
    chosen: list[int] = []
    while len(waiting) and len(chosen) < most:
        best, others = waiting[0], waiting[1:]
        chosen.append(int(best))
        low = np.maximum(corners[best, :2], corners[others, :2])
        high = np.minimum(corners[best, 2:], corners[others, 2:])
        shared = (high - low).clip(0).prod(axis=1)
        union = areas[best] + areas[others] - shared
        waiting = others[(groups[others] != groups[best]) | (shared <= iou * union)]
    found: NDArray[Any] = order[chosen]
    return found
