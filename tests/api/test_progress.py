"""A success has made all of its progress, in every form in which a task is told."""

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.lease import Lease
from penstock.core.task import Outcome, Progress, Result
from penstock.store import Store
from tests.support.drive import body, claim

pytestmark = pytest.mark.shared_server

TILES = Outcome(result=Result(data={"ok": True}), execution={"device": "cpu", "tiles": 7})
UNCOUNTED = replace(TILES, execution={})


async def half_done(client: httpx.AsyncClient, store: Store) -> tuple[str, Lease]:
    """Path of a task that has said it was half done, and its lease."""
    path = (await client.post("/v1/tasks", json=body())).headers["Location"]
    lease = await claim(store)
    assert await store.leases.progress(lease, "infer", Progress(done=3, total=6))
    return path, lease


@pytest.mark.parametrize(("outcome", "tiles"), [(TILES, 7), (UNCOUNTED, 6)])
async def test_what_was_done_after_the_last_word_of_progress_counts(
    client: httpx.AsyncClient, store: Store, outcome: Outcome, tiles: int
) -> None:
    """The task may have been cut anew since then, so that the outcome knows better how much there was to do."""
    path, lease = await half_done(client, store)
    assert await store.leases.complete(lease, outcome)

    task = (await client.get(path)).json()

    assert task["progress"] == {"ratio": 1.0, "unit": "tiles", "done": tiles, "total": tiles}


async def test_a_success_that_said_no_progress_has_made_all(client: httpx.AsyncClient, store: Store) -> None:
    path = (await client.post("/v1/tasks", json=body())).headers["Location"]
    assert await store.leases.complete(await claim(store), UNCOUNTED)

    assert (await client.get(path)).json()["progress"]["ratio"] == 1


async def test_a_failure_keeps_the_progress_that_was_made(client: httpx.AsyncClient, store: Store) -> None:
    path, lease = await half_done(client, store)
    assert await store.leases.fail(lease, Outcome())

    assert (await client.get(path)).json()["progress"]["ratio"] == 0.5


async def test_the_event_of_the_end_and_a_prediction_say_the_same(client: httpx.AsyncClient, store: Store) -> None:
    path, lease = await half_done(client, store)
    assert await store.leases.complete(lease, TILES)

    events = (await client.get(f"{path}/events")).text
    prediction = (await client.get(f"/replicate/v1/predictions/{lease.id}")).json()

    assert '"progress":{"ratio":1.0,' in events
    assert prediction["logs"] == f"100%|{'#' * 20}| 7/7"
