"""Where an image lies in the input tensor, and the way back from there."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import ImageTooLarge
from penstock.models.declared.definition import InputSection
from penstock.models.declared.placement import RULES, ImagePlacement, place

UNHURRIED = settings(max_examples=50)
"""A machine may be busy."""

SIDES = st.integers(1, 5000)
LARGE = 1e9

SECTIONS: dict[str, dict[str, Any]] = {
    "stretch": {"size": (320, 200)},
    "crop": {"size": (200, 300)},
    "stretch-crop": {"size": (224, 224), "short_side": 256},
    "letterbox": {"size": (640, 480)},
    "square": {"size": (320, 320)},
    "height": {"size": (320, 48)},
    "pad": {"multiple_of": 32, "max_side": 1024},
    "multiple": {"multiple_of": 32, "min_side": 64},
    "none": {},
}


def section(resize: str, **more: Any) -> InputSection:
    return InputSection(resize=resize, **(SECTIONS[resize] | more))  # type: ignore[arg-type]


def forward(placed: ImagePlacement, x: float, y: float) -> tuple[float, float]:
    """Where a point of the source is in the canvas, for a detector."""
    across, down = placed.scale if placed.ratio is None else (placed.ratio, placed.ratio)
    return x * across + placed.left, y * down + placed.top


def test_every_way_to_resize_is_tested() -> None:
    assert set(SECTIONS) == set(RULES)


@UNHURRIED
@given(
    st.sampled_from(sorted(RULES)), SIDES, SIDES, st.data(), st.sampled_from([0, 7]), st.sampled_from(["centre", "end"])
)
def test_a_box_comes_back_where_it_was(
    resize: str, width: int, height: int, data: st.DataObject, border: int, pad_at: str
) -> None:
    placed = place(section(resize, border_px=border, pad_at=pad_at), width, height, max_pixels=LARGE)
    left, right = sorted(data.draw(st.floats(0, width)) for _ in range(2))
    top, low = sorted(data.draw(st.floats(0, height)) for _ in range(2))

    there = np.array([[*forward(placed, left, top), *forward(placed, right, low)]])

    assert placed.undone(there)[0] == pytest.approx([left, top, right, low], abs=1e-6 * max(width, height))


@UNHURRIED
@given(st.sampled_from(sorted(RULES)), SIDES, SIDES)
def test_what_is_seen_of_an_image_lies_inside_of_the_canvas_and_of_the_image(
    resize: str, width: int, height: int
) -> None:
    placed = place(section(resize), width, height, max_pixels=LARGE)

    left, top, right, low = placed.content
    assert 0 <= left < right <= placed.canvas[0]
    assert 0 <= top < low <= placed.canvas[1]
    left, top, right, low = placed.visible
    assert 0 <= left < right <= width
    assert 0 <= top < low <= height


@UNHURRIED
@given(SIDES, SIDES, st.sampled_from(["centre", "end"]))
def test_a_letterbox_keeps_the_shape_and_touches_two_edges(width: int, height: int, pad_at: str) -> None:
    placed = place(section("letterbox", pad_at=pad_at), width, height, max_pixels=LARGE)

    ratio = min(640 / width, 480 / height)
    assert placed.resized == (max(1, round(width * ratio)), max(1, round(height * ratio)))
    assert placed.resized[0] == 640 or placed.resized[1] == 480
    spare = (640 - placed.resized[0], 480 - placed.resized[1])
    assert (placed.left, placed.top) == ((0, 0) if pad_at == "end" else (spare[0] // 2, spare[1] // 2))


@UNHURRIED
@given(SIDES, SIDES)
def test_all_of_a_letterboxed_image_is_seen_however_its_sides_were_rounded(width: int, height: int) -> None:
    assert place(section("letterbox"), width, height, max_pixels=LARGE).visible == (0, 0, width, height)


def test_a_box_outside_of_the_image_is_cut_at_its_edge() -> None:
    placed = place(section("letterbox"), 1280, 480, max_pixels=LARGE)

    assert placed.undone(np.array([[-5.0, 0.0, 700.0, 500.0]])).tolist() == [[0.0, 0.0, 1280.0, 480.0]]


@pytest.mark.parametrize(
    ("resize", "more", "size", "resized", "canvas"),
    [
        ("crop", {"size": (224, 224)}, (500, 375), (299, 224), (224, 224)),
        ("crop", {"size": (224, 224), "short_side": 256}, (500, 375), (341, 256), (224, 224)),
        ("stretch-crop", {}, (500, 375), (256, 256), (224, 224)),
        ("height", {}, (100, 50), (96, 48), (320, 48)),
        ("height", {}, (1000, 50), (960, 48), (960, 48)),
        ("pad", {}, (100, 50), (100, 50), (128, 64)),
        ("pad", {}, (2048, 50), (1024, 25), (1024, 32)),
        ("multiple", {"min_side": 736}, (225, 150), (1088, 736), (1088, 736)),
        ("letterbox", {"size": (1024, 1024), "rounding": "floor"}, (225, 149), (1024, 678), (1024, 1024)),
    ],
)
def test_sides_are_those_of_the_libraries_that_models_are_trained_with(
    resize: str,
    more: dict[str, Any],
    size: tuple[int, int],
    resized: tuple[int, int],
    canvas: tuple[int, int],
) -> None:
    placed = place(section(resize, **more), *size, max_pixels=LARGE)

    assert (placed.resized, placed.canvas) == (resized, canvas)


@pytest.mark.parametrize(
    ("resize", "size", "becomes"),
    [
        ("height", (10_000, 1), "480000x48"),
        ("crop", (1, 3_000_000), "200x600000000"),
        ("square", (1, 3_000_000), "3000000x3000000"),
    ],
)
def test_an_image_that_would_become_huge_is_refused(resize: str, size: tuple[int, int], becomes: str) -> None:
    with pytest.raises(ImageTooLarge, match=f"become {becomes}"):
        place(section(resize), *size, max_pixels=5e6)
