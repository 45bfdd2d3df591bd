"""Data of a result, drawn: a text, scores and classes as bars, a distribution as columns, boxes over their picture.

It comes from models of anybody, and what does not fit is not drawn: the JSON below has all.
"""

from typing import Any, TypeGuard

import htpy as h

MOST = 24
"""Bars or boxes that are drawn."""
LARGEST = 1e12
"""Of the numbers that are drawn."""
SHOWN_CHARS = 20_000


def scores(data: dict[str, Any]) -> h.Node:
    """Return what of this data is a text, a score, the classes of a picture, or scores by name."""
    text, score, named = data.get("text"), data.get("score"), data.get("scores")
    return [
        h.p(".said")[text[:SHOWN_CHARS], " …" if len(text) > SHOWN_CHARS else None] if isinstance(text, str) else None,
        _score(float(score), _listed(data.get("distribution"))) if _is_number(score) else None,
        _bars(
            {str(one.get("label")): one.get("probability", one.get("score")) for one in _members(data.get("labels"))}
        ),
        _bars(named if isinstance(named, dict) else {str(n): one for n, one in enumerate(_listed(named))}),
    ]


def boxes_over(picture: str, data: dict[str, Any]) -> h.Node:
    """Return the picture with its boxes, each with class and score; None where the data has none.

    A box is `[left, top, right, bottom]` in pixels of a picture that is `width` by `height`.
    """
    boxes, width, height = data.get("boxes"), data.get("width"), data.get("height")
    if not isinstance(boxes, list) or not _is_number(width) or not _is_number(height):
        return None
    drawn = [one for one in _members(boxes) if _is_box(one.get("box"))][:MOST]
    unit = max(float(width), float(height)) / 100
    return h.figure(".boxes")[
        h.img(src=picture, alt="the input, with a box around each thing that was found"),
        h.svg(viewBox=f"0 0 {width} {height}", preserveAspectRatio="none", aria_hidden="true")[
            [_box(one, unit) for one in drawn]
        ],
    ]


def _score(score: float, distribution: list[Any]) -> h.Element:
    columns = [max(0.0, float(one)) for one in distribution if _is_number(one)][:MOST]
    highest = max(columns, default=0.0) or 1.0
    return h.div(".score")[
        h.div[h.span(".tile-value")[f"{score:.2f}"], h.span(".under")[" score"]],
        not columns
        or h.svg(viewBox=f"0 0 {10 * len(columns)} 40", aria_hidden="true")[
            [
                h.rect(
                    x=str(10 * n + 1),
                    width="8",
                    y=f"{40 - 38 * one / highest:.1f}",
                    height=f"{38 * one / highest + 1:.1f}",
                )
                for n, one in enumerate(columns)
            ]
        ],
    ]


def _bars(values: dict[str, Any]) -> h.Node:
    numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
    if not numbers:
        return None
    most = max(1.0, *numbers.values())
    return h.dl(".bars")[
        [
            h.div[
                h.dt[name],
                h.dd[h.meter(min="0", max=str(most), value=str(max(0.0, value)))[str(value)], f" {value:.3f}"],
            ]
            for name, value in list(numbers.items())[:MOST]
        ]
    ]


def _box(one: dict[str, Any], unit: float) -> list[h.Element]:
    left, top, right, bottom = (float(edge) for edge in one["box"])
    label, score = str(one.get("label", "")), one.get("score")
    says = f"{label} {float(score):.2f}" if _is_number(score) else label
    return [
        h.rect(x=str(left), y=str(top), width=str(max(0.0, right - left)), height=str(max(0.0, bottom - top))),
        h.text(x=str(left + unit / 2), y=str(max(top - unit / 2, 3 * unit)), font_size=f"{3 * unit:.1f}")[says],
    ]


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(_is_number(edge) for edge in box)


def _members(value: Any) -> list[dict[str, Any]]:
    return [one for one in _listed(value) if isinstance(one, dict)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
