"""Who feeds a batch is killed, frozen and stopped: no line is lost, and none becomes two tasks."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.batch import Batch
from penstock.core.task import Outcome, Result
from penstock.settings import Settings
from penstock.store import BatchStore, Store, connect
from tests.support.api_server import ServerProcess
from tests.support.drive import MODEL, URL, data_uri, image
from tests.support.lengths import at_length
from tests.support.processes import up
from tests.support.queue_snapshot import check_places, take_snapshot

LINES = 2_000
DONE = Outcome(result=Result(data={"score": 7.5}))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """All lines may be tasks at once, so that feeding them takes a while."""
    return replace(settings, queue=replace(settings.queue, batch_window=LINES))


async def submit(server: ServerProcess, api_key: str) -> str:
    body = "\n".join(json.dumps({"custom_id": f"{n}", "input": {"image_url": URL}}) for n in range(LINES))
    headers = {"X-API-Key": api_key, "content-type": "application/jsonl"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        answer = await client.post(
            "/v1/batches", params={"options": json.dumps({"defaults": {"model": MODEL}})}, content=body
        )
    return str(answer.raise_for_status().json()["batch_id"])


async def fed(batches: BatchStore, batch_id: str, lines: int) -> Batch:
    """The batch when so many of its lines are tasks."""
    async with asyncio.timeout(40):
        while (batch := await batches.batch(batch_id, "default")).fed < lines:
            await asyncio.sleep(0.002)
    return batch


async def run_all(store: Store) -> Counter[str]:
    """End every task that waits; how often each line was run."""
    seen: Counter[str] = Counter()
    while lease := (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease:
        assert lease.request.line is not None
        seen[lease.request.line.custom_id] += 1
        assert await store.leases.complete(lease, DONE)
    return seen


@pytest.mark.parametrize("number", [signal.SIGKILL, *at_length(signal.SIGSTOP)])
async def test_another_feeder_goes_on_at_the_line_where_the_first_one_was(
    settings: Settings, api_key: str, store: Store, batches: BatchStore, number: signal.Signals
) -> None:
    with ServerProcess(settings) as first, ServerProcess(settings) as second:
        second.process.send_signal(signal.SIGSTOP)
        batch_id = await submit(first, api_key)
        before = await fed(batches, batch_id, 100)
        first.process.send_signal(number)
        second.process.send_signal(signal.SIGCONT)

        after = await fed(batches, batch_id, LINES)
        first.process.send_signal(signal.SIGCONT)  # a frozen one comes back, and goes on with what it was doing
        seen = await run_all(store)
        ended = await batches.batch(batch_id, "default")

    assert before.fed < LINES, "it was stopped midway"
    assert after.epoch > before.epoch
    assert seen == Counter({f"{n}": 1 for n in range(LINES)})
    assert (ended.state, ended.ended) == ("COMPLETED", LINES)
    async with connect(settings.redis) as client:
        check_places(await take_snapshot(client, settings.redis.namespace))


async def test_a_feeder_that_is_stopped_hands_its_batches_back(
    settings: Settings, api_key: str, batches: BatchStore
) -> None:
    with ServerProcess(settings) as server:
        batch_id = await submit(server, api_key)
        await fed(batches, batch_id, 100)
        server.process.terminate()
        assert await asyncio.to_thread(server.process.wait, 20) == 0

    leases, _ = await batches.lease(lease_s=1, most=1)

    assert (await batches.batch(batch_id, "default")).fed < LINES
    assert [lease.id for lease in leases] == [batch_id]


def test_a_batch_goes_through_a_whole_penstock(tmp_path: Path) -> None:
    lines = [{"custom_id": f"{n}", "input": {"image_url": data_uri(image(8 + n))}} for n in range(60)]
    models = {"PENSTOCK_MODELS_MODULES": "penstock.models.noop", "PENSTOCK_MODELS_SERVE": "noop-v1"}
    with up(tmp_path / "up", GPU_IDS="cpu", PENSTOCK_QUEUE_BATCH_WINDOW="20", **models) as system:
        with system.client() as client:
            path = client.post("/v1/batches", json={"lines": lines, "defaults": {"model": "noop-v1"}}).headers[
                "location"
            ]
            etag, seen = "", []
            while not seen or seen[-1]["status"] == "RUNNING":
                answer = client.get(path, headers={"If-None-Match": etag})
                if answer.status_code == 200:
                    seen.append(answer.json())
                    etag = answer.headers["etag"]
            rows = [json.loads(row) for row in client.get(f"{path}/results").text.splitlines()]
            lines_total = {
                tuple(labels.items()): value for labels, value in system.metrics()["penstock_batches_lines_total"]
            }

    assert (seen[-1]["status"], seen[-1]["counts"]["succeeded"]) == ("COMPLETED", 60)
    assert all(sum(view["counts"].values()) == 2 * 60 for view in seen), "each line is counted once at any moment"
    assert all(view["counts"]["queued"] + view["counts"]["running"] <= 20 for view in seen)
    assert {row["custom_id"]: row["result"]["data"] for row in rows} == {f"{n}": {"ok": True} for n in range(60)}
    assert sum(lines_total.values()) == 60
