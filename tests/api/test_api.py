"""The API as a whole: keys, headers, problems, health, metrics."""

import asyncio
import re
from typing import Any

import httpx
import msgspec
import pytest
import redis
from msgspec.structs import replace

from penstock.api.app import create_app
from penstock.errors import ConfigurationError
from penstock.settings import RedisSettings, Settings, StorageSettings
from penstock.store import Store
from penstock.upkeep import watches
from tests.support import api_server
from tests.support.drive import MODEL, WORKER, body, data_uri, large_photo, stored_objects
from tests.support.redis_server import RedisProcess

pytestmark = pytest.mark.shared_server

# --- keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": "default:a-key-only-for-the-tests"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic a-key-only-for-the-tests"},
        {"Authorization": "Bearer"},
        {"Cookie": "x-api-key=a-key-only-for-the-tests"},
    ],
    ids=str,
)
async def test_a_key_is_not_taken_from(stranger: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await stranger.get("/v1/models", headers=headers)

    assert answer.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token"])
async def test_a_key_may_be_a_bearer_token(stranger: httpx.AsyncClient, api_key: str, scheme: str) -> None:
    answer = await stranger.get("/v1/models", headers={"Authorization": f"{scheme} {api_key}"})

    assert answer.status_code == 200


@pytest.mark.parametrize("length", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
async def test_a_wrong_key_is_refused_before_the_body_is_read(server: str, length: str) -> None:
    url = httpx.URL(server)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = ("POST /v1/tasks HTTP/1.1", "Host: x", "X-API-Key: wrong", "Content-Type: application/json", length)
    writer.write("\r\n".join([*lines, "", ""]).encode())

    answer = await reader.read()  # to the end: the connection is closed too
    writer.close()

    assert answer.startswith(b"HTTP/1.1 401")


async def test_a_body_that_is_announced_as_too_long_is_refused_before_it_comes(server: str, api_key: str) -> None:
    url = httpx.URL(server)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = ("POST /v1/tasks HTTP/1.1", "Host: x", f"X-API-Key: {api_key}", "Content-Type: application/json")
    writer.write("\r\n".join([*lines, "Content-Length: 999999999", "", ""]).encode())

    answer = await reader.readline()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413")


def test_without_any_key_the_api_does_not_start(settings: Settings) -> None:
    keyless = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, keys=()))

    with pytest.raises(ConfigurationError, match=r"api\.keys"):
        create_app(keyless)


# --- headers and problems -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/livez", "/nothing", "/v1/models", "/v1/tasks/tsk_0", "/docs", "/metrics"])
async def test_ht4_every_answer_has_an_id_and_is_not_sniffed(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)

    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["X-Request-Id"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Server" not in answer.headers


@pytest.mark.parametrize("given", ["order-991", "a" * 64])
async def test_a_request_id_is_given_back(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/nothing", headers={"X-Request-Id": given})

    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["a b", "a" * 65, "<script>", "ä"])
async def test_a_request_id_of_other_characters_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": given.encode()})

    assert answer.headers["X-Request-Id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/docs/assets/index.html", 404, "not_found"),
        ("GET", "/docs/assets/..%2fcore.py", 404, "not_found"),
        ("DELETE", "/v1/tasks", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("GET", "/v1/models/nothing", 404, "model_not_found"),
    ],
)
async def test_every_error_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    with_a_secret = await client.request(method, f"{path}?key=secret-in-a-query")

    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem.keys() == {
        "type", "title", "status", "detail", "code", "param", "retryable", "request_id",
    }  # fmt: skip
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:penstock:error:{code}"
    assert "secret-in-a-query" not in with_a_secret.text
    assert ("Allow" in answer.headers) == (status == 405)


async def test_an_unexpected_error_says_nothing_but_its_id(
    settings: Settings, store: Store, api_key: str, own_redis: RedisProcess
) -> None:
    """A Redis whose keys have the wrong type is one way to get there."""
    broken = msgspec.structs.replace(settings, redis=RedisSettings(url=own_redis.url, namespace="test"))
    with api_server.in_thread(broken) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client:
            with redis.Redis.from_url(own_redis.url) as spoiler:
                spoiler.set("{test}:workers", "no hash")
            answer = await client.get("/v1/workers")

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (500, "internal", True)
    assert "WRONGTYPE" not in answer.text
    assert problem["request_id"] == answer.headers["X-Request-Id"]


# --- the store away -------------------------------------------------------------------------------------------


async def test_without_redis_submits_are_refused_quickly_until_it_is_back(
    settings: Settings, own_redis: RedisProcess, api_key: str
) -> None:
    alone = msgspec.structs.replace(settings, redis=RedisSettings(url=own_redis.url, namespace="test"))
    with api_server.in_thread(alone) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            before = await client.post("/v1/tasks", json=body())
            own_redis.kill()
            refused = await client.post("/v1/tasks", json=body())
            ready = await client.get("/readyz")
            live = await client.get("/livez")
            own_redis.start()
            after = await client.post("/v1/tasks", json=body())
            async with asyncio.timeout(60):
                while (counted := await client.get("/v1/stats")).status_code == 503:  # a busy machine is slow
                    await asyncio.sleep(0.1)
    stats = counted.json()

    assert before.status_code == after.status_code == 202
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.elapsed.total_seconds() < 2
    assert (ready.status_code, live.status_code) == (503, 200)
    assert "redis" in ready.json()["detail"]
    assert stats["tasks"]["PENDING"] == 2


async def test_a_server_has_started_once_redis_has_answered(
    settings: Settings, own_redis: RedisProcess, api_key: str
) -> None:
    alone = msgspec.structs.replace(settings, redis=RedisSettings(url=own_redis.url, namespace="test"))
    own_redis.kill()
    with api_server.in_thread(alone) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            before = await client.get("/startupz")
            own_redis.start()
            started = await client.get("/startupz")
            own_redis.kill()
            after = [await client.get(path) for path in ("/startupz", "/readyz")]

    assert (before.status_code, before.json()["code"]) == (503, "not_ready")
    assert before.json()["detail"].startswith("redis: ")
    assert (started.status_code, started.json()) == (200, {"status": "started"})
    assert [answer.status_code for answer in after] == [200, 503]


async def test_submits_without_redis_do_not_fill_the_storage(
    settings: Settings, own_redis: RedisProcess, api_key: str
) -> None:
    alone = msgspec.structs.replace(settings, redis=RedisSettings(url=own_redis.url, namespace="test"))
    with api_server.in_thread(alone) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            own_redis.kill()
            answers = [await client.post("/v1/tasks", json=body(image_url=data_uri(large_photo()))) for _ in range(5)]

    assert {answer.status_code for answer in answers} == {503}
    assert len(stored_objects(settings)) <= 1, "only the first did not know yet"


# --- health and operations ------------------------------------------------------------------------------------


async def test_the_server_is_ready_without_a_worker_and_counts_those_there_are(
    stranger: httpx.AsyncClient, store: Store
) -> None:
    before = await stranger.get("/readyz")
    await store.leases.renew(WORKER, [])
    after = await stranger.get("/readyz")

    assert (before.status_code, before.json()["workers"]) == (200, 0)
    seen = after.json()
    assert seen == {
        "status": "ready",
        "redis": "ok",
        "storage": "ok",
        "storage_age_s": seen["storage_age_s"],
        "workers": 1,
        "warnings": [],
    }
    assert 0 <= seen["storage_age_s"] < watches.CHECK_PAUSE_S + watches.SLOW_S


async def test_a_worker_whose_spool_is_full_is_a_warning_and_no_reason_to_send_nothing(
    stranger: httpx.AsyncClient, store: Store
) -> None:
    await store.leases.renew(msgspec.structs.replace(WORKER, spool_full=True), [])

    answer = await stranger.get("/readyz")

    assert (answer.status_code, answer.json()["workers"]) == (200, 1)
    (warning,) = answer.json()["warnings"]
    assert warning.startswith("worker w0: its spool is full")


async def test_a_worker_that_only_starts_is_not_counted(stranger: httpx.AsyncClient, store: Store) -> None:
    await store.leases.renew(msgspec.structs.replace(WORKER, state="STARTING"), [])

    assert (await stranger.get("/readyz")).json()["workers"] == 0


async def test_a_storage_that_cannot_be_written_is_named(
    settings: Settings, store: Store, api_key: str, tmp_path: Any
) -> None:
    (tmp_path / "file").touch()
    lost = msgspec.structs.replace(settings, storage=StorageSettings(directory=str(tmp_path / "file" / "objects")))
    await store.leases.renew(WORKER, [])
    with api_server.in_thread(lost) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client:
            ready = await client.get("/readyz")
            submit = await client.post("/v1/tasks", json=body(image_url=data_uri(large_photo())))

    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert ready.json()["detail"].startswith("storage: ")
    assert (submit.status_code, submit.json()["code"]) == (503, "storage_unavailable")


async def test_workers_are_listed(client: httpx.AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])

    (worker,) = (await client.get("/v1/workers")).json()["data"]

    assert worker == {
        "id": "w0",
        "device": "cpu",
        "host": "here",
        "models": [MODEL],
        "slots": 4,
        "running": 1,
        "state": "READY",
        "started_at": "2027-01-15T08:00:00.000Z",
        "memory": {"process": 400, "tasks": 30, "tasks_limit": 1000, "device_limit": None, "pinned": 200},
        "spool_full": False,
        "reason": "",
        "tasks": [],
    }


async def test_a_worker_of_an_earlier_version_says_nothing_of_its_memory(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.leases.renew(msgspec.structs.replace(WORKER, memory=None), [])

    assert (await client.get("/v1/workers")).json()["data"][0]["memory"] is None


async def test_statistics_count_tasks_queues_and_workers(client: httpx.AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    for priority in ("low", "low", "high"):
        await client.post("/v1/tasks", json=body(priority=priority))

    stats = (await client.get("/v1/stats")).json()

    assert stats["tasks"]["PENDING"] == 3
    assert stats["workers"] == {"READY": 1}
    depths = {q["priority"]: q["depth"] for q in stats["queues"] if q["model"] == MODEL}
    assert depths == {"high": 1, "normal": 0, "low": 2}


async def test_models_are_described_with_the_schema_of_their_params(client: httpx.AsyncClient) -> None:
    models = {model["name"]: model for model in (await client.get("/v1/models")).json()["data"]}

    assert {MODEL, "image-scoring-v1"} <= models.keys()
    assert (await client.get(f"/v1/models/{MODEL}")).json() == models[MODEL]
    assert models[MODEL]["produces"] == "image"
    (version,) = models[MODEL]["versions"]
    assert (version["version"], models[MODEL]["version"]) == ("1", "1")
    assert re.search(r"[0-9a-f]{64}", version["digest"])
    assert models[MODEL]["limits"] == {
        "input_formats": [f"image/{form}" for form in ("png", "jpeg", "webp", "gif", "tiff", "bmp", "avif")],
        "input_bytes": 50 * 1024 * 1024,
        "input_megapixels": 50,
        "timeout_s": 600.0,
    }
    assert models[MODEL]["score_range"] is None
    assert models["image-scoring-v1"]["score_range"] == {"minimum": 1, "maximum": 10}
    struct = models[MODEL]["params"]["$defs"]["SuperresParams"]
    assert (struct["properties"]["variant"]["default"], struct["additionalProperties"]) == ("general", False)


async def test_metrics_count_what_happens(client: httpx.AsyncClient) -> None:
    await client.post("/v1/tasks", json=body(priority="low"))
    await client.post("/v1/tasks", json=body(model="nothing"))
    await client.get("/v1/tasks/tsk_0")
    await client.get("/nothing-of-this-name")

    text = (await client.get("/metrics")).text

    assert 'penstock_tasks_submitted_total{model="superres-x4",priority="low"}' in text
    assert 'penstock_submits_refused_total{code="model_not_found"}' in text
    assert re.search(
        r'penstock_http_requests_seconds_count\{method="GET",route="/v1/tasks/\{task_id\}",status="404"\}', text
    )
    assert 'route="unmatched"' in text
    assert "nothing-of-this-name" not in text


@pytest.mark.shared_server(False)
def test_ht5_metrics_and_documentation_are_unknown_paths_unless_they_are_turned_on(settings: Settings) -> None:
    unsaid = replace(settings, api=replace(settings.api, docs="auto", metrics="auto"))
    paths = ("/metrics", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/schema", "/schema/openapi.json")
    with api_server.in_thread(unsaid) as url, httpx.Client(base_url=url, trust_env=False) as stranger:
        unknown = stranger.get("/nothing", headers={"X-Request-Id": "same"})
        found = [stranger.get(path, headers={"X-Request-Id": "same"}) for path in paths]
        root = stranger.get("/").json()

    assert [(a.status_code, a.content) for a in found] == [(404, unknown.content)] * len(paths)
    assert (root["docs"], root["openapi"], "metrics" in root["links"]) == (None, None, False)


async def test_the_root_says_where_everything_is(stranger: httpx.AsyncClient) -> None:
    found = (await stranger.get("/")).json()

    assert found["name"] == "penstock"
    for path in (found["docs"], found["openapi"], found["links"]["live"], found["links"]["metrics"]):
        assert (await stranger.get(path)).status_code == 200
