"""What the console draws of the data of a result, which models of anybody give."""

from typing import Any

import htpy as h
import pytest

from penstock.api.console.parts.scores import boxes_over, scores

ODD: list[Any] = [None, "a", True, [], {}, [None], ["x"], [{}], 10**400, -(10**400), 1e300, float("nan"), [10**400]]


def drawn(data: dict[str, Any]) -> str:
    return str(h.div[scores(data), boxes_over("/picture", data)])


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:12])
@pytest.mark.parametrize("name", ["score", "distribution", "labels", "scores", "text", "boxes", "width", "height"])
def test_data_of_any_kind_leaves_the_page_whole(name: str, odd: Any) -> None:
    box = {"box": [0, 1, 2, 3], "label": "cat", "score": 0.5}
    good = {"score": 5.0, "distribution": [0.1, 0.9], "boxes": [box], "width": 9, "height": 9}
    assert drawn(good | {name: odd}).startswith("<div>")


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:12])
@pytest.mark.parametrize("name", ["label", "score", "box"])
def test_a_box_of_any_kind_leaves_the_page_whole(name: str, odd: Any) -> None:
    box = {"box": [0, 1, 2, 3], "label": "cat", "score": 0.5} | {name: odd}
    assert "<svg" in drawn({"boxes": [box], "width": 9, "height": 9})
    assert drawn({"labels": [box]}).startswith("<div>")


def test_texts_and_names_are_shown_and_are_no_html() -> None:
    label = {"label": "<b>cat</b>", "score": 0.5}
    shown = drawn(
        {"text": "<script>", "labels": [label], "boxes": [label | {"box": [0, 1, 2, 3]}], "width": 9, "height": 9}
    )
    assert '<p class="said">&lt;script&gt;</p>' in shown
    assert shown.count("&lt;b&gt;cat&lt;/b&gt;") == 2


def test_scores_without_names_are_bars_by_their_number() -> None:
    assert "<dt>1</dt>" in drawn({"scores": [0.25, 0.75]})
