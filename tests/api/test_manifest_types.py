"""The results of a batch under the media type that a client prefers: some read JSONL by one of its names only."""

import httpx
import pytest

from penstock.store import Store
from tests.api.test_batches import finish_next, submit

pytestmark = pytest.mark.shared_server


@pytest.mark.parametrize(
    ("accept", "called"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson, */*;q=0.5", "application/x-ndjson"),
        ("application/jsonl;q=0.2, application/x-ndjson", "application/x-ndjson"),
        ("application/jsonl", "application/jsonl"),
        ("application/jsonl, application/x-ndjson", "application/jsonl"),
        ("application/*", "application/jsonl"),
        ("*/*", "application/jsonl"),
        ("application/json", "application/jsonl"),
        ("", "application/jsonl"),
    ],
)
async def test_the_results_of_a_batch_come_by_the_name_that_the_client_prefers(
    client: httpx.AsyncClient, store: Store, accept: str, called: str
) -> None:
    batch_id = await submit(client, 1)
    await finish_next(store)

    answer = await client.get(f"/v1/batches/{batch_id}/results", headers={"Accept": accept})
    default = await client.get(f"/v1/batches/{batch_id}/results")

    assert (answer.status_code, answer.headers["Content-Type"], answer.headers["Vary"]) == (200, called, "Accept")
    assert answer.content == default.content != b""
