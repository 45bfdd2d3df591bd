"""Where `penstock batch results` writes what the lines of a batch have given."""

from pathlib import Path

import pytest

from penstock.cli.batch.tables import place_of
from penstock.client import Line
from penstock.client.views import LineResult

OUT = Path("out")


def line(custom_id: str, content_type: str) -> Line:
    result = LineResult(url="/v1/tasks/tsk_1/result", content_type=content_type)
    return Line(line=1, custom_id=custom_id, status="SUCCESS", task_id="tsk_1", result=result)


@pytest.mark.parametrize(
    ("custom_id", "content_type", "place"),
    [
        ("trip/b.png", "image/png", "out/trip/b.png"),
        ("trip/b.jpg", "image/png", "out/trip/b.jpg.png"),
        ("photo 1", "application/json", "out/photo 1.json"),
        ("v1.2", "image/webp; q=1", "out/v1.2.webp"),
        ("-rf", "image/png", "out/-rf.png"),
    ],
)
def test_a_result_is_called_by_its_custom_id_and_type(custom_id: str, content_type: str, place: str) -> None:
    assert place_of(OUT, line(custom_id, content_type)) == Path(place)


@pytest.mark.parametrize("custom_id", ["../x", "a/../../x", "/etc/passwd", "a\0b", "..", "."])
def test_no_custom_id_leads_out_of_the_directory(custom_id: str) -> None:
    with pytest.raises(OSError, match="fetch it with its task tsk_1"):
        place_of(OUT, line(custom_id, "image/png"))
