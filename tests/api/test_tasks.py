"""/v1/tasks/...: read, list, cancel, and the result."""

import asyncio
import hashlib
import random
from typing import Any

import httpx
import msgspec
import pytest

from penstock.core.task import ErrorRecord, Outcome, Progress, Result
from penstock.settings import Settings, StorageSettings
from penstock.storage import Storage, open_storage
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import MODEL, body, claim, complete, fail, image
from tests.support.monitor import counted
from tests.support.published import models_of

pytestmark = pytest.mark.shared_server

DIGEST = next(model.digest for model in models_of() if model.name == MODEL)
TIMES = ("created_at", "started_at", "finished_at", "expires_at", "start_by", "deadline")


async def submitted(client: httpx.AsyncClient, **changes: Any) -> str:
    """Path of a new task."""
    return str((await client.post("/v1/tasks", json=body(**changes))).headers["Location"])


# --- read -----------------------------------------------------------------------------------------------------


async def test_a_waiting_task_is_shown_whole(client: httpx.AsyncClient) -> None:
    path = await submitted(client, client_request_id="order-1", metadata={"album": "42"}, start_within_s=60)

    answer = await client.get(path)

    task = answer.json()
    times = {name: task.pop(name) for name in TIMES}
    assert task == {
        "task_id": path.rpartition("/")[2],
        "client_request_id": "order-1",
        "model": MODEL,
        "model_version": "1",
        "model_digest": DIGEST,
        "model_guessed": [],
        "status": "PENDING",
        "stage": "queued",
        "priority": "normal",
        "progress": None,
        "queue_position": 0,
        "reuse": "miss",
        "timing": {},
        "execution": {},
        "attempts": [],
        "result": None,
        "error": None,
        "metadata": {"album": "42"},
        "webhook": None,
        "batch_id": None,
        "custom_id": None,
        "links": {
            "self": path,
            "cancel": f"{path}/cancel",
            "events": f"{path}/events",
            "result": f"{path}/result",
        },
    }
    assert [name for name, value in times.items() if value] == ["created_at", "start_by"]
    assert times["created_at"].endswith("Z")
    assert answer.headers["Retry-After"] == "1"


async def test_a_result_tells_what_was_done_to_the_image(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    result = Result(data={"score": 5.0}, notes=("turned", "first_frame"))
    await store.leases.complete(await claim(store), Outcome(result=result))

    task = (await client.get(path)).json()

    assert task["result"]["notes"] == ["turned", "first_frame"]
    assert (await client.get(f"{path}/result")).json() == {"score": 5.0}


async def test_a_running_task_shows_its_progress(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    lease = await claim(store)
    await store.leases.progress(lease, "infer", Progress(done=21, total=50))

    task = (await client.get(path)).json()

    assert (task["status"], task["stage"], task["queue_position"]) == ("RUNNING", "infer", None)
    assert task["progress"] == {"ratio": 0.42, "unit": "tiles", "done": 21, "total": 50}


async def test_a_finished_task_shows_result_timing_and_attempts(
    client: httpx.AsyncClient, store: Store, storage: Storage, server: str
) -> None:
    path = await submitted(client)
    file = await complete(store, storage, b"bytes of a result")

    answer = await client.get(path)

    task = answer.json()
    assert (task["status"], task["stage"], task["error"]) == ("SUCCESS", "done", None)
    of_file = msgspec.to_builtins(file)
    name, _ = of_file.pop("name"), of_file.pop("s3_key")
    shown = {"s3_key": storage.full_key(file.s3_key), "url": f"{server}{path}/result", "data": None}
    files = [of_file | {"name": name, "url": f"{server}{path}/result/{name}"}]
    assert task["result"] == of_file | shown | {"files": files, "notes": []}
    assert task["timing"] == {"queue_ms": 1.0, "infer_ms": 2.5, "total_ms": 9.0}
    assert task["execution"] == {"worker": "w0", "device": "cpu", "tiles": 4}
    (attempt,) = task["attempts"]
    assert (attempt["n"], attempt["worker"], attempt["device"], attempt["error"]) == (1, "w0", "cpu", None)
    assert task["created_at"] <= task["started_at"] <= task["finished_at"] < task["expires_at"]
    assert "Retry-After" not in answer.headers


async def test_a_failed_task_says_why(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await fail(store)

    task = (await client.get(path)).json()

    assert (task["status"], task["result"]) == ("FAILED", None)
    assert task["error"] == {"code": "image_decode_failed", "message": "the image is damaged", "retryable": False}
    assert task["attempts"][0]["error"] == task["error"]


async def test_a_task_that_has_not_changed_is_not_sent_again(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    tag = (await client.get(path)).headers["ETag"]

    same = await client.get(path, headers={"If-None-Match": f'W/"other", {tag}'})
    await claim(store)
    changed = await client.get(path, headers={"If-None-Match": tag})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


async def test_every_change_of_a_task_changes_its_tag(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    tags = [(await client.get(path)).headers["ETag"]]
    lease = await claim(store)
    for stage, done in (("fetch", 0), ("infer", 1), ("infer", 2)):
        await store.leases.progress(lease, stage, Progress(done=done, total=2))  # type: ignore[arg-type]
        tags.append((await client.get(path)).headers["ETag"])
    await store.leases.release(lease)
    tags.append((await client.get(path)).headers["ETag"])

    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("path", ["", "/result", "/cancel"])
@pytest.mark.parametrize("task_id", ["tsk_0", "..%2f..%2fetc", "%00", "{x}:*"])
async def test_there_is_no_such_task(client: httpx.AsyncClient, task_id: str, path: str) -> None:
    method = "POST" if path == "/cancel" else "GET"

    answer = await client.request(method, f"/v1/tasks/{task_id}{path}")

    assert answer.status_code == 404
    assert answer.json()["code"] in ("task_not_found", "not_found")


# --- list -----------------------------------------------------------------------------------------------------


async def test_a_list_stays_stable_while_tasks_are_added(client: httpx.AsyncClient) -> None:
    expected = [await submitted(client) for _ in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}

    while True:
        page = (await client.get("/v1/tasks", params=query)).json()
        seen += [task["links"]["self"] for task in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
        await submitted(client)

    assert seen == expected[::-1]
    assert page["next_cursor"] is None


async def test_a_list_can_be_filtered(client: httpx.AsyncClient, store: Store) -> None:
    low = await submitted(client, priority="low")
    scoring = await submitted(client, model="image-scoring-v1", params={})
    canceled = await submitted(client)
    await client.post(f"{canceled}/cancel")
    failed = await submitted(client, priority="high")
    await fail(store)

    async def listed(**query: Any) -> list[str]:
        return [task["links"]["self"] for task in (await client.get("/v1/tasks", params=query)).json()["data"]]

    assert await listed() == [failed, canceled, scoring, low]
    assert await listed(status="FAILED") == [failed]
    assert await listed(status=["FAILED", "CANCELED"]) == [failed, canceled]
    assert await listed(priority="low") == [low]
    assert await listed(model="image-scoring-v1") == [scoring]


async def test_a_list_can_be_filtered_by_metadata(client: httpx.AsyncClient) -> None:
    one = await submitted(client, metadata={"album": "42", "page": "1"})
    two = await submitted(client, metadata={"album": "42", "page": "2"})
    await submitted(client, metadata={"album": "43"})

    async def listed(**query: Any) -> list[str]:
        return [task["links"]["self"] for task in (await client.get("/v1/tasks", params=query)).json()["data"]]

    assert await listed(**{"metadata.album": "42"}) == [two, one]
    assert await listed(**{"metadata.album": "42", "metadata.page": "1"}) == [one]
    assert await listed(**{"metadata.another": "42"}) == []
    assert await listed(**{"metadata.album": "null"}) == []


async def test_a_list_can_be_of_one_key_one_error_or_the_beginning_of_an_id(
    client: httpx.AsyncClient, store: Store, server: str
) -> None:
    key = (await client.post("/v1/keys", json={"tenant": "default", "name": "night", "scopes": ["submit"]})).json()[
        "key"
    ]
    mine, failed = await submitted(client), await submitted(client, priority="high")
    await fail(store)
    async with httpx.AsyncClient(base_url=server, headers={"X-API-Key": key}) as other:
        nightly = await submitted(other)
    await client.post(f"{nightly}/cancel")

    async def listed(**query: Any) -> list[str]:
        return [task["links"]["self"] for task in (await client.get("/v1/tasks", params=query)).json()["data"]]

    assert await listed(key="night") == [nightly]
    assert await listed(key="default") == [failed, mine]
    assert await listed(error_code="image_decode_failed") == [failed]
    assert await listed(error_code="image_decode_failed", status="PENDING") == []
    assert await listed(error_code="model_error") == []
    assert await listed(id_prefix=failed.removeprefix("/v1/tasks/")[:18]) == [failed]
    assert await listed(id_prefix=mine.removeprefix("/v1/tasks/")) == [mine]
    assert await listed(id_prefix="tsk_0") == [nightly, failed, mine]
    assert await listed(id_prefix="tsk_1") == []
    assert await listed(id_prefix="sk_0") == []
    done = await client.post("/v1/tasks/retry", params={"status": "FAILED", "error_code": "image_decode_failed"})
    assert done.json()["retried"] == 1


async def test_the_beginning_of_an_id_looks_at_tasks_of_its_time_alone(
    client: httpx.AsyncClient, redis_url: str
) -> None:
    many = await asyncio.gather(*(submitted(client) for _ in range(30)))
    task_id = many[0].removeprefix("/v1/tasks/")
    an_hour_later = f"tsk_{int(task_id[4:16], 16) + 3_600_000:012x}"

    async with counted(redis_url) as commands:
        found = (await client.get("/v1/tasks", params={"id_prefix": an_hour_later})).json()

    assert (found["data"], found["has_more"]) == ([], False)
    assert commands["HMGET"] < len(many)


async def test_a_list_can_be_of_a_time(client: httpx.AsyncClient) -> None:
    paths = []
    for _ in range(3):
        paths.append(await submitted(client))
        await asyncio.sleep(0.01)
    first, middle, last = [(await client.get(path)).json()["created_at"] for path in paths]

    async def listed(**query: Any) -> list[str]:
        return [task["links"]["self"] for task in (await client.get("/v1/tasks", params=query)).json()["data"]]

    assert await listed(created_after=middle) == [paths[2], paths[1]], "moments shown are cut to the millisecond"
    assert await listed(created_before=middle) == [paths[0]]
    assert await listed(created_after=middle, created_before=last) == [paths[1]]
    assert await listed(created_before=first.replace("Z", "+00:00")) == []
    page = (await client.get("/v1/tasks", params={"created_before": last, "limit": 1})).json()
    assert await listed(created_before=last, cursor=page["next_cursor"]) == [paths[0]]


async def test_a_cursor_that_was_changed_is_refused(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await submitted(client)
    cursor = (await client.get("/v1/tasks", params={"limit": 1})).json()["next_cursor"]
    assert (await client.get("/v1/tasks", params={"cursor": cursor})).status_code == 200

    for place, letter in enumerate(cursor[:-1]):  # of the last one, not every bit counts
        changed = cursor[:place] + ("A" if letter != "A" else "B") + cursor[place + 1 :]
        answer = await client.get("/v1/tasks", params={"cursor": changed})
        assert (answer.status_code, answer.json()["param"]) == (422, "cursor")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"status": "GONE"},
        {"priority": "urgent"},
        {"created_after": "yesterday"},
        {"created_before": "2026-11-22T10:00:00"},
        {"created_before": "0.5"},
        {"cursor": "x"},
        {"priority": "null"},
        {"priority": "NULL"},
        {"cursor": "AAAA"},
        {"cursor": "__________8"},
        {"cursor": "ä" * 11},
        {"cursor": "A" * 10_000},
    ],
    ids=str,
)
async def test_a_list_is_refused_for(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    answer = await client.get("/v1/tasks", params=query)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_request")
    assert problem["param"] == next(iter(query))


async def test_everything_wrong_with_a_list_is_said_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/tasks", params={"limit": 0, "status": "GONE"})

    assert {finding["param"] for finding in answer.json()["errors"]} == {"limit", "status"}


# --- cancel ---------------------------------------------------------------------------------------------------


async def test_a_task_can_be_canceled_and_canceled_again(client: httpx.AsyncClient, store: Store) -> None:
    waiting = await submitted(client)
    running = await submitted(client, priority="high")
    await claim(store)

    for path in (waiting, running, running):
        answer = await client.post(f"{path}/cancel")

        assert (answer.status_code, answer.json()["status"]) == (200, "CANCELED")


async def test_a_task_that_has_ended_cannot_be_canceled(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await fail(store)

    answer = await client.post(f"{path}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (409, "task_already_final")


# --- result ---------------------------------------------------------------------------------------------------


async def test_a_result_is_downloaded_as_a_file(client: httpx.AsyncClient, store: Store, storage: Storage) -> None:
    path = await submitted(client)
    data = image(640, 480) + bytes(700_000)
    await complete(store, storage, data)

    answer = await client.get(f"{path}/result")

    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    assert (answer.status_code, answer.content) == (200, data)
    shown = {name: answer.headers[name] for name in ("Content-Type", "Content-Length", "ETag", "Content-Disposition")}
    assert shown == {
        "Content-Type": "image/png",
        "Content-Length": str(len(data)),
        "ETag": tag,
        "Content-Disposition": f'attachment; filename="{path.rpartition("/")[2]}.png"',
    }
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert (await client.get(f"{path}/result", headers={"If-None-Match": tag})).status_code == 304


@pytest.mark.parametrize(
    ("range_", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=700000-", 700_000, 800_000),
        ("bytes=-5", 799_995, 800_000),
        ("bytes=-900000", 0, 800_000),
        ("Bytes=799999-900000", 799_999, 800_000),
    ],
)
async def test_a_part_of_a_result_is_downloaded(
    client: httpx.AsyncClient, store: Store, storage: Storage, range_: str, start: int, stop: int
) -> None:
    path = await submitted(client)
    data = random.Random(1).randbytes(800_000)
    await complete(store, storage, data)
    whole = await client.get(f"{path}/result")

    part = await client.get(f"{path}/result", headers={"Range": range_, "If-Range": whole.headers["ETag"]})

    assert (whole.headers["Accept-Ranges"], part.status_code) == ("bytes", 206)
    assert part.content == data[start:stop]
    assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/800000"
    assert part.headers["Content-Length"] == str(stop - start)
    same = ("ETag", "Content-Type", "Content-Disposition", "Content-Security-Policy")
    assert [part.headers[name] for name in same] == [whole.headers[name] for name in same]


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-4", "If-Range": '"of another version"'},
        {"Range": "bytes=0-4", "If-Range": "Sun, 22 Nov 2026 10:00:00 GMT"},
        {"Range": "bytes=0-4,8-9"},
        {"Range": "bytes=4-0"},
        {"Range": "bytes=-"},
        {"Range": "bytes=" + "9" * 4000 + "-"},
        {"Range": "lines=0-4"},
    ],
    ids=lambda headers: " ".join(headers.values())[:30],
)
async def test_the_whole_result_is_the_answer_to(
    client: httpx.AsyncClient, store: Store, storage: Storage, headers: dict[str, str]
) -> None:
    path = await submitted(client)
    await complete(store, storage, b"bytes of a result")

    answer = await client.get(f"{path}/result", headers=headers)

    assert (answer.status_code, answer.content) == (200, b"bytes of a result")
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("range_", ["bytes=17-", "bytes=1000-2000", "bytes=-0"])
async def test_a_part_behind_the_end_is_refused(
    client: httpx.AsyncClient, store: Store, storage: Storage, range_: str
) -> None:
    path = await submitted(client)
    file = await complete(store, storage, b"bytes of a result")

    answer = await client.get(f"{path}/result", headers={"Range": range_})
    known = await client.get(f"{path}/result", headers={"Range": range_, "If-None-Match": f'"{file.sha256}"'})

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == "bytes */17"
    assert known.status_code == 304


async def test_a_result_that_is_data_is_json(client: httpx.AsyncClient, store: Store, server: str) -> None:
    path = await submitted(client, model="image-scoring-v1")
    await store.leases.complete(await claim(store), Outcome(result=Result(data={"score": 5.5})))

    answer = await client.get(f"{path}/result")
    result = (await client.get(path)).json()["result"]

    assert (answer.headers["Content-Type"], answer.json()) == ("application/json", {"score": 5.5})
    assert (result["data"], result["s3_key"], result["url"]) == ({"score": 5.5}, None, f"{server}{path}/result")


async def test_a_result_in_a_bucket_is_a_link_to_it(
    settings: Settings, s3_server: StorageSettings, store: Store, api_key: str
) -> None:
    remote = msgspec.structs.replace(settings, storage=s3_server)

    with api_server.in_thread(remote) as url:
        async with (
            open_storage(s3_server, settings.redis.namespace) as storage,
            httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client,
            httpx.AsyncClient() as anyone,
        ):
            path = await submitted(client)
            await complete(store, storage, b"bytes of a result")
            answer = await client.get(f"{path}/result")
            link = (await client.get(path)).json()["result"]["url"]
            downloads = [await anyone.get(answer.headers["Location"]), await anyone.get(link)]

    assert (answer.status_code, answer.content) == (302, b"")
    for download in downloads:
        assert (download.status_code, download.content) == (200, b"bytes of a result")


async def test_there_is_no_result_before_the_end(client: httpx.AsyncClient) -> None:
    path = await submitted(client)

    answer = await client.get(f"{path}/result")

    assert (answer.status_code, answer.json()["code"]) == (409, "result_not_ready")
    assert answer.headers["Retry-After"] == "1"


async def test_there_is_no_result_of_a_task_that_failed(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    lease = await claim(store)
    await store.leases.fail(lease, Outcome(error=ErrorRecord(code="internal", message="x", retryable=True)))

    answer = await client.get(f"{path}/result")

    assert (answer.status_code, answer.json()["code"]) == (409, "result_not_ready")
    assert "FAILED" in answer.json()["detail"]


async def test_a_result_whose_bytes_are_gone_has_expired(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    path = await submitted(client)
    file = await complete(store, storage, b"bytes of a result")
    await storage.delete(file.s3_key)

    answer = await client.get(f"{path}/result")

    assert (answer.status_code, answer.json()["code"]) == (410, "result_expired")
