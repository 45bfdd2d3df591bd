"""The log of a task over HTTP, and how Redis keeps it."""

import httpx
import pytest

from penstock.core.access import TENANT
from penstock.core.task import ErrorRecord, Outcome, Result
from penstock.settings import Settings
from penstock.store import Store
from penstock.store.keys import Keys
from tests.support.drive import body, claim
from tests.support.queue_snapshot import take_snapshot

pytestmark = pytest.mark.shared_server

DONE = Outcome(result=Result(data={"a": 1}))
PROBLEM = ErrorRecord(code="model_error", message="the model raised TimeoutError in infer", retryable=True)


async def submitted(client: httpx.AsyncClient, **changes: object) -> str:
    return str((await client.post("/v1/tasks", json=body(**changes))).headers["Location"])


async def test_what_was_said_is_plain_text_and_in_no_other_answer(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await store.leases.complete(await claim(store), DONE, log="--- attempt 1 ---\nprepare: <b>é</b>\n".encode())

    answer, head = await client.get(f"{path}/log"), await client.head(f"{path}/log")

    assert answer.text == "--- attempt 1 ---\nprepare: <b>é</b>\n"
    assert answer.headers["Content-Type"] == head.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "prepare:" not in (await client.get(path)).text


async def test_a_task_that_said_nothing_has_an_empty_log_and_no_key(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    path = await submitted(client)
    before = await client.get(f"{path}/log")
    await store.leases.complete(await claim(store), DONE)

    after = await client.get(f"{path}/log")

    assert (before.status_code, before.text) == (after.status_code, after.text) == (200, "")
    assert not (await take_snapshot(store.engine.client, settings.redis.namespace)).under("log:")


async def test_the_log_is_there_after_each_attempt_and_goes_with_its_task(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    path = await submitted(client)
    await store.leases.retry(await claim(store), PROBLEM, delay_ms=1, log=b"--- attempt 1 ---\none\n")
    first = (await client.get(f"{path}/log")).text
    while (lease := (await store.leases.claim(worker="w", device="cpu", models=["superres-x4"])).lease) is None:
        pass
    await store.leases.fail(lease, Outcome(error=PROBLEM), log=b"--- attempt 2 ---\ntwo\n")
    both = (await client.get(f"{path}/log")).text
    await client.delete(path)
    gone, unknown = await client.get(f"{path}/log"), await client.get("/v1/tasks/tsk_0/log")

    assert (first, both) == ("--- attempt 1 ---\none\n", "--- attempt 1 ---\none\n--- attempt 2 ---\ntwo\n")
    assert (gone.status_code, gone.json()["code"]) == (410, "result_expired")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")
    assert not (await take_snapshot(store.engine.client, settings.redis.namespace)).under("log:")


async def test_a_lost_lease_adds_nothing_and_a_repeated_settle_adds_once(
    client: httpx.AsyncClient, store: Store
) -> None:
    path = await submitted(client)
    lost = await claim(store)
    await store.leases.release(lost, log=b"released\n")
    lease = await claim(store)
    assert not await store.leases.complete(lost, DONE, log=b"too late\n")

    for _ in range(2):
        assert await store.leases.complete(lease, DONE, log=b"done\n")

    assert (await client.get(f"{path}/log")).text == "released\ndone\n"


async def test_all_attempts_together_are_bounded_by_their_beginning_and_end(
    client: httpx.AsyncClient, store: Store
) -> None:
    path = await submitted(client)
    long = "".join(f"line {number}\n" for number in range(5000)).encode()
    for _ in range(6):
        await store.leases.release(await claim(store), log=long)
    await store.leases.complete(await claim(store), DONE, log=b"the last line\n")

    log = (await client.get(f"{path}/log")).text
    lines = log.splitlines()
    (cut,) = [line for line in lines if line.startswith("[...")]
    kept = len(log) - len(cut) - 1
    assert len(log) <= 64 * 1024
    assert (lines[0], lines[-1]) == ("line 0", "the last line")
    left_out = 6 * len(long) + len(b"the last line\n") - kept
    assert abs(int(cut.split()[1]) - left_out) < 300, "but for the marks of before"


async def test_a_damaged_key_of_a_log_hinders_neither_its_task_nor_its_reader(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    path = await submitted(client)
    lease = await claim(store)
    key = Keys(settings.redis.namespace).of_root(f"log:{lease.id}")
    await store.engine.client.execute_command("LPUSH", key, "x")  # type: ignore[no-untyped-call]
    read = (await client.get(f"{path}/log")).text

    assert await store.leases.complete(lease, DONE, log=b"new\n")
    assert (read, await store.tasks.log(lease.id, TENANT)) == ("", "new\n")
