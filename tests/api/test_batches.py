"""Batches over HTTP: submitted, fed, counted, canceled, collected. The part of a worker is played through the store."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.batch import part_key, task_id_of
from penstock.core.task import ErrorRecord, Outcome, Priority, Result, State
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store, connect
from tests.support import api_server
from tests.support.drive import MODEL, URL, body, claim, data_uri, image, photo, stored_objects
from tests.support.queue_snapshot import check_places, take_snapshot
from tests.support.stores import submission

WINDOW = 4
VARIANTS = ("general", "clean", "general")
JSONL = {"content-type": "application/jsonl"}
DONE = Outcome(result=Result(data={"score": 7.5}))
BROKEN = Outcome(error=ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A small window, not many batches, and inputs that are stored."""
    return replace(settings, queue=replace(settings.queue, batch_window=WINDOW, max_batches=3, inline_input_bytes=0))


@pytest.fixture(autouse=True)
def whole(settings: Settings) -> Iterator[None]:
    """What Redis holds in the end is in its place."""
    yield

    async def check() -> None:
        async with connect(settings.redis) as client:
            check_places(await take_snapshot(client, settings.redis.namespace))

    asyncio.run(check())


def line(n: int, **changes: Any) -> dict[str, Any]:
    return {"custom_id": f"line {n}", "input": {"image_url": URL}} | changes


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in lines)


async def send(
    client: httpx.AsyncClient, content: bytes | AsyncIterator[bytes], headers: dict[str, str] = JSONL, **options: Any
) -> Any:
    said = json.dumps({"defaults": {"model": MODEL}} | options)
    return await client.post("/v1/batches", params={"options": said}, content=content, headers=headers)


async def submit(client: httpx.AsyncClient, count: int, **options: Any) -> str:
    """A batch of so many lines; its id."""
    answer = await send(client, jsonl(*(line(n) for n in range(1, count + 1))), **options)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


async def read(client: httpx.AsyncClient, batch_id: str) -> Any:
    return (await client.get(f"/v1/batches/{batch_id}")).raise_for_status().json()


async def until(client: httpx.AsyncClient, batch_id: str, **wanted: Any) -> dict[str, Any]:
    """The batch when its status, or these of its counts, are as wanted."""
    view = {}
    async with asyncio.timeout(60):
        while not wanted.items() <= (view.get("counts", {}) | {"status": view.get("status")}).items():
            await asyncio.sleep(0.01)
            view = await read(client, batch_id)
    return view


async def rows(client: httpx.AsyncClient, batch_id: str, start: int = 0) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/batches/{batch_id}/results", params={"start": start})
    assert answer.headers["content-type"] == "application/jsonl"
    return [json.loads(text) for text in answer.text.splitlines()]


def tasks_of_inputs(settings: Settings) -> list[str]:
    """Whose inputs are stored."""
    keys = [key for key in stored_objects(settings) if key.startswith("inputs/")]
    return [key.rpartition("/")[2].partition("-")[0] for key in keys]


async def finish_next(store: Store, outcome: Outcome = DONE) -> str:
    """End the next task; its custom_id."""
    async with asyncio.timeout(60):
        while (lease := (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease) is None:
            await asyncio.sleep(0.01)
    assert await (store.leases.complete(lease, outcome) if outcome.result else store.leases.fail(lease, outcome))
    assert lease.request.line is not None
    return lease.request.line.custom_id


async def finish(store: Store) -> None:
    """End the next task, which is no line."""
    assert await store.leases.complete(await claim(store), DONE)


@asynccontextmanager
async def working(store: Store) -> AsyncIterator[list[str]]:
    """Somebody runs whatever comes; the custom_ids as they end."""
    ended: list[str] = []

    async def work() -> None:
        while True:
            ended.append(await finish_next(store))

    running = asyncio.create_task(work())
    try:
        yield ended
    finally:
        running.cancel()


# --- submit ---------------------------------------------------------------------------------------------------


async def test_the_lines_of_a_json_body_become_tasks(client: httpx.AsyncClient, store: Store) -> None:
    lines = [line(1), line(2, priority="normal", params={"variant": "clean"}, metadata={"album": "42"})]
    defaults = {"model": MODEL, "output": {"format": "webp"}, "params": {"variant": "general"}}

    answer = await client.post("/v1/batches", json={"lines": lines, "defaults": defaults, "metadata": {"of": "May"}})

    view = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == view["links"]["self"] == f"/v1/batches/{view['batch_id']}"
    assert (view["status"], view["counts"]["total"], view["metadata"]) == ("RUNNING", 2, {"of": "May"})
    await until(client, view["batch_id"], queued=2)
    tasks = [await store.tasks.get(task_id_of(view["batch_id"], place), "default") for place in range(2)]
    assert [task.priority for task in tasks] == [Priority.LOW, Priority.NORMAL]
    assert [task.request.params["variant"] for task in tasks] == ["general", "clean"]
    assert {task.request.output.format for task in tasks} == {"webp"}
    shown = (await client.get("/v1/tasks", params={"batch_id": view["batch_id"]})).json()["data"]
    assert [(t["custom_id"], t["batch_id"]) for t in shown] == [
        ("line 2", view["batch_id"]),
        ("line 1", view["batch_id"]),
    ]
    assert (await client.get("/v1/tasks", params={"batch_id": "bat_other"})).json()["data"] == []


async def test_the_lines_of_a_file_keep_their_numbers(client: httpx.AsyncClient, store: Store) -> None:
    texts = [jsonl(line(n)) for n in (1, 2, 3)]
    batch_id = (await send(client, texts[0] + b"\r\n\r\n  \n" + texts[1] + b"\n" + texts[2] + b"\n\n")).json()[
        "batch_id"
    ]

    async with working(store):
        await until(client, batch_id, status="COMPLETED")

    assert [(row["line"], row["custom_id"]) for row in await rows(client, batch_id)] == [
        (1, "line 1"), (4, "line 2"), (5, "line 3"),
    ]  # fmt: skip


async def test_the_lines_may_be_those_of_an_upload(client: httpx.AsyncClient, store: Store) -> None:
    content = jsonl(*(line(n) for n in range(1, 2001)))
    opened = (await client.post("/v1/uploads", json={"size": len(content)})).json()
    said = {"defaults": {"model": MODEL}, "upload_id": opened["upload_id"], "client_request_id": "once"}

    early = await client.post("/v1/batches", json=said)
    await client.put(opened["url"], content=content, headers=opened["headers"])
    taken = await client.post("/v1/batches", json=said)
    deleted = await client.delete(f"/v1/uploads/{opened['upload_id']}")
    again = await client.post("/v1/batches", json=said)
    view = await until(client, taken.json()["batch_id"], queued=WINDOW)

    assert (early.status_code, early.json()["code"]) == (409, "upload_not_ready")
    assert (taken.status_code, view["counts"]["total"]) == (202, 2000)
    assert (deleted.status_code, again.status_code, again.json()["code"]) == (204, 404, "upload_not_found")
    assert await finish_next(store) == "line 1"


@pytest.mark.parametrize("changes", [{}, {"lines": [], "upload_id": f"upl_{'0' * 32}"}, {"upload_id": "mine"}])
async def test_a_batch_has_lines_or_an_upload(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    answer = await client.post("/v1/batches", json={"defaults": {"model": MODEL}} | changes)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_every_wrong_line_is_named_and_nothing_is_queued(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    wrong: list[tuple[dict[str, Any] | bytes, str, str]] = [
        (b"{", "", "invalid_request"),
        ({"input": {"image_url": URL}}, "custom_id", "invalid_request"),
        (line(1), "custom_id", "invalid_request"),
        (line(3, model="gone-v1"), "model", "model_not_found"),
        (line(4, params={"variant": "blue"}), "params.variant", "invalid_request"),
        (line(5, input={"image_url": "ftp://example.com/a"}), "input.image_url", "input_url_blocked"),
        (line(6, input={"image_url": data_uri(b"no image")}), "input.image_url", "unsupported_image_format"),
        (line(7, client_request_id="mine"), "client_request_id", "invalid_request"),
        (line(8, timeout_s=0), "timeout_s", "invalid_request"),
        (line(9, webhook={"url": "https://example.com/"}), "webhook", "webhooks_disabled"),
        (line(10, output={"format": "webp", "dpi": 300}), "output.dpi", "invalid_request"),
        (line(11, output={"format": "source", "keep_location": True}), "output.keep_location", "invalid_request"),
        (b'{"custom_id": "' + b"x" * (1024 * 1024) + b'"}', "", "invalid_request"),
    ]
    texts = [text if isinstance(text, bytes) else jsonl(text) for text, _, _ in wrong]

    answer = await send(client, b"\n".join([jsonl(line(1)), *texts]))

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (422, "invalid_request", "lines")
    assert [(e["line"], e["param"], e["code"]) for e in problem["errors"]] == [
        (number, param, code) for number, (_, param, code) in enumerate(wrong, 2)
    ]
    assert [e.get("custom_id") for e in problem["errors"]][2:4] == ["line 1", "line 3"]
    assert (await client.get("/v1/batches")).json()["data"] == []
    assert not (await store.listing.page("default")).tasks
    assert stored_objects(settings) == []


async def test_a_hundred_findings_are_enough(client: httpx.AsyncClient) -> None:
    answer = await send(client, jsonl(*(line(n, priority="urgent") for n in range(1000))))

    assert answer.status_code == 422
    assert [e["line"] for e in answer.json()["errors"]] == list(range(1, 101))


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", JSONL, 422, "invalid_request"),
        (b"[]", {"content-type": "application/json"}, 422, "invalid_request"),
        (b'{"lines": []}', {"content-type": "application/json"}, 422, "invalid_request"),
        (b"{", {"content-type": "application/json"}, 400, "malformed_request"),
        (b"a", {"content-type": "text/csv"}, 415, "unsupported_media_type"),
    ],
)
async def test_what_is_no_batch_is_refused(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await send(client, content, headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_default_is_checked_even_if_no_line_needs_it(client: httpx.AsyncClient) -> None:
    answer = await send(client, jsonl(line(1)), defaults={"model": MODEL, "input": {"image_url": "0"}})

    assert (answer.status_code, answer.json()["code"]) == (422, "input_url_blocked")
    assert answer.json()["param"] == "defaults.input.image_url"


async def test_a_default_input_may_be_an_upload(client: httpx.AsyncClient) -> None:
    upload = {"upload_id": f"upl_{0:032x}"}

    needed = await client.post(
        "/v1/batches", json={"lines": [{"custom_id": "a"}], "defaults": {"model": MODEL, "input": upload}}
    )
    unneeded = await client.post(
        "/v1/batches", json={"lines": [line(1)], "defaults": {"model": MODEL, "input": upload}}
    )

    assert (needed.status_code, needed.json()["errors"][0]["code"]) == (422, "upload_not_found")
    assert unneeded.status_code == 202


async def test_there_are_bounds(client: httpx.AsyncClient, settings: Settings) -> None:
    inline = await client.post("/v1/batches", json={"lines": [line(n) for n in range(1001)]})
    short = b'{"custom_id":"%d","input":{"image_url":"https://example.com/"}}'
    many = await send(client, b"\n".join(short % n for n in range(50_001)))
    unknown = await send(client, jsonl(line(1)), defaults={"size": 4})

    assert [a.status_code for a in (inline, many, unknown)] == [422, 422, 422]
    assert (many.json()["detail"], unknown.json()["param"]) == ("a batch has 50000 lines at most", "defaults.size")
    assert stored_objects(settings) == []


async def test_a_body_over_the_limit_leaves_nothing(settings: Settings, api_key: str) -> None:
    small = replace(settings, limits=replace(settings.limits, max_batch_bytes=300_000))
    with api_server.in_thread(small) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            answer = await send(client, jsonl(*(line(n) for n in range(5000))))

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert stored_objects(settings) == []


async def test_a_body_that_breaks_off_leaves_nothing(client: httpx.AsyncClient, settings: Settings) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield jsonl(*(line(n) for n in range(3000)))
        raise OSError("the client is gone")

    with pytest.raises(OSError, match="gone"):
        await send(client, broken())

    async with asyncio.timeout(60):
        while stored_objects(settings):
            await asyncio.sleep(0.01)
    assert (await client.get("/v1/batches")).json()["data"] == []


async def test_a_repeated_submit_is_the_same_batch(client: httpx.AsyncClient, settings: Settings) -> None:
    content = jsonl(line(1), line(2))

    first = await send(client, content, client_request_id="may")
    again = await send(client, content, JSONL | {"Idempotency-Key": "may"})
    other = await send(client, jsonl(line(1)), client_request_id="may")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["batch_id"] == first.json()["batch_id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(stored_objects(settings)) == 1
    assert [batch["batch_id"] for batch in (await client.get("/v1/batches")).json()["data"]] == [
        first.json()["batch_id"]
    ]


async def test_a_key_has_so_many_unfinished_batches(client: httpx.AsyncClient, store: Store) -> None:
    batch_ids = [await submit(client, 1, client_request_id=f"{n}") for n in range(3)]

    refused = await send(client, jsonl(line(1)))
    repeated = await send(client, jsonl(line(1)), client_request_id="0")
    await until(client, batch_ids[0], queued=1)
    await finish_next(store)
    accepted = await send(client, jsonl(line(1)))

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_batches")
    assert (repeated.status_code, accepted.status_code) == (200, 202)


async def test_a_batch_counts_as_one_submit(settings: Settings, api_key: str) -> None:
    limited = replace(settings, api=replace(settings.api, rate_limit_per_minute=2))
    with api_server.in_thread(limited) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            answers = [await send(client, jsonl(*(line(n) for n in range(4)))) for _ in range(3)]
            await until(client, answers[0].json()["batch_id"], waiting=0)

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]


async def test_requests_are_answered_while_lines_are_checked(client: httpx.AsyncClient) -> None:
    answered = []

    async def look() -> None:
        while True:
            answered.append((await client.get("/v1/stats")).status_code)

    looking = asyncio.create_task(look())
    batch = await send(client, jsonl(*(line(n) for n in range(20_000))))
    looking.cancel()

    assert batch.status_code == 202
    assert len(answered) > 20, "a slice of lines at a time, however many there are"
    assert set(answered) == {200}


# --- feed -----------------------------------------------------------------------------------------------------


async def test_no_more_tasks_than_the_window_wait_or_run(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 15)
    await until(client, batch_id, queued=WINDOW, waiting=15 - WINDOW)

    seen = []
    for _ in range(15):
        seen.append(await finish_next(store))
        view = await read(client, batch_id)
        assert view["counts"]["queued"] + view["counts"]["running"] <= WINDOW

    assert seen == [f"line {n}" for n in range(1, 16)]
    view = await until(client, batch_id, status="COMPLETED", succeeded=15)
    assert view["progress"] == {"ratio": 1.0, "unit": "lines", "done": 15, "total": 15}
    assert view["finished_at"] is not None


async def test_another_user_is_served_at_once(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 500, defaults={"model": MODEL, "priority": "normal"})
    await until(client, batch_id, queued=WINDOW)
    await finish_next(store)

    other = (await store.tasks.submit(submission(caller="bob"), rate_limit=0)).id
    served = [(await claim(store)).id for _ in range(2)]

    assert other in served


async def test_a_full_queue_is_waited_for(settings: Settings, api_key: str, store: Store) -> None:
    full = replace(settings, queue=replace(settings.queue, max_depth=2))
    with api_server.in_thread(full) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            batch_id = await submit(client, 6)
            await until(client, batch_id, queued=2)
            async with working(store):
                await until(client, batch_id, status="COMPLETED", succeeded=6)


async def test_what_an_image_needs_is_stored_and_deleted_with_its_task(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    large, small = data_uri(photo()), data_uri(image())
    answer = await send(
        client, jsonl(*(line(n, input={"image_url": uri}) for n, uri in enumerate((large, small, large))))
    )
    batch_id = answer.json()["batch_id"]

    await until(client, batch_id, queued=3)
    inputs = tasks_of_inputs(settings)
    async with working(store):
        view = await until(client, batch_id, status="COMPLETED")

    assert inputs == sorted(task_id_of(batch_id, place) for place in (0, 2))
    assert view["counts"]["succeeded"] == 3
    for place in range(3):
        assert (await client.delete(f"/v1/tasks/{task_id_of(batch_id, place)}")).status_code == 204
    assert (await client.delete(f"/v1/batches/{batch_id}")).status_code == 204
    assert stored_objects(settings) == []


async def test_a_line_that_has_become_wrong_fails_without_a_task(
    settings: Settings, api_key: str, store: Store
) -> None:
    one_by_one = replace(settings, queue=replace(settings.queue, batch_window=1))
    headers = {"X-API-Key": api_key}
    with api_server.in_thread(one_by_one) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            answer = await send(client, jsonl(line(1), line(2, model="image-scoring-v1"), line(3)))
            batch_id = answer.json()["batch_id"]
            await until(client, batch_id, queued=1)
    fewer = replace(one_by_one, models=replace(settings.models, serve=(MODEL,)))
    with api_server.in_thread(fewer) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            async with working(store):
                view = await until(client, batch_id, status="COMPLETED")
            found = {row["line"]: row for row in await rows(client, batch_id)}

    assert (view["counts"]["succeeded"], view["counts"]["failed"]) == (2, 1)
    assert (found[2]["task_id"], found[2]["status"], found[2]["error"]["code"]) == (None, "FAILED", "model_not_found")


async def test_a_line_that_has_become_wrong_holds_up_none_of_those_beside_it(
    settings: Settings, api_key: str, store: Store
) -> None:
    """Four in one window: two are refused, one before and one after a line that is right."""
    headers = {"X-API-Key": api_key}
    large = [data_uri(photo()), data_uri(image(400, 300))]
    uris = [URL, URL, *large, *large, URL, large[0]]
    with api_server.in_thread(settings) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            lines = [line(n, input={"image_url": uri}, reuse=False) for n, uri in enumerate(uris)]
            answer = await send(client, jsonl(*lines))
            batch_id = answer.json()["batch_id"]
            await until(client, batch_id, queued=WINDOW)
    smaller = replace(settings, limits=replace(settings.limits, max_image_megapixels=0.1))
    with api_server.in_thread(smaller) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            async with working(store) as ended:
                view = await until(client, batch_id, status="COMPLETED")
            found = {row["line"]: row for row in await rows(client, batch_id)}

    assert (view["counts"]["succeeded"], view["counts"]["failed"]) == (7, 1)
    assert (found[6]["task_id"], found[6]["error"]["code"]) == (None, "image_too_large")
    assert sorted(ended) == [f"line {n}" for n in range(8) if n != 5]


async def test_lines_that_an_older_server_has_stored_are_fed(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    """It did not write down what the headers of images say."""
    uris = [data_uri(image()), data_uri(photo())] * 4
    lines = [line(n, input={"image_url": uri}, reuse=False) for n, uri in enumerate(uris)]
    batch_id = (await send(client, jsonl(*lines))).json()["batch_id"]
    await until(client, batch_id, queued=WINDOW)
    key = part_key("default", batch_id, 0)
    await storage.put(key, b"\n".join(json.dumps([n, one]).encode() for n, one in enumerate(lines, 1)), "")

    async with working(store) as ended:
        await until(client, batch_id, status="COMPLETED", succeeded=8)

    assert sorted(ended) == [f"line {n}" for n in range(8)]


async def test_a_batch_whose_stored_lines_are_damaged_ends(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    batch_id = (await send(client, jsonl(*(line(n) for n in range(8))))).json()["batch_id"]
    await until(client, batch_id, queued=WINDOW)
    await storage.put(part_key("default", batch_id, 0), b"\0" * 100, "")

    async with working(store):
        view = await until(client, batch_id, status="COMPLETED")

    assert (view["counts"]["succeeded"], view["counts"]["failed"]) == (WINDOW, 8 - WINDOW)


async def test_results_whose_lines_are_gone_from_the_storage_are_refused(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    batch_id = (await send(client, jsonl(line(0)))).json()["batch_id"]
    async with working(store):
        await until(client, batch_id, status="COMPLETED")
    await storage.delete(part_key("default", batch_id, 0))

    answer = await client.get(f"/v1/batches/{batch_id}/results")

    assert (answer.status_code, answer.headers["content-type"]) == (410, "application/problem+json")
    assert answer.json()["code"] == "result_expired"


async def test_lines_take_results_that_are_there_and_store_nothing(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    large = data_uri(photo())
    first = await client.post("/v1/tasks", json=body(image_url=large))
    await finish(store)

    lines = [line(n, input={"image_url": uri}) for n, uri in enumerate([large, URL, large, data_uri(photo("JPEG"))])]
    batch_id = (await send(client, jsonl(*lines))).json()["batch_id"]
    await until(client, batch_id, waiting=0)

    assert (await read(client, batch_id))["counts"]["succeeded"] == 2
    assert {*tasks_of_inputs(settings)} == {first.json()["task_id"], task_id_of(batch_id, 3)}


async def test_lines_whose_result_has_just_gone_are_run(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    """Its retention has ended, but its record is still there, and found by its digest."""
    large = data_uri(photo())
    first = (await client.post("/v1/tasks", json=body(image_url=large))).json()["task_id"]
    await finish(store)
    await store.engine.client.zadd(store.engine.keys.finals, {first: 1})

    lines = [line(n, input={"image_url": large}, params={"variant": variant}) for n, variant in enumerate(VARIANTS)]
    batch_id = (await send(client, jsonl(*lines))).json()["batch_id"]
    async with working(store) as ended:
        await until(client, batch_id, status="COMPLETED", succeeded=len(lines))

    assert ended == ["line 0", "line 1"], "and the third takes what the first has given"


# --- collect --------------------------------------------------------------------------------------------------


async def test_the_manifest_can_be_read_while_the_batch_runs(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 6)
    await finish_next(store)
    await finish_next(store, BROKEN)

    early = await rows(client, batch_id)
    async with working(store):
        await until(client, batch_id, status="COMPLETED", succeeded=5, failed=1)
    later = await rows(client, batch_id, start=2)

    assert [(row["line"], row["status"]) for row in early] == [(1, "SUCCESS"), (2, "FAILED")]
    assert early[0]["result"]["data"] == {"score": 7.5}
    assert (await client.get(early[0]["result"]["url"])).json() == {"score": 7.5}
    assert early[1] == {
        "line": 2, "custom_id": "line 2", "task_id": task_id_of(batch_id, 1), "status": "FAILED", "result": None,
        "error": {"code": "image_decode_failed", "message": "the image is damaged", "retryable": False},
    }  # fmt: skip
    assert [row["line"] for row in later] == [3, 4, 5, 6]


async def test_the_manifest_is_right_when_the_tasks_are_gone(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 2)
    await finish_next(store)
    await finish_next(store, BROKEN)
    for place in range(2):
        await store.tasks.delete(task_id_of(batch_id, place), "default")

    first, second = await rows(client, batch_id)

    assert (first["status"], first["result"]["data"]) == ("SUCCESS", None)
    assert (await client.get(first["result"]["url"])).json()["code"] == "result_expired"
    assert (second["status"], second["error"]["code"]) == ("FAILED", "image_decode_failed")
    assert (await read(client, batch_id))["counts"]["failed"] == 1


async def test_a_batch_is_read_again_only_when_it_has_changed(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 2)
    await until(client, batch_id, queued=2)
    first = await client.get(f"/v1/batches/{batch_id}")
    tag = {"If-None-Match": first.headers["etag"]}

    unchanged = await client.get(f"/v1/batches/{batch_id}", headers=tag)
    await finish_next(store)
    changed = await client.get(f"/v1/batches/{batch_id}", headers=tag)
    await finish_next(store)
    ended = await client.get(f"/v1/batches/{batch_id}")

    assert (unchanged.status_code, changed.status_code) == (304, 200)
    assert first.json()["eta_s"] is None
    assert changed.json()["eta_s"] > 0
    assert (ended.json()["eta_s"], "retry-after" in ended.headers) == (None, False)


async def test_a_retry_opens_the_batch_again(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 2)
    await finish_next(store)
    await finish_next(store, BROKEN)
    await until(client, batch_id, status="COMPLETED", failed=1)

    query = {"status": "FAILED", "batch_id": batch_id}
    assert (await client.post("/v1/tasks/retry", params=query)).json()["retried"] == 1
    opened = await read(client, batch_id)
    await finish_next(store)
    closed = await read(client, batch_id)

    assert (opened["status"], opened["counts"]["failed"], opened["counts"]["queued"]) == ("RUNNING", 0, 1)
    assert (closed["status"], closed["counts"]["succeeded"]) == ("COMPLETED", 2)
    assert [(row["line"], row["status"]) for row in await rows(client, batch_id)] == [
        (1, "SUCCESS"), (2, "FAILED"), (2, "SUCCESS"),
    ]  # fmt: skip


async def test_batches_are_listed_newest_first(client: httpx.AsyncClient) -> None:
    batch_ids = [await submit(client, 1) for _ in range(3)]

    first = (await client.get("/v1/batches", params={"limit": 2})).json()
    second = (await client.get("/v1/batches", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    made_up = await client.get("/v1/batches", params={"cursor": "AAAA"})

    assert [b["batch_id"] for b in [*first["data"], *second["data"]]] == batch_ids[::-1]
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    assert (made_up.status_code, made_up.json()["param"]) == (422, "cursor")


# --- cancel and delete ----------------------------------------------------------------------------------------


async def test_a_cancel_ends_every_line_that_has_not(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    large = data_uri(photo())
    lines = [line(n, input={"image_url": large}, reuse=False) for n in range(1, 1201)]
    batch_id = (await send(client, jsonl(*lines))).json()["batch_id"]
    await until(client, batch_id, queued=WINDOW)
    await finish_next(store)
    lease = await claim(store)

    canceled = await client.post(f"/v1/batches/{batch_id}/cancel")
    again = await client.post(f"/v1/batches/{batch_id}/cancel")
    view = await until(client, batch_id, status="CANCELED")
    late = await client.post(f"/v1/batches/{batch_id}/cancel")

    assert [canceled.status_code, again.status_code, late.status_code] == [200, 200, 200]
    assert canceled.json()["status"] == "CANCELING"
    assert (view["counts"]["succeeded"], view["counts"]["canceled"], view["counts"]["waiting"]) == (1, 1199, 0)
    assert not await store.leases.complete(lease, DONE)
    found = await rows(client, batch_id)
    assert sorted(row["line"] for row in found) == list(range(1, 1201))
    fed = {row["line"] for row in found if row["task_id"] is not None}
    assert fed == set(range(1, len(fed) + 1))
    assert len(fed) <= WINDOW + 1
    assert {*tasks_of_inputs(settings)} <= {row["task_id"] for row in found}


async def test_what_has_completed_cannot_be_canceled(client: httpx.AsyncClient, store: Store) -> None:
    batch_id = await submit(client, 1)
    await finish_next(store)

    answer = await client.post(f"/v1/batches/{batch_id}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (409, "batch_already_final")


async def test_a_batch_that_has_ended_can_be_deleted(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    batch_id = await submit(client, 1)
    running = await client.delete(f"/v1/batches/{batch_id}")
    await finish_next(store)

    deleted = [(await client.delete(f"/v1/batches/{batch_id}")).status_code for _ in range(2)]

    assert (running.status_code, running.json()["code"]) == (409, "batch_not_final")
    assert deleted == [204, 204]
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel")):
        gone = await client.request(method, f"/v1/batches/{batch_id}{path}")
        assert (gone.status_code, gone.json()["code"]) == (410, "result_expired")
    assert (await client.get("/v1/batches")).json()["data"] == []
    task = await store.tasks.get(task_id_of(batch_id, 0), "default")
    assert task.state is State.SUCCESS
    assert [key for key in stored_objects(settings) if key.startswith("batches/")] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", ""), ("POST", "/webhook/redeliver")],
)
async def test_nobody_knows_a_batch_that_is_not_there(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, f"/v1/batches/bat_nobody{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "batch_not_found")


async def test_a_task_outlives_its_batch(client: httpx.AsyncClient, store: Store) -> None:
    """A task of a batch that was deleted is a task like any other."""
    batch_id = await submit(client, 1)
    await finish_next(store, BROKEN)
    assert (await client.delete(f"/v1/batches/{batch_id}")).status_code == 204

    assert (await client.post(f"/v1/tasks/{task_id_of(batch_id, 0)}/retry")).status_code == 202
    assert await finish_next(store) == "line 1"

    assert (await client.get(f"/v1/batches/{batch_id}")).status_code == 410


async def test_other_tasks_are_submitted_as_ever(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/tasks", json=body())

    view = (await client.get(answer.headers["location"])).json()
    assert (view["batch_id"], view["custom_id"]) == (None, None)
