"""Who is served next, over HTTP, by a real server with one worker, one slot and one for high priority."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.drive import data_uri, image
from tests.support.processes import System, up, wait_for
from tests.support.slow_model import MODEL as SLOW

pytestmark = pytest.mark.at_length

SCORING, SUPERRES = "image-scoring-v1", "superres-x4"
KEYS = {"alice": "a-key-of-alice-and-nobody-else", "bob": "a-key-of-bob-and-of-nobody-else"}
GUARD = 5


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    environ = {
        "GPU_IDS": "cpu",
        "API_KEYS": ",".join(f"{name}:{key}:read+submit+operate" for name, key in KEYS.items()),
        "RATE_LIMIT_PER_MINUTE": "0",
        "PENSTOCK_WORKER_SLOTS": "1",
        "PENSTOCK_WORKER_RESERVED_SLOTS": "1",
        "PENSTOCK_QUEUE_STARVATION_GUARD": str(GUARD),
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    with up(tmp_path_factory.mktemp("up"), **environ) as running:
        yield running


@pytest.fixture
def clients(system: System) -> Iterator[dict[str, httpx.Client]]:
    """By the names of their keys."""
    clients = {
        name: httpx.Client(base_url=system.url, headers={"x-api-key": key}, timeout=60, trust_env=False)
        for name, key in KEYS.items()
    }
    yield clients
    for client in clients.values():
        client.close()


def submit(client: httpx.Client, model: str = SLOW, url: str = "", **body: Any) -> str:
    """A run of its own; the id."""
    usual = {"model": model, "input": {"image_url": url or data_uri(image())}, "reuse": False}
    return str(client.post("/v1/tasks", json=usual | body).raise_for_status().json()["task_id"])


def submit_many(client: httpx.Client, count: int, **body: Any) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: submit(client, **body), range(count)))


@contextmanager
def paused(client: httpx.Client, model: str = SLOW) -> Iterator[None]:
    """Nothing of the model starts before the end of the block."""
    client.post(f"/v1/queues/{model}/pause").raise_for_status()
    try:
        yield
    finally:
        client.post(f"/v1/queues/{model}/resume").raise_for_status()


def started(client: httpx.Client, task_id: str) -> str:
    """When it was first claimed; it has succeeded."""
    return str(wait_for(client, task_id)["started_at"])


def before(client: httpx.Client, others: list[str], mine: str, owner: httpx.Client) -> int:
    """How many tasks of a client were claimed before this one of `owner`."""
    moment = started(owner, mine)
    return sum(started(client, other) < moment for other in others)


def test_a_normal_task_is_claimed_after_as_many_high_ones_as_the_guard_says(clients: dict[str, httpx.Client]) -> None:
    alice = clients["alice"]
    with paused(alice):
        high = submit_many(alice, 40, priority="high")
        normal = submit(alice)

    assert before(alice, high, normal, alice) <= GUARD + 1, "one may be claimed in the same millisecond"


def test_tasks_that_were_canceled_take_their_owner_nothing(clients: dict[str, httpx.Client]) -> None:
    alice, bob = clients["alice"], clients["bob"]
    with paused(alice):
        for task_id in submit_many(alice, 300):
            alice.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()
        others = submit_many(bob, 30)
        mine = submit(alice)

    assert before(bob, others, mine, alice) <= 2


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """Has a photo."""
    (tmp_path / "photo.png").write_bytes(image())
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/photo.png"
        server.shutdown()
        thread.join()


def test_a_score_by_url_waits_no_longer_than_one_that_was_sent(clients: dict[str, httpx.Client], website: str) -> None:
    alice, bob = clients["alice"], clients["bob"]
    wait_for(alice, submit(alice, SCORING))  # how long a score takes is known from here on
    with paused(alice, SCORING):
        others = submit_many(alice, 100, model=SCORING)
        by_url, sent = submit(bob, SCORING, website), submit(bob, SCORING)

    assert [before(alice, others, task_id, bob) <= 8 for task_id in (by_url, sent)] == [True, True]


def test_a_thin_image_is_quoted_the_time_of_all_that_its_tiles_compute(clients: dict[str, httpx.Client]) -> None:
    alice = clients["alice"]
    wait_for(alice, submit(alice, SUPERRES, data_uri(image(96, 96))))

    thin, square = (quoted_s(alice, *size) for size in ((4, 2500), (100, 100)))

    assert 2 * square < thin < 3 * square, "both have 10,000 pixels; 4 rows are mirrored to 8, in tiles that overlap"


def quoted_s(client: httpx.Client, width: int, height: int) -> float:
    """The device time of an image of this size; what is known of the pace is looked up every five seconds."""
    asked = {"model": SUPERRES, "input": {"image_url": data_uri(image(width, height))}}
    until = time.monotonic() + 60
    while (s := client.post("/v1/tasks/quote", json=asked).raise_for_status().json()["run_device_s"]) is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    return float(s)
