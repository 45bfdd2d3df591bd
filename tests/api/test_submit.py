"""POST /v1/tasks: what is accepted, what is refused, and that a submit can be repeated."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from penstock.core.request import OutputOptions
from penstock.settings import ApiSettings, LimitSettings, QueueSettings, RedisSettings, Settings, StorageSettings
from penstock.store import Store
from tests.support import api_server, redis_server
from tests.support.drive import MODEL, URL, body, claim, data_uri, image, photo, stored_objects

pytestmark = pytest.mark.shared_server

SMALL = LimitSettings(max_body_bytes=200_000, max_input_bytes=50_000, max_image_megapixels=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Small limits, so that they can be reached."""
    return msgspec.structs.replace(settings, limits=SMALL)


# --- accepted -------------------------------------------------------------------------------------------------


async def test_a_submit_answers_where_to_look(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/tasks", json=body())

    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    self_ = f"/v1/tasks/{task_id}"
    assert answer.json() == {
        "task_id": task_id,
        "status": "PENDING",
        "queue_position": 0,
        "eta_s": None,
        "links": {
            "self": self_,
            "cancel": f"{self_}/cancel",
            "events": f"{self_}/events",
            "result": f"{self_}/result",
        },
    }
    assert answer.headers["Location"] == self_
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-Request-Id"].startswith("req_")
    assert "Idempotent-Replayed" not in answer.headers


async def test_everything_asked_for_reaches_the_worker(client: httpx.AsyncClient, store: Store) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked = body(
        params={"variant": "clean"},
        output={"format": "webp", "quality": 70, "lossless": True},
        priority="high",
        client_request_id="order-991",
        metadata={"album": "42"},
        timeout_s=30,
        result_ttl_s=3600,
        start_within_s=600,
        retry={"max_attempts": 2},
    )

    await client.post("/v1/tasks", json=asked, headers={"traceparent": traceparent})

    lease = await claim(store)
    assert (lease.priority, lease.timeout_s, lease.max_retries) == ("high", 30, 1)
    assert lease.caller == "default"
    request = lease.request
    assert (request.model, request.inputs["image"].url, request.params) == (MODEL, URL, {"variant": "clean"})
    assert request.output == OutputOptions(format="webp", quality=70, lossless=True)
    assert (request.client_request_id, request.metadata) == ("order-991", {"album": "42"})
    assert request.traceparent == traceparent


async def test_an_attempt_is_never_longer_and_never_tried_more_often_than_the_operator_allows(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    await client.post("/v1/tasks", json=body(timeout_s=86_400, retry={"max_attempts": 10}))

    lease = await claim(store)
    assert lease.timeout_s == settings.worker.task_timeout_s
    assert lease.max_retries == settings.queue.max_retries


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
async def test_an_inline_image_is_kept_for_the_worker_beside_the_record(
    client: httpx.AsyncClient, store: Store, settings: Settings, format: str
) -> None:
    data = photo(format)

    answer = await client.post("/v1/tasks", json=body(image_url=data_uri(data, f"image/{format.lower()}")))

    task_id = answer.json()["task_id"]
    source = (await claim(store)).request.inputs["image"]
    assert (source.data, source.key, source.url) == (data, None, None)
    assert await store.inline.read(task_id, f"inputs/default/{task_id}") == data
    assert stored_objects(settings) == []


async def test_a_small_inline_image_travels_with_the_task(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    await client.post("/v1/tasks", json=body(image_url=data_uri(image())))

    source = (await claim(store)).request.inputs["image"]
    assert (source.data, source.key, source.url) == (image(), None, None)
    assert stored_objects(settings) == []


@pytest.mark.parametrize("model", [MODEL, "image-scoring-v1"])
async def test_an_image_that_lacks_scans_is_taken_where_the_task_accepts_that(
    model: str, client: httpx.AsyncClient
) -> None:
    whole = image(64, 64, format="JPEG", progressive=True)
    some = data_uri(whole[: whole.rindex(b"\xff\xc4")] + b"\xff\xd9")

    refused = await client.post("/v1/tasks", json=body(model=model, image_url=some, params={}))
    taken = await client.post("/v1/tasks", json=body(model=model, image_url=some, params={"accept_truncated": True}))

    assert (refused.status_code, refused.json()["code"]) == (422, "image_decode_failed")
    assert taken.status_code == 202, taken.text


async def test_an_inline_image_needs_no_media_type(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/tasks", json=body(image_url=data_uri(image(), "")))

    assert answer.status_code == 202


# --- refused --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "an unknown model": (body(model="nothing"), 404, "model_not_found", "model"),
    "no model": ({"input": {"image_url": URL}}, 422, "invalid_request", "model"),
    "no input": ({"model": MODEL}, 422, "invalid_request", "input"),
    "no image": ({"model": MODEL, "input": {}}, 422, "invalid_request", "input.image_url"),
    "an unknown member": (body(tenant="other"), 422, "invalid_request", "tenant"),
    "an unknown member inside": (body(output={"size": 3}), 422, "invalid_request", "output.size"),
    "an unknown parameter": (body(params={"sale": 2}), 422, "invalid_request", "params.sale"),
    "too large a scale": (body(params={"scale": 8.5}), 422, "invalid_request", "params.scale"),
    "too small a scale": (body(params={"scale": 0.5}), 422, "invalid_request", "params.scale"),
    "a scale and a width": (body(params={"scale": 2, "width": 9}), 422, "invalid_request", "params.scale"),
    "no width": (body(params={"width": 0}), 422, "invalid_request", "params.width"),
    "another fit": (body(params={"width": 9, "height": 9, "fit": "crop"}), 422, "invalid_request", "params.fit"),
    "a gain without a score": (body(params={"post": {"min_gain": 1}}), 422, "invalid_request", "params.post.min_gain"),
    "no gain of a score": (
        body(params={"post": {"score": True, "min_gain": 10}}),
        422,
        "invalid_request",
        "params.post.min_gain",
    ),
    "an unknown member of post": (
        body(params={"post": {"scores": True}}),
        422,
        "invalid_request",
        "params.post.scores",
    ),
    "a wish that is none": (body(params={"compare": "yes"}), 422, "invalid_request", "params.compare"),
    "too small a tile": (body(params={"tile": 32}), 422, "invalid_request", "params.tile"),
    "too large a result": (
        body(image_url=data_uri(image()), params={"width": 5000, "height": 5000, "fit": "fill"}),
        422,
        "image_too_large",
        "params.width",
    ),
    "too large a result by its height": (
        body(image_url=data_uri(image()), params={"height": 5000}),
        422,
        "image_too_large",
        "params.height",
    ),
    "a scaled result too long for its format": (
        body(image_url=data_uri(image(2049, 2)), params={"scale": 8}, output={"format": "webp"}),
        422,
        "image_too_large",
        "output.format",
    ),
    "a wrong parameter": (body(params={"variant": "x"}), 422, "invalid_request", "params.variant"),
    "a number as text": (body(timeout_s="30"), 422, "invalid_request", "timeout_s"),
    "a time out of range": (body(start_within_s=0), 422, "invalid_request", "start_within_s"),
    "too long a life": (body(result_ttl_s=604_801), 422, "invalid_request", "result_ttl_s"),
    "too many attempts": (body(retry={"max_attempts": 11}), 422, "invalid_request", "retry.max_attempts"),
    "an unknown priority": (body(priority="urgent"), 422, "invalid_request", "priority"),
    "an unknown format": (body(output={"format": "gif"}), 422, "invalid_request", "output.format"),
    "a lossless JPEG": (
        body(output={"format": "jpeg", "lossless": True}),
        422,
        "invalid_request",
        "output.lossless",
    ),
    "a format that cannot name its dpi": (
        body(output={"format": "webp", "dpi": 300}),
        422,
        "invalid_request",
        "output.dpi",
    ),
    "a place without metadata": (body(output={"keep_location": True}), 422, "invalid_request", "output.keep_location"),
    "a small PNG": (body(output={"max_bytes": 1000}), 422, "invalid_request", "output.max_bytes"),
    "another chroma than a WebP has": (
        body(output={"format": "webp", "chroma": "444"}),
        422,
        "invalid_request",
        "output.chroma",
    ),
    "no chroma": (body(output={"format": "jpeg", "chroma": "411"}), 422, "invalid_request", "output.chroma"),
    "a colour by name": (body(output={"background": "white"}), 422, "invalid_request", "output.background"),
    "a colour with a newline": (body(output={"background": "#fff\n"}), 422, "invalid_request", "output.background"),
    "what the format of the source cannot do": (
        body(image_url=data_uri(image(format="WEBP")), output={"format": "source", "dpi": 300}),
        422,
        "invalid_request",
        "output.dpi",
    ),
    "a JPEG of 16 bits": (body(output={"format": "jpeg", "bits": 16}), 422, "invalid_request", "output.bits"),
    "an image of 16 bits of a model that has none": (
        body(model="image-scoring-v1", output={"bits": 16}),
        422,
        "invalid_request",
        "output.bits",
    ),
    "colours that a model does not keep": (
        body(model="image-scoring-v1", output={"color": "keep"}),
        422,
        "invalid_request",
        "output.color",
    ),
    "other colours": (body(output={"color": "p3"}), 422, "invalid_request", "output.color"),
    "other bits": (body(output={"bits": 12}), 422, "invalid_request", "output.bits"),
    "quality out of range": (body(output={"quality": 0}), 422, "invalid_request", "output.quality"),
    "too much metadata": (body(metadata={str(n): "" for n in range(17)}), 422, "invalid_request", "metadata"),
    "long metadata": (body(metadata={"a": "x" * 513}), 422, "invalid_request", "metadata"),
    "metadata that is no text": (body(metadata={"a": 1}), 422, "invalid_request", "metadata"),
    "an id with a space": (body(client_request_id="a b"), 422, "invalid_request", "client_request_id"),
    "an id with a newline": (body(client_request_id="ab\n"), 422, "invalid_request", "client_request_id"),
    "a long id": (body(client_request_id="x" * 129), 422, "invalid_request", "client_request_id"),
    "a private address": (body(image_url="http://10.0.0.1/a.png"), 422, "input_url_blocked", "input.image_url"),
    "the metadata service": (body(image_url="http://169.254.169.254/"), 422, "input_url_blocked", "input.image_url"),
    "a file URL": (body(image_url="file:///etc/passwd"), 422, "input_url_blocked", "input.image_url"),
    "a data: URI without data": (body(image_url="data:image/png;base64"), 422, "invalid_request", "input.image_url"),
    "base64 that is no URI": (body(image_url="iVBORw0KGgoAAAANSUhEUgAA"), 422, "invalid_request", "input.image_url"),
    "broken base64": (body(image_url="data:image/png;base64,AB=C"), 422, "invalid_request", "input.image_url"),
    "base64 outside of ASCII": (body(image_url="data:;base64,ÄÄÄÄ"), 422, "invalid_request", "input.image_url"),
    "bytes of no image": (body(image_url=data_uri(b"hello")), 415, "unsupported_image_format", "input.image_url"),
    "a damaged header": (body(image_url=data_uri(image()[:20])), 422, "image_decode_failed", "input.image_url"),
    "too many pixels": (body(image_url=data_uri(image(1001, 1000))), 422, "image_too_large", "input.image_url"),
    "a result too long for its format": (
        body(image_url=data_uri(image(4096, 2)), output={"format": "webp"}),
        422,
        "image_too_large",
        "output.format",
    ),
    "too many bytes": (body(image_url=data_uri(bytes(50_001))), 413, "input_too_large", "input.image_url"),
}


@pytest.fixture(scope="module")
def refusing_server(redis_url: str, api_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One for all refusals: they leave nothing behind."""
    settings = Settings(
        api=ApiSettings(keys=(f"default:{api_key}",)),
        redis=RedisSettings(url=redis_url, namespace="test-refusals"),
        storage=StorageSettings(directory=str(tmp_path_factory.mktemp("objects"))),
        limits=SMALL,
    )
    with api_server.in_thread(settings) as url:
        yield url
    redis_server.remove_namespace(redis_url, "test-refusals")


@pytest.mark.parametrize("case", REFUSED)
async def test_a_submit_is_refused_for(case: str, refusing_server: str, api_key: str) -> None:
    asked, status, code, param = REFUSED[case]

    async with httpx.AsyncClient(base_url=refusing_server, headers={"X-API-Key": api_key}) as client:
        answer = await client.post("/v1/tasks", json=asked)
        stats = (await client.get("/v1/stats")).json()

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (status, code, param)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(stats["tasks"].values()) == {0}


BAD_JSON = [
    b"",
    b"{",
    msgspec.json.encode(body()) + b"x",
    b'{"model": NaN}',
    b"\xff\xfe",
    b'{"params":' + b'{"a":' * 20_000,
]


@pytest.mark.parametrize("data", BAD_JSON, ids=["empty", "cut", "trailing", "nan", "no utf-8", "deep"])
async def test_what_is_not_json_is_malformed(client: httpx.AsyncClient, data: bytes) -> None:
    answer = await client.post("/v1/tasks", content=data, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", ""])
async def test_a_body_must_be_declared_as_json(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/v1/tasks", content=b"{}", headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_a_body_over_the_limit_is_refused_by_its_announcement(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/tasks", json=body(metadata={"a": "x" * 200_000}))

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_a_body_over_the_limit_is_refused_while_it_comes_in_pieces(client: httpx.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(30):
            yield b" " * 10_000

    answer = await client.post("/v1/tasks", content=pieces(), headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_a_refused_image_is_not_kept(settings: Settings, api_key: str, store: Store) -> None:
    full = msgspec.structs.replace(settings, queue=QueueSettings(max_depth=1))

    with api_server.in_thread(full) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client:
            kept = photo()
            await client.post("/v1/tasks", json=body(image_url=data_uri(kept)))
            second = await client.post("/v1/tasks", json=body(image_url=data_uri(photo())))

    assert (second.status_code, second.json()["code"], second.json()["retryable"]) == (503, "queue_full", True)
    assert int(second.headers["Retry-After"]) > 0
    assert stored_objects(settings) == []
    assert await store.inline.total_bytes() == len(kept)
