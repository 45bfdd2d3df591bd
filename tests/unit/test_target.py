"""The size of a result that a client asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.sizes import SizeRule, Sizes, TileSides
from penstock.core.target import Fit, Layout, Target, asked_in
from penstock.errors import InvalidRequest

SIDE = st.integers(1, 5000)
SIZES = Sizes(rule=SizeRule(scale=4.0, tiles=TileSides(longest=384, overlap_px=32)), asked=True)


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (900, 600)),
        ({"scale": 4.0}, (900, 600)),
        ({"scale": 1.0}, (225, 150)),
        ({"scale": 2.5}, (562, 375)),
        ({"scale": 8.0}, (1800, 1200)),
        ({"width": 300}, (300, 200)),
        ({"height": 300}, (450, 300)),
        ({"width": 300, "height": 300}, (300, 200)),
        ({"width": 300, "height": 300, "fit": "inside"}, (300, 200)),
        ({"width": 300, "height": 300, "fit": "outside"}, (450, 300)),
        ({"width": 300, "height": 300, "fit": "contain"}, (300, 300)),
        ({"width": 300, "height": 300, "fit": "cover"}, (300, 300)),
        ({"width": 300, "height": 300, "fit": "fill"}, (300, 300)),
        ({"scale": 4.0, "width": 300}, (300, 200)),
    ],
)
def test_a_result_has_the_size_that_is_asked_for(asked: dict[str, object], size: tuple[int, int]) -> None:
    assert SIZES.rule_of(asked).result_of(225, 150) == size


def test_a_model_that_does_not_resample_asks_no_parameters() -> None:
    assert Sizes(rule=SizeRule(scale=2.0)).rule_of({"scale": 3.0, "width": 7}).result_of(10, 10) == (20, 20)


def test_a_scale_and_a_side_together_are_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked_in({"scale": 2.0, "height": 9}, 4.0)
    assert refused.value.param == "params.scale"


@given(width=SIDE, height=SIDE, box_width=SIDE, box_height=SIDE)
def test_each_fit_keeps_its_promise(width: int, height: int, box_width: int, box_height: int) -> None:
    def made(fit: Fit) -> Layout:
        return Target(width=box_width, height=box_height, fit=fit).layout(width, height)

    inside, outside = made("inside").canvas, made("outside").canvas
    assert 1 <= inside[0] <= box_width
    assert 1 <= inside[1] <= box_height
    assert outside[0] >= box_width
    assert outside[1] >= box_height
    assert box_width in (inside[0], outside[0])
    assert made("fill") == Layout((box_width, box_height), (box_width, box_height))
    contain, cover = made("contain"), made("cover")
    assert contain == Layout(inside, (box_width, box_height))
    assert cover == Layout(outside, (box_width, box_height))
    assert not cover.has_border
    assert contain.has_border == (inside != (box_width, box_height))
    for layout in (contain, cover, made("inside"), made("outside")):
        left, top, right, low = layout.source(width, height)
        assert 0 <= left < right <= width + 1e-6
        assert 0 <= top < low <= height + 1e-6
        assert abs((left + right) / 2 - width / 2) <= width / layout.image[0]


@given(length=st.integers(1, 5000), longest=st.integers(96, 4096))
def test_no_tile_is_longer_than_was_asked_for(length: int, longest: int) -> None:
    rule = SIZES.rule_of({"tile": longest})

    assert rule.tiles is not None
    assert rule.tiles.side_for(length) <= max(longest, 8)
    assert rule.kilopixels_of(length, 900) >= SIZES.rule_of({}).kilopixels_of(length, 900)
    assert SIZES.rule_of({"tile": 384}) == SIZES.rule_of({"tile": 4096})


def test_a_network_that_looks_far_gets_tiles_that_it_can_do_with() -> None:
    far = TileSides(longest=384, overlap_px=60, multiple=8)

    assert far.up_to(96).longest == 128
    assert far.up_to(96).side_for(3000) == 128
