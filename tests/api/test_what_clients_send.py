"""Bodies as clients of all kinds write them, at a server in a process of its own."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.settings import ApiSettings, LimitSettings, RedisSettings, Settings, StorageSettings
from tests.support import redis_server
from tests.support.api_server import ServerProcess
from tests.support.drive import MODEL, body, data_uri, image, photo

MAX_BODY = 200_000
BOMB = 150_000_000
NAMESPACE = "test-what-clients-send"
JSON = {"Content-Type": "application/json"}
MARK = b"\xef\xbb\xbf"
FORMS = {
    "image/jpg": data_uri(image(), "image/jpg"),
    "a charset": data_uri(image(), "image/png;charset=utf-8"),
    "line breaks": data_uri(image()).replace("A", "A\r\n"),
    "no padding": data_uri(image()).rstrip("="),
}
COMPRESSED = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    "deflate": zlib.compress,
    "identity": bytes,
}


def lines(*rows: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


@pytest.fixture(scope="module")
def server(redis_url: str, api_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = Settings(
        api=ApiSettings(keys=(f"default:{api_key}",), rate_limit_per_minute=0, metrics="on"),
        redis=RedisSettings(url=redis_url, namespace=NAMESPACE),
        storage=StorageSettings(directory=str(tmp_path_factory.mktemp("objects"))),
        limits=LimitSettings(max_body_bytes=MAX_BODY),
    )
    with ServerProcess(settings) as started:
        yield started
    redis_server.remove_namespace(redis_url, NAMESPACE)


@pytest.fixture
def client(server: ServerProcess, api_key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"X-API-Key": api_key}, timeout=30, trust_env=False) as opened:
        yield opened


# --- data: URIs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_task_takes_a_data_uri_with(client: httpx.Client, form: str) -> None:
    answer = client.post("/v1/tasks", json=body(image_url=FORMS[form]))

    assert answer.status_code == 202, answer.text


def test_lines_and_predictions_take_the_same_data_uris(client: httpx.Client) -> None:
    rows = [{"custom_id": form, "model": MODEL, "input": {"image_url": uri}} for form, uri in FORMS.items()]
    batch = client.post("/v1/batches", json={"lines": rows})
    predictions = [
        client.post("/replicate/v1/predictions", json={"version": MODEL, "input": {"image": uri}})
        for uri in FORMS.values()
    ]

    assert batch.status_code == 202, batch.text
    assert [prediction.status_code for prediction in predictions] == [201] * len(FORMS)


@pytest.mark.parametrize("place", ["a task", "the defaults of a batch"])
def test_bare_base64_is_refused_as_what_it_is(client: httpx.Client, place: str) -> None:
    bare = body(image_url=data_uri(photo()).partition(",")[2])
    if place == "a task":
        answer, param = client.post("/v1/tasks", json=bare), "input.image_url"
    else:
        asked = {"defaults": bare, "lines": [{"custom_id": "1"}]}
        answer, param = client.post("/v1/batches", json=asked), "defaults.input.image_url"

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (422, "invalid_request", param)
    assert "this is base64" in problem["detail"]


@pytest.mark.parametrize("kind", ["image/jpg", "image/png; charset=utf-8", 'image/png;name="a photo.png"', ""])
def test_an_upload_takes_any_media_type_or_none(client: httpx.Client, kind: str) -> None:
    opened = client.post("/v1/uploads", json={"size": len(image()), "content_type": kind}).json()
    sent = httpx.put(opened["url"], content=image(), headers=opened["headers"], trust_env=False)

    assert sent.status_code == 200, sent.text
    assert sent.json()["content_type"] == (kind or "application/octet-stream")


# --- null -----------------------------------------------------------------------------------------------------

OPTIONAL = (
    "params", "output", "priority", "client_request_id", "metadata", "start_within_s", "finish_within_s", "timeout_s",
    "result_ttl_s", "retry", "webhook", "reuse",
)  # fmt: skip


@pytest.mark.parametrize("member", OPTIONAL)
def test_null_is_not_given_in(client: httpx.Client, member: str) -> None:
    answer = client.post("/v1/tasks", json=body(**{member: None}))

    assert answer.status_code == 202, answer.text


def test_null_is_not_given_inside_of_members(client: httpx.Client) -> None:
    asked = body(
        params={"variant": None}, output={"format": None, "quality": None}, metadata={"album": "7", "page": None}
    )
    asked["input"]["upload_id"] = None
    answer = client.post("/v1/tasks", json=asked)

    assert answer.status_code == 202, answer.text
    assert client.get(answer.headers["Location"]).json()["metadata"] == {"album": "7"}


def test_null_in_a_batch_leaves_the_line_to_its_defaults_and_the_defaults_to_ours(client: httpx.Client) -> None:
    asked = {
        "defaults": {"model": MODEL, "priority": "high", "output": None, "metadata": None},
        "lines": [{"custom_id": "1", "input": body()["input"], "model": None, "priority": None, "params": None}],
        "client_request_id": None,
        "metadata": None,
        "webhook": None,
        "result_ttl_s": None,
    }
    by_json = client.post("/v1/batches", json=asked)
    options = json.dumps({name: value for name, value in asked.items() if name != "lines"})
    by_lines = client.post(
        "/v1/batches", params={"options": options}, content=lines(*asked["lines"]),
        headers={"Content-Type": "application/jsonl"},
    )  # fmt: skip

    for answer in (by_json, by_lines):
        assert answer.status_code == 202, answer.text
        batch_id = answer.json()["batch_id"]
        while not (tasks := client.get("/v1/tasks", params={"batch_id": batch_id}).json()["data"]):
            pass
        assert [task["priority"] for task in tasks] == ["high"]


def test_null_is_not_given_in_uploads_and_predictions(client: httpx.Client) -> None:
    upload = client.post("/v1/uploads", json={"size": 5, "content_type": None, "sha256": None})
    asked = {"version": MODEL, "input": {"image": data_uri(image()), "output_format": None}, "webhook": None}
    prediction = client.post("/replicate/v1/predictions", json=asked)

    assert upload.status_code == 201, upload.text
    assert prediction.status_code == 201, prediction.text


@pytest.mark.parametrize("member", ["model", "input"])
def test_null_is_missing_in_a_member_that_is_needed(client: httpx.Client, member: str) -> None:
    answer = client.post("/v1/tasks", json=body() | {member: None})

    assert (answer.status_code, answer.json()["param"]) == (422, member)


# --- compressed bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_body_is_taken_as(client: httpx.Client, encoding: str) -> None:
    asked = json.dumps(body(metadata={"encoding": encoding})).encode()
    headers = JSON | {"Content-Encoding": encoding}
    answer = client.post("/v1/tasks", content=COMPRESSED[encoding](asked), headers=headers)

    assert answer.status_code == 202, answer.text
    assert client.get(answer.headers["Location"]).json()["metadata"] == {"encoding": encoding}


def test_lines_files_and_uploads_may_be_compressed_too(client: httpx.Client) -> None:
    row = {"custom_id": "1", **body()}
    encoded = {"Content-Encoding": "gzip"}
    batch = client.post(
        "/v1/batches", content=gzip.compress(lines(row)), headers=encoded | {"Content-Type": "application/jsonl"}
    )
    upload = client.post("/v1/uploads", json={"size": len(image())}).json()
    sent = httpx.put(
        upload["url"], content=gzip.compress(image()), headers=encoded | {"Content-Type": "image/png"}, trust_env=False
    )
    task = client.post("/v1/tasks", json=body() | {"input": {"upload_id": upload["upload_id"]}})

    assert batch.status_code == 202, batch.text
    assert sent.status_code == 200, sent.text
    assert task.status_code == 202, task.text


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/uploads", "/replicate/v1/predictions"])
def test_what_inflates_beyond_the_limit_on_bodies_is_too_large(client: httpx.Client, path: str) -> None:
    data = gzip.compress(b'{"model":"' + b"x" * MAX_BODY)

    answer = client.post(path, content=data, headers=JSON | {"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_no_more_is_inflated_than_the_limit_allows(client: httpx.Client, server: ServerProcess) -> None:
    bomb = gzip.compress(bytes(BOMB))
    assert len(bomb) < MAX_BODY
    process = Path(f"/proc/{server.process.pid}")
    (process / "clear_refs").write_text("5")  # the high-water mark of its memory begins anew
    before = high_water(process)

    answer = client.post("/v1/tasks", content=bomb, headers=JSON | {"Content-Encoding": "gzip"})

    assert answer.status_code == 413
    assert high_water(process) - before < BOMB // 8


def high_water(process: Path) -> int:
    """Most bytes that it has had in memory."""
    (line,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


BEYOND = {
    "bytes": (b"x" * (200 * 1024 * 1024 + 1), 413, "payload_too_large"),
    "lines, empty as they are": (b"\n" * 100_000 + lines({"custom_id": "1", **body()}), 422, "invalid_request"),
}


@pytest.mark.parametrize("case", BEYOND)
def test_a_batch_of_compressed_lines_is_held_to_its_limit_of(client: httpx.Client, case: str) -> None:
    data, status, code = BEYOND[case]
    headers = {"Content-Type": "application/jsonl", "Content-Encoding": "gzip"}
    answer = client.post("/v1/batches", content=gzip.compress(data, 1), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_body_of_too_many_compressed_streams_is_refused(client: httpx.Client) -> None:
    headers = JSON | {"Content-Encoding": "gzip"}

    few = client.post("/v1/tasks", content=gzip.compress(b"") * 900 + gzip.compress(b"{}"), headers=headers)
    many = client.post("/v1/tasks", content=gzip.compress(b"") * 2_000, headers=headers)

    assert (few.json()["code"], many.json()["code"]) == ("invalid_request", "malformed_request")
    assert "streams" in many.json()["detail"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "utf-8"])
def test_an_encoding_that_is_not_known_is_refused_with_those_that_are(client: httpx.Client, encoding: str) -> None:
    answer = client.post("/v1/tasks", json=body(), headers={"Content-Encoding": encoding})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("data", [b"", b"{}", gzip.compress(b'{"model": "a"}')[:-9]], ids=["empty", "plain", "cut"])
def test_a_body_that_is_not_compressed_as_it_says_is_malformed(client: httpx.Client, data: bytes) -> None:
    answer = client.post("/v1/tasks", content=data, headers=JSON | {"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


# --- the rest -------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_skipped(client: httpx.Client) -> None:
    task = client.post("/v1/tasks", content=MARK + json.dumps(body()).encode(), headers=JSON)
    rows = MARK + lines({"custom_id": "1", **body()}, {"custom_id": "2", **body()})
    batch = client.post("/v1/batches", content=rows, headers={"Content-Type": "application/jsonl"})

    assert task.status_code == 202, task.text
    assert batch.status_code == 202, batch.text


def test_files_with_byte_order_marks_may_be_put_together_to_a_batch(client: httpx.Client) -> None:
    rows = [lines({"custom_id": name, **body()}) for name in "abc"]
    batch = client.post(
        "/v1/batches",
        content=b"\r\n".join(MARK + row for row in rows),
        headers={"Content-Type": "application/jsonl"},
    )
    assert batch.status_code == 202, batch.text

    found: list[dict[str, Any]] = []
    ends = time.monotonic() + 30
    while len(found) < len(rows) and time.monotonic() < ends:
        found = client.get("/v1/tasks", params={"batch_id": batch.json()["batch_id"]}).json()["data"]
        time.sleep(0.05)

    assert sorted(task["custom_id"] for task in found) == ["a", "b", "c"]


@pytest.mark.parametrize("start", [b" " + MARK, MARK + MARK])
def test_a_batch_is_refused_with_a_byte_order_mark_that_is_not_the_first_of_its_line(
    client: httpx.Client, start: bytes
) -> None:
    row = lines({"custom_id": "a", **body()})
    answer = client.post("/v1/batches", content=start + row, headers={"Content-Type": "application/jsonl"})

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["detail"].startswith("the line is not JSON")


def test_jpg_is_another_word_for_jpeg(client: httpx.Client) -> None:
    answers = [
        client.post("/v1/tasks", json=body(output={"format": word}, client_request_id="one-word"))
        for word in ("jpg", "jpeg")
    ]

    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[1].headers["Idempotent-Replayed"] == "true"


NAMED = {
    "a priority": (body(priority="urgent"), "priority", "high, normal, low"),
    "a format": (body(output={"format": "gif"}), "output.format", "avif, jpeg, jpg, png, source, tiff, webp"),
    "a parameter's value": (body(params={"variant": "x"}), "params.variant", "best, clean, general"),
    "a parameter": (
        body(params={"sale": 2}),
        "params.sale",
        "known are: post, compare, variant, alpha, denoise, scale, width, height, fit, tile, accept_truncated",
    ),
    "a member": (
        body(output={"size": 2}),
        "output.size",
        "max_bytes, chroma, background, dpi, bits, color, metadata, keep_location",
    ),
    "an event": (body(webhook={"url": "https://a.example", "events": ["x"]}), "webhook.events[0]", "canceled, expired"),
    "a model": (body(model="esrgan"), "model", "the models are image-scoring-v1, superres-x4"),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_refusal_names_what_is_allowed_instead_of(client: httpx.Client, case: str) -> None:
    asked, param, names = NAMED[case]
    problem = client.post("/v1/tasks", json=asked).json()
    finding = client.post("/v1/batches", json={"lines": [{"custom_id": "1", **asked}]}).json()["errors"][0]

    for said in (problem, finding):
        assert said["param"] == param
        assert names in said["detail"]


@pytest.mark.parametrize(
    ("query", "names"),
    [("priority=urgent", "high, normal, low"), ("status=DONE", "PENDING, RUNNING, SUCCESS, FAILED, CANCELED, EXPIRED")],
)
def test_a_refusal_of_a_parameter_names_what_is_allowed_too(client: httpx.Client, query: str, names: str) -> None:
    answer = client.get(f"/v1/tasks?{query}")

    assert (answer.status_code, answer.json()["param"]) == (422, query.partition("=")[0])
    assert names in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "param", "says"),
    [
        ("", "status", "this parameter is needed; known are: PENDING, RUNNING"),
        ("model=image-scoring-v1&dry_run=true", "status", "this parameter is needed; known are: PENDING, RUNNING"),
        ("status=PENDING&all=perhaps", "all", "Expected `bool`"),
    ],
)
def test_a_parameter_that_is_missing_or_wrong_is_called_by_its_name(
    client: httpx.Client, query: str, param: str, says: str
) -> None:
    answer = client.post(f"/v1/tasks/cancel?{query}")

    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert says in answer.json()["detail"]


def test_the_metrics_name_their_charset_once(client: httpx.Client) -> None:
    assert client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
