"""Models without code over HTTP: an image, arrays as JSON and arrays as a file go in; data and files come out."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.declared import folder_of, model, node, png
from tests.support.drive import data_uri
from tests.support.processes import up, wait_for

pytestmark = pytest.mark.at_length

MEANS = model(
    [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "y")],
    [("x", "float32", ["n", 3, 4, 4])],
    [("y", "float32", ["n", 3])],
)
SAME = model(
    [node("ReduceMax", "x", "y", axes=[1])],
    [("x", "float32", ["n", 3, "h", "w"])],
    [("y", "float32", ["n", 1, "h", "w"])],
)
PLUS = model(
    [node("Add", "a b", "sum")],
    [("a", "float32", ["n"]), ("b", "float32", ["n"])],
    [("sum", "float32", ["n"])],
)

RED = png(np.full((6, 9, 3), (200, 10, 20), np.uint8))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with a model of three kinds."""
    place = tmp_path_factory.mktemp("server")
    models = place / "models"
    labels = 'kind = "image-to-labels"\n[output]\nactivation = "softmax"\nlabels = ["red", "green", "blue"]\n'
    folder_of(models / "colours", labels + '[guessed]\n"input.range" = "files do not say"\n', MEANS)
    folder_of(models / "bright", 'kind = "image-to-mask"\n[input]\nresize = "none"\n', SAME)
    arrays = 'kind = "tensors"\n[[tensors]]\nname = "a"\nshape = ["n"]\n[[tensors]]\nname = "b"\nshape = ["n"]\n'
    folder_of(models / "plus", arrays, PLUS)
    with up(place, GPU_IDS="cpu") as system, system.client() as client:
        yield client


def answer(client: httpx.Client, name: str, members: dict[str, Any], **params: Any) -> dict[str, Any]:
    submitted = client.post("/v1/tasks", json={"model": name, "input": members, "params": params})
    assert submitted.status_code == 202, submitted.text
    view: dict[str, Any] = wait_for(client, submitted.json()["task_id"])
    assert view["status"] == "SUCCESS", view
    return view


def test_labels_come_as_data_and_say_what_was_guessed(client: httpx.Client) -> None:
    data = answer(client, "colours", {"image_url": data_uri(RED)}, top_k=1)["result"]["data"]

    assert [label["label"] for label in data["labels"]] == ["red"]
    assert data["guessed"] == ["input.range"]


def test_a_mask_comes_as_a_file_in_the_size_of_the_image(client: httpx.Client) -> None:
    view = answer(client, "bright@1", {"image_url": data_uri(RED)})
    mask = Image.open(io.BytesIO(client.get(view["result"]["url"]).content))

    assert (mask.mode, mask.size, mask.getpixel((0, 0))) == ("L", (9, 6), 200)
    assert view["result"]["data"] == {"share": 1.0}


def test_arrays_go_in_as_json_and_as_a_file(client: httpx.Client) -> None:
    packed = io.BytesIO()
    np.savez(packed, a=np.float32([1, 2]), b=np.float32([3, 4]))
    opened = client.post("/v1/uploads", json={"size": packed.tell(), "content_type": "application/x-npz"}).json()
    client.put(opened["url"], content=packed.getvalue(), headers=opened["headers"]).raise_for_status()

    as_json = answer(client, "plus", {"a": [1, 2], "b": [3, 4]})["result"]["data"]
    as_file = answer(client, "plus", {"file": {"upload_id": opened["upload_id"]}}, format="npz")["result"]

    assert as_json["outputs"]["sum"] == {"shape": [2], "dtype": "float32", "values": [4.0, 6.0]}
    assert as_file["content_type"] == "application/x-npz"
    assert np.load(io.BytesIO(client.get(as_file["url"]).content), allow_pickle=False)["sum"].tolist() == [4.0, 6.0]


def test_arrays_that_do_not_fit_are_refused_by_their_name(client: httpx.Client) -> None:
    wrong = client.post("/v1/tasks", json={"model": "plus", "input": {"a": [1, "2"], "b": [3, 4]}})
    unlike = client.post("/v1/tasks", json={"model": "plus", "input": {"a": [1, 2, 3], "b": [3, 4]}})

    assert (wrong.status_code, wrong.json()["param"]) == (422, "input.a[1]")
    error = wait_for(client, unlike.json()["task_id"], "FAILED")["error"]
    assert (error["code"], error["message"]) == ("invalid_request", "input.b has the shape [2], not [3]")
