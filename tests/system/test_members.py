"""Models with members of every kind on real processes: from wherever a file may be, and by several callers at once."""

import base64
import hashlib
import io
import threading
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from penstock.settings import StorageSettings
from tests.support.drive import data_uri, image
from tests.support.member_models import MASKED, SPEECH
from tests.support.processes import System, up, wait_for
from tests.support.s3_server import s3_client

pytestmark = pytest.mark.at_length

RECORDINGS = "recordings"
KEYS = {"alice": "a-key-of-alice-for-tests", "bob": "a-key-of-bob-for-the-tests"}


def wav(seed: int = 0) -> bytes:
    """Returns a recording of its own for each seed, too large for a record."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(1), sound.setframerate(8_000)
        sound.writeframes(hashlib.sha256(bytes([seed])).digest() * 400)
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves a recording at /recording.wav, a page at /page, and nothing else."""

    def do_GET(self) -> None:
        known = {"/recording.wav": (wav(), "audio/x-wav"), "/page": (b"<html>", "text/html")}
        body, content_type = known.get(self.path, (b"", ""))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, s3_server: StorageSettings, source: str) -> Iterator[System]:
    bucket = s3_client(s3_server)
    bucket.create_bucket(Bucket=RECORDINGS)
    bucket.put_object(Bucket=RECORDINGS, Key="hello.wav", Body=wav())
    bucket.close()
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.member_models",
        "PENSTOCK_MODELS_SERVE": f"{SPEECH},{MASKED}",
        "PENSTOCK_API_KEYS": ",".join(f"{name}:{key}:read+submit+operate" for name, key in KEYS.items()),
        "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.1/32",
        "PENSTOCK_LIMITS_PORTS": source.rpartition(":")[2],
        "PENSTOCK_LIMITS_S3_INPUTS": RECORDINGS,
        "PENSTOCK_STORAGE_LOCAL": "false",
        "PENSTOCK_STORAGE_S3_ENDPOINT": s3_server.s3_endpoint,
        "PENSTOCK_STORAGE_S3_BUCKET": s3_server.s3_bucket,
        "PENSTOCK_STORAGE_S3_ACCESS_KEY": s3_server.s3_access_key,
        "PENSTOCK_STORAGE_S3_SECRET_KEY": s3_server.s3_secret_key,
    }
    with up(tmp_path_factory.mktemp("up"), **environ) as system:
        yield system


@pytest.fixture
def client(running: System) -> Iterator[httpx.Client]:
    with caller(running, "alice") as opened:
        yield opened


def caller(running: System, name: str) -> httpx.Client:
    return httpx.Client(base_url=running.url, headers={"x-api-key": KEYS[name]}, timeout=60, trust_env=False)


def uploaded(client: httpx.Client, data: bytes, content_type: str) -> dict[str, str]:
    opened = client.post("/v1/uploads", json={"size": len(data), "content_type": content_type}).json()
    sent = httpx.put(opened["url"], content=data, headers=opened["headers"], trust_env=False)
    assert sent.status_code == 200, sent.text
    return {"upload_id": opened["upload_id"]}


def ended(client: httpx.Client, model: str, members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Submits a task and returns it when it has ended, however."""
    answer = client.post("/v1/tasks", json={"model": model, "input": members} | changes)
    assert answer.status_code == 202, answer.text
    return wait_for(client, answer.json()["task_id"], "SUCCESS", "FAILED")


@pytest.mark.parametrize("way", ["url", "data", "upload", "s3"])
def test_a_recording_and_a_text_reach_their_model_from(client: httpx.Client, source: str, way: str) -> None:
    audio: dict[str, Any] = {
        "url": lambda: f"{source}/recording.wav",
        "data": lambda: data_uri(wav(), "audio/wav;name=said.wav"),
        "upload": lambda: uploaded(client, wav(), "audio/wav"),
        "s3": lambda: f"s3://{RECORDINGS}/hello.wav",
    }[way]()

    task = ended(client, SPEECH, {"audio": audio, "text": "é" * 5_000, "options": {"words": [None, "a"]}})

    assert task["status"] == "SUCCESS", task["error"]
    members = task["result"]["data"]["members"]
    assert members["audio"] == {
        "type": "audio/x-wav" if way == "url" else "audio/wav",
        "name": {"url": "recording.wav", "data": "said.wav", "upload": "", "s3": "hello.wav"}[way],
        "size": len(wav()),
        "sha256": hashlib.sha256(wav()).hexdigest(),
    }
    assert members["text"] == {"value": "é" * 5_000}
    assert members["options"] == {"value": {"words": [None, "a"]}}


def test_an_image_and_its_mask_reach_their_model_as_pixels(client: httpx.Client) -> None:
    photo = uploaded(client, image(40, 30), "image/png")

    task = ended(client, MASKED, {"image": photo, "mask": data_uri(image(20, 10))}, params={"strength": 0.5})

    assert task["status"] == "SUCCESS", task["error"]
    data = task["result"]["data"]
    assert data["strength"] == 0.5
    assert [data["members"][name]["pixels"] for name in ("image", "mask")] == [[30, 40], [10, 20]]


def test_two_callers_at_once_each_get_what_they_have_sent(running: System) -> None:
    def run(number: int) -> None:
        name = ("alice", "bob")[number % 2]
        with caller(running, name) as client:
            text = f"{name} {number}"
            way = uploaded(client, wav(number), "audio/wav") if number % 3 else data_uri(wav(number), "audio/wav")
            task = ended(client, SPEECH, {"audio": way, "text": text})
            members = task["result"]["data"]["members"]
            assert members["text"] == {"value": text}
            assert members["audio"]["sha256"] == hashlib.sha256(wav(number)).hexdigest()

    with ThreadPoolExecutor(6) as threads:
        assert len([*threads.map(run, range(24))]) == 24


@pytest.mark.parametrize(
    ("model", "members", "code", "says"),
    [
        (SPEECH, {"audio": "{source}/none.wav", "text": "a"}, "input_not_found", "audio: the source answered 404"),
        (SPEECH, {"audio": "{source}/page", "text": "a"}, "unsupported_media_type", "audio: the file is of another"),
        (SPEECH, {"audio": "s3://recordings/none", "text": "a"}, "input_not_found", "audio: the bucket answered"),
        (
            MASKED, {"image": "{png}", "mask": "{source}/recording.wav"},
            "unsupported_image_format", "mask: the input is audio/wav; send an image as PNG",
        ),
    ],
)  # fmt: skip
def test_what_only_a_worker_can_find_names_the_member_too(
    client: httpx.Client, source: str, model: str, members: dict[str, str], code: str, says: str
) -> None:
    sent = {name: text.format(source=source, png=data_uri(image())) for name, text in members.items()}

    task = ended(client, model, sent)

    assert (task["status"], task["error"]["code"]) == ("FAILED", code)
    assert task["error"]["message"].startswith(says)


def test_lines_of_a_batch_have_members(client: httpx.Client, source: str) -> None:
    lines = [
        {"custom_id": "data", "input": {"audio": data_uri(wav(7), "audio/wav"), "text": "x" * 9_000}},
        {"custom_id": "url", "input": {"audio": f"{source}/recording.wav", "text": "b"}},
    ]

    batch = client.post("/v1/batches", json={"defaults": {"model": SPEECH}, "lines": lines})

    assert batch.status_code == 202, batch.text
    batch_id, found = batch.json()["batch_id"], {}
    while len(found) < 2:
        listed = client.get("/v1/tasks", params={"batch_id": batch_id, "status": "SUCCESS"}).json()["data"]
        found = {task["task_id"]: task for task in listed}
    texts = {client.get(f"/v1/tasks/{one}").json()["result"]["data"]["members"]["text"]["value"] for one in found}
    assert texts == {"x" * 9_000, "b"}


def test_a_task_is_retried_with_all_that_came_with_it(client: httpx.Client) -> None:
    sent = {"audio": data_uri(wav(9), "audio/wav"), "text": "y" * 9_000}
    client.post(f"/v1/queues/{SPEECH}/pause")
    task_id = client.post("/v1/tasks", json={"model": SPEECH, "input": sent}).json()["task_id"]
    client.post(f"/v1/tasks/{task_id}/cancel")
    client.post(f"/v1/queues/{SPEECH}/resume")

    assert client.post(f"/v1/tasks/{task_id}/retry").status_code in (200, 202)

    task = wait_for(client, task_id)
    assert task["result"]["data"]["members"]["audio"]["size"] == len(base64.b64decode(sent["audio"].partition(",")[2]))
