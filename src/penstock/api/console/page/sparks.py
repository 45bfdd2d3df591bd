"""Curves: small ones without axes, and the data of large ones, which the script `charts.js` draws."""

from collections.abc import Sequence

import htpy as h
import msgspec

WIDTH, HEIGHT = 100.0, 30.0


def spark(values: Sequence[float], label: str, *, tone: str = "") -> h.Node:
    """Return a curve of these values from the left to the right, from nothing at its bottom to the highest at its top;
    None for less than two."""
    if len(values) < 2:
        return None
    top = max(values) or 1.0
    step = WIDTH / (len(values) - 1)
    points = " L".join(
        f"{n * step:.1f} {HEIGHT - 1 - value / top * (HEIGHT - 2):.1f}" for n, value in enumerate(values)
    )
    return h.svg(
        class_=f"spark {tone}".strip(),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{label}: the last hour, at most {top:,.1f}",
    )[h.path(".area", d=f"M{points} L{WIDTH:.0f} {HEIGHT:.0f} L0 {HEIGHT:.0f} Z"), h.path(d=f"M{points}")]


def chart(label: str, seconds: Sequence[int], **series: Sequence[float]) -> h.Element:
    """Return a chart over time (seconds since 1970) of these series, by the names that its legend shows."""
    data = {"x": list(seconds), "series": [{"name": name, "y": list(y)} for name, y in series.items()]}
    drawn = msgspec.json.encode(data).decode()
    return h.figure[
        h.figcaption[h.h3[label]],
        h.div({"data-chart": drawn}, class_="chart", role="img", aria_label=f"{label}, over time"),
    ]
