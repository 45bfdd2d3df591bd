"""Replicate's own client, given another base URL and nothing else."""

import base64
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import replicate
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.webhook import Webhooks, WebhookSigningSecret

from tests.support.drive import data_uri, image, photo
from tests.support.processes import System, up

REF = "penstock/superres-x4"
SMALL = data_uri(image())
DAMAGED = "data:image/png;base64," + base64.b64encode(photo()[:2000]).decode()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def system(data_dir: Path) -> Iterator[System]:
    environ = {"PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8", "PENSTOCK_WEBHOOKS_ALLOW_HTTP": "true"}
    with up(data_dir, MAX_RETRIES="0", **environ) as running:
        yield running


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    opened = replicate.Client(api_token=system.api_key, base_url=f"{system.url}/replicate")
    yield opened
    opened._client.close()  # it has no way of its own
    await opened._async_client.aclose()


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, and keeps headers and body of each."""

    def __init__(self, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.secret = WebhookSigningSecret(key=secret)
        self.got: Queue[tuple[dict[str, str], str]] = Queue()
        self.url = f"http://127.0.0.1:{self.server_port}/told"

    def take(self) -> dict[str, Any]:
        """What the next one says, verified by the client's own function."""
        headers, body = self.got.get(timeout=20)
        Webhooks.validate(headers=headers, body=body, secret=self.secret, tolerance=60)
        return dict(json.loads(body))


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        self.server.got.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def receiver(client: Client) -> Iterator[Receiver]:
    with Receiver(client.webhooks.default.secret().key) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def size_of(data: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as found:
        return found.format, found.size


def test_run_waits_and_gives_the_file(client: Client) -> None:
    output = client.run(REF, input={"image": SMALL, "variant": "clean", "output_format": "jpg", "output_quality": 80})

    assert output.url.startswith("data:image/jpeg;base64,")
    assert size_of(output.read()) == ("JPEG", (32, 24))


def test_an_open_file_can_be_the_input(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(base64.b64decode(SMALL.partition(",")[2]))

    with path.open("rb") as file:
        output = client.run(REF, input={"image": file, "output_format": "webp"})

    assert size_of(output.read()) == ("WEBP", (32, 24))


def form(*parts: tuple[str, str]) -> bytes:
    fields = (f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts)
    return "".join([*fields, "--x--"]).encode()


@pytest.mark.parametrize(
    ("media_type", "sent", "status"),
    [
        ("multipart/form-data; boundary=x", form(("a", "1")), 422),
        ("multipart/form-data; boundary=x", form(("content", "")), 422),
        ("multipart/form-data; boundary=x", form(("content", "1"), ("metadata", "[1]")), 422),
        ("multipart/form-data; boundary=x", form(("content", "1"), ("metadata", f'{{"a": "{"x" * 20_000}"}}')), 422),
        ("multipart/form-data; boundary=x", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", form(*(("content", "1"),) * 1001), 400),
        ("multipart/form-data; boundary=x", form(("content" * 150_000, "1")), 400),
        ("multipart/form-data; boundary=x", form(("content", "1")).removesuffix(b"--x--"), 400),
        (
            "multipart/form-data; boundary=x",
            form(("content", "--y\r\n")).replace(b"data;", b'data; a="' + b"\\" * 9_000),
            400,
        ),
        ("multipart/mixed; boundary=x", form(("content", "1")), 415),
        ("multipart/form-data", b"--x--", 400),
        ("application/json", b"{}", 415),
    ],
)
def test_up9_a_form_without_a_file_or_without_bounds_is_refused(
    system: System, media_type: str, sent: bytes, status: int
) -> None:
    with system.client() as ours:
        answer = ours.post("/replicate/v1/files", content=sent, headers={"Content-Type": media_type})

    assert answer.status_code == status


def test_run_gives_the_data_of_a_model_that_has_no_file(client: Client) -> None:
    assert 1 <= client.run("penstock/image-scoring-v1", input={"image": SMALL})["score"] <= 10


async def test_predictions_can_be_awaited(client: Client) -> None:
    prediction = await client.predictions.async_create(version="superres-x4", input={"image": SMALL})
    started_as = prediction.status
    await prediction.async_wait()

    assert (started_as in ("starting", "succeeded"), prediction.status, prediction.error) == (True, "succeeded", None)
    assert prediction.metrics is not None
    assert prediction.metrics["predict_time"] >= 0
    assert None not in (prediction.created_at, prediction.started_at, prediction.completed_at)


def test_a_failed_prediction_says_why(client: Client) -> None:
    with pytest.raises(ModelError, match="image"):
        client.run(REF, input={"image": DAMAGED})


def test_a_prediction_can_be_canceled_and_a_repeat_is_fine(client: Client) -> None:
    large = data_uri(image(1200, 900))

    prediction = client.predictions.create(version=REF, input={"image": large})
    prediction.cancel()
    prediction.cancel()

    assert client.predictions.get(prediction.id).status == "canceled"


@pytest.mark.at_length
def test_how_far_a_prediction_has_come_is_read_from_its_logs(client: Client) -> None:
    prediction = client.predictions.create(version=REF, input={"image": data_uri(image(1100, 900))})

    while prediction.progress is None:
        prediction.reload()
    prediction.cancel()

    assert 0 <= prediction.progress.current <= prediction.progress.total
    assert prediction.progress.total > 1


def test_a_deadline_ends_a_prediction(client: Client, system: System) -> None:
    large = {"image": data_uri(image(1600, 1200))}

    asked = {"version": REF, "input": large}
    with system.client() as ours:
        path = "/replicate/v1/predictions"
        made = ours.post(path, json=asked, headers={"Cancel-After": "5s"}).raise_for_status().json()
    prediction = client.predictions.get(made["id"])
    prediction.wait()

    assert (prediction.status, prediction.output) == ("canceled", None)
    assert prediction.error


def test_a_webhook_is_told_of_the_end_in_replicates_words(client: Client, receiver: Receiver) -> None:
    made = client.predictions.create(
        version=REF, input={"image": SMALL}, webhook=receiver.url, webhook_events_filter=["completed"]
    )

    told = receiver.take()

    assert (told["id"], told["status"]) == (made.id, "succeeded")
    read = client._request("GET", f"/v1/predictions/{made.id}").json()
    assert told == read | {"output": told["output"]}
    assert httpx.get(told["output"]).content == base64.b64decode(read["output"].partition(",")[2])
    assert receiver.got.empty()


def test_a_webhook_without_a_filter_is_told_of_the_start_too(client: Client, receiver: Receiver) -> None:
    large = data_uri(image(1200, 900))
    prediction = client.predictions.create(version=REF, input={"image": large}, webhook=receiver.url)

    started = receiver.take()
    prediction.cancel()
    statuses = [started["status"]]
    while statuses[-1] != "canceled":
        statuses.append(receiver.take()["status"])

    assert set(statuses) == {"processing", "canceled"}


@pytest.mark.parametrize("events", [["logs"], []])
def test_a_webhook_for_nothing_that_happens_here_is_never_told(
    client: Client, receiver: Receiver, system: System, events: list[Any]
) -> None:
    made = client.predictions.create(
        version=REF, input={"image": SMALL}, webhook=receiver.url, webhook_events_filter=events
    )

    with system.client() as ours:
        assert ours.get(f"/v1/tasks/{made.id}").json()["webhook"] is None


def test_a_model_that_cannot_stream_is_said_to_be_one(client: Client) -> None:
    with pytest.raises(ReplicateError, match="does not support streaming"):
        next(iter(client.stream(REF, input={"image": SMALL})))


def test_predictions_are_listed_newest_first(client: Client) -> None:
    made = [client.predictions.create(version=f"{REF}:1", input={"image": data_uri(image(9, n))}).id for n in (3, 4, 5)]

    page = client.predictions.list()

    assert [prediction.id for prediction in page.results[:3]] == made[::-1]
    assert page.next is None


@pytest.mark.parametrize(
    ("version", "given", "status"),
    [
        ("penstock/nothing", {"image": SMALL}, 404),
        (REF, {}, 422),
        (REF, {"image": SMALL, "image_url": SMALL}, 422),
        (REF, {"image": SMALL, "unknown": 1}, 422),
        (REF, {"image": SMALL, "output_format": 7}, 422),
        (REF, {"image": "data:image/png;base64,AAAA"}, 415),
    ],
)
def test_what_is_wrong_with_a_prediction_is_said_at_once(
    client: Client, version: str, given: dict[str, object], status: int
) -> None:
    with pytest.raises(ReplicateError) as refused:
        client.predictions.create(version=version, input=given)

    assert refused.value.status == status
    assert refused.value.detail


def test_a_list_longer_than_a_page_is_continued(client: Client, system: System) -> None:
    body = {"model": "image-scoring-v1", "input": {"image_url": SMALL}}
    with system.client() as ours:
        for _ in range(101):
            ours.post("/v1/tasks", json=body).raise_for_status()

    first = client.predictions.list()
    second = client.predictions.list(first.next)

    assert len(first.results) == 100
    assert second.results
    assert not {p.id for p in first.results} & {p.id for p in second.results}
