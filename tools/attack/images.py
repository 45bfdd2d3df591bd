"""Images that take minutes to decode, on a server whose operator lets them through the reader of headers."""

import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

from penstock.bench.images import image_set
from tests.support.drive import data_uri, scan_bomb
from tools.attack.attempt import Outcome
from tools.attack.target import Target

MODEL = "image-scoring-v1"
TURNS, SHORT_TURNS = 8, 2
TIMEOUT_S, SHORT_TIMEOUT_S = 3, 2
END_S = 1.0
"""A bomb ends so long after its time at the latest."""
TIMES, SHORT_TIMES = 2.0, 6.0
"""A task of high priority may take so many times what it takes alone; more in a short run, on a busy machine."""


def scan_bombs(target: Target) -> Outcome:
    """Let a bomb be decoded, again and again, and score a photo with high priority meanwhile, and as long alone."""
    timeout_s = SHORT_TIMEOUT_S if target.is_short else TIMEOUT_S
    photo, bomb = image_set([], MODEL)[0].uri, data_uri(scan_bomb(20_000, side=3000), "image/jpeg")
    alone, beside, ends = [], [], []
    with ThreadPoolExecutor(1) as thread:
        _scores(target, photo, until=time.monotonic() + timeout_s)
        for _ in range(SHORT_TURNS if target.is_short else TURNS):
            alone += _scores(target, photo, until=time.monotonic() + timeout_s)
            attack = thread.submit(_run, target, bomb, timeout_s=timeout_s)
            beside += _scores(target, photo, until=attack)
            ends.append(_attempt_s(attack.result()))
    times = statistics.median(beside) / statistics.median(alone)
    got = f"high {times:.1f} x its time, ended after {max(ends):.1f} s of {timeout_s}"
    most = SHORT_TIMES if target.is_short else TIMES
    return Outcome(got, times <= most and max(ends) <= timeout_s + END_S * (SHORT_TIMES if target.is_short else 1))


def _scores(target: Target, photo: str, *, until: float | Future[Any]) -> list[float]:
    """The seconds of each task until then."""
    took = []
    while not (until.done() if isinstance(until, Future) else time.monotonic() > until):
        began = time.monotonic()
        assert _run(target, photo, priority="high")["status"] == "SUCCESS"
        took.append(time.monotonic() - began)
    return took


def _run(target: Target, image_url: str, **options: Any) -> dict[str, Any]:
    task = {"model": MODEL, "input": {"image_url": image_url}, "reuse": False, **options}
    with target.system.client() as client:
        answer = client.post("/v1/tasks", json=task, headers={"Prefer": "wait=30"}).raise_for_status()
    return dict(answer.json())


def _attempt_s(task: dict[str, Any]) -> float:
    assert task["error"]["code"] == "execution_timeout", task
    attempt = task["attempts"][-1]
    return (datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])).total_seconds()
