"""Running again what has ended, deadlines, and what is left of a deleted task."""

import asyncio
from typing import get_args

import httpx
import pytest

from penstock.api.routes.retries import Retryable
from penstock.core.task import TRANSITIONS, ErrorRecord, Outcome, Verb
from penstock.store import Store
from tests.support.stores import MODEL

pytestmark = pytest.mark.shared_server

BODY = {"model": MODEL, "input": {"image_url": "https://example.com/photo.jpg"}}
FAILURE = Outcome(error=ErrorRecord(code="input_not_found", message="nothing there", retryable=False))


async def submit(client: httpx.AsyncClient, **headers: str) -> str:
    answer = await client.post("/v1/tasks", json=BODY, headers=headers)
    return str(answer.raise_for_status().json()["task_id"])


async def fail_next(store: Store) -> None:
    lease = (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease
    assert lease is not None
    await store.leases.fail(lease, FAILURE)


async def test_a_failed_task_is_run_again_under_its_id(client: httpx.AsyncClient, store: Store) -> None:
    task_id = await submit(client)
    await fail_next(store)

    first = await client.post(f"/v1/tasks/{task_id}/retry")
    second = await client.post(f"/v1/tasks/{task_id}/retry")

    assert (first.status_code, second.status_code) == (202, 202)
    view = first.json()
    assert (view["task_id"], view["status"], view["error"]) == (task_id, "PENDING", None)
    assert [a["outcome"] for a in view["attempts"]] == ["fail"]


async def test_a_task_that_has_succeeded_is_not(client: httpx.AsyncClient, store: Store) -> None:
    task_id = await submit(client)
    lease = (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease
    assert lease is not None
    await store.leases.complete(lease, Outcome())

    answer = await client.post(f"/v1/tasks/{task_id}/retry")

    assert (answer.status_code, answer.json()["code"]) == (409, "task_already_final")


async def test_all_failed_tasks_are_run_again_by_one_request(client: httpx.AsyncClient, store: Store) -> None:
    failed = [await submit(client) for _ in range(5)]
    for _ in failed:
        await fail_next(store)
    canceled = await submit(client)
    await client.post(f"/v1/tasks/{canceled}/cancel")

    part = (await client.post("/v1/tasks/retry", params={"status": "FAILED", "limit": 3, "all": True})).json()
    rest = (await client.post("/v1/tasks/retry", params={"status": "FAILED", "all": True})).json()

    assert (part["retried"], part["has_more"]) == (3, True)
    assert (rest["retried"], rest["has_more"]) == (2, False)
    statuses = [(await client.get(f"/v1/tasks/{i}")).json()["status"] for i in [*failed, canceled]]
    assert statuses == ["PENDING"] * 5 + ["CANCELED"]


def test_what_is_described_as_retryable_is_what_the_table_allows() -> None:
    assert set(get_args(Retryable)) == {source for source, verb in TRANSITIONS if verb is Verb.RESUBMIT}


async def test_a_filter_that_is_null_is_not_a_missing_one(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/tasks/retry", params={"status": "FAILED", "priority": "null"})

    assert (answer.status_code, answer.json()["param"]) == (422, "priority")


@pytest.mark.parametrize("status", ["SUCCESS", "RUNNING", "PENDING", "NONE"])
async def test_only_what_has_ended_without_a_result_can_be_run_again(client: httpx.AsyncClient, status: str) -> None:
    answer = await client.post("/v1/tasks/retry", params={"status": status})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("90s", 90), ("5m", 300), ("1h30m45s", 5445), ("2H", 7200)])
async def test_cancel_after_is_a_deadline(client: httpx.AsyncClient, text: str, seconds: int) -> None:
    from datetime import datetime

    view = (await client.get(f"/v1/tasks/{await submit(client, **{'Cancel-After': text})}")).json()

    left = datetime.fromisoformat(view["deadline"]) - datetime.fromisoformat(view["created_at"])
    assert left.total_seconds() == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    ("text", "code"),
    [("soon", "malformed_request"), ("", "malformed_request"), ("5x", "malformed_request"), ("1", "invalid_request"),
     ("400h", "invalid_request"), ("m", "malformed_request")],
)  # fmt: skip
async def test_a_wrong_cancel_after_is_refused(client: httpx.AsyncClient, text: str, code: str) -> None:
    answer = await client.post("/v1/tasks", json=BODY, headers={"Cancel-After": text})

    assert (answer.json()["code"], answer.json()["param"]) == (code, "Cancel-After")


async def test_header_and_member_must_agree(client: httpx.AsyncClient) -> None:
    same = await client.post("/v1/tasks", json=BODY | {"finish_within_s": 60}, headers={"Cancel-After": "1m"})
    other = await client.post("/v1/tasks", json=BODY | {"finish_within_s": 61}, headers={"Cancel-After": "1m"})

    assert (same.status_code, other.status_code) == (202, 422)


async def test_a_deleted_task_answers_410(client: httpx.AsyncClient, store: Store) -> None:
    task_id = await submit(client)
    await store.tasks.cancel(task_id, "default")
    # As if its retention had passed: the time by which it is pruned is moved, not the clock.
    await store.engine.client.zadd(store.engine.keys.finals, {task_id: 1})
    assert await store.overdue.prune() == 1

    for path in ("", "/result"):
        answer = await client.get(f"/v1/tasks/{task_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "result_expired")


FROZEN_MS = 5000
"""Long beside the 0.8 s after which Redis is given up, also where the machine is busy."""


async def test_a_frozen_redis_is_answered_with_503_within_a_second(client: httpx.AsyncClient, redis_url: str) -> None:
    import redis.asyncio as redis

    await submit(client)
    async with redis.Redis.from_url(redis_url) as other:
        await other.execute_command("CLIENT", "PAUSE", FROZEN_MS, "ALL")

        async def timed() -> tuple[int, float, str]:
            started = asyncio.get_running_loop().time()
            answer = await client.post("/v1/tasks", json=BODY)
            return answer.status_code, asyncio.get_running_loop().time() - started, answer.headers["Retry-After"]

        answers = await asyncio.gather(*(timed() for _ in range(40)))

    assert {status for status, _, _ in answers} == {503}
    assert max(seconds for _, seconds, _ in answers) < FROZEN_MS / 1000 - 0.5, "none waited for Redis"
    assert all(int(retry_after) >= 1 for _, _, retry_after in answers)
    async with asyncio.timeout(60):
        while (await client.post("/v1/tasks", json=BODY)).status_code != 202:
            await asyncio.sleep(0.05)
