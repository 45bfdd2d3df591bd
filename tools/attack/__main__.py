"""A hostile session against a real server on loopback: what does each attempt get, and does a healthy client notice?

    python -m tools.attack [--short] [--only silent,body]

Starts `penstock up` with 1,024 files and deadlines of 3 s (1 s in a short run) instead of 30 and 75 s, and runs a
legitimate task before and after the attempts. A healthy client in a process of its own asks every 10 ms; the last
column is its longest wait. The exit status is 1 if an attempt got what it should not get, or the healthy client waited
too long.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from tests.support.drive import data_uri, image
from tools.attack.attempt import Attempt, Outcome
from tools.attack.prober import probing
from tools.attack.table import ATTEMPTS
from tools.attack.target import HEALTHY, Target, under_attack

COLUMNS = 80
SLACK = 6
"""A short run may be on a busy machine: the healthy client may wait so many times as long."""
USUAL_TIMES = 5
"""A task after the session may take this many times what it took before."""
LEAST_S = 0.5
TASKS = 5


class Row(Struct):
    """One attempt: its outcome, and the moments between which the healthy client's waits count."""

    attempt: Attempt
    outcome: Outcome
    began: float
    ended: float
    slack: int
    waited_s: float = 0.0

    @property
    def is_right(self) -> bool:
        return self.outcome.is_right and self.waited_s <= self.attempt.patience_s * self.slack


def main() -> int:
    """Run the session and print its table; return the exit status."""
    options = arguments()
    words = options.only.split(",")
    chosen = [one for one in ATTEMPTS if any(word in one.name for word in words)]
    chosen = [one for one in chosen if one.is_in_short or not options.short]
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="attack-") as home,
        under_attack(Path(home), is_short=options.short) as target,
    ):
        before_s = task_s(target)
        with probing(target.url, HEALTHY) as waits:
            time.sleep(0.5)
            rows = [run(attempt, target) for attempt in chosen]
        after_s = task_s(target)
    for row in rows:
        row.waited_s = waits.longest(row.began, row.ended)
    usual_s = waits.longest(0, rows[0].began)
    is_usual = after_s <= max(USUAL_TIMES * before_s, LEAST_S)
    console = Console(width=COLUMNS)
    console.print(table(rows))
    console.print(
        f"{os.cpu_count()} cores, load average before {load:.1f}; longest wait before: {usual_s * 1000:.0f} ms"
    )
    console.print(f"a task took {before_s * 1000:.0f} ms before, {after_s * 1000:.0f} ms after")
    return 0 if is_usual and all(row.is_right for row in rows) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer of everything, in 20 s")
    parser.add_argument("--only", default="", help="attempts whose name has one of these words, such as silent,body")
    return parser.parse_args()


def run(attempt: Attempt, target: Target) -> Row:
    """Run one attempt."""
    began = time.monotonic()
    outcome = attempt.run(target)
    return Row(attempt, outcome, max(began, outcome.began), time.monotonic(), SLACK if target.is_short else 1)


def task_s(target: Target) -> float:
    """Return how long a legitimate task takes: the median of a few."""
    task = {"model": "noop-v1", "input": {"image_url": data_uri(image())}, "reuse": False}
    took = []
    with target.system.client() as client:
        for _ in range(TASKS):
            began = time.monotonic()
            answer = client.post("/v1/tasks", json=task, headers={"Prefer": "wait=20"}).raise_for_status()
            took.append(time.monotonic() - began)
            assert answer.json()["status"] == "SUCCESS", answer.text
    return sorted(took)[TASKS // 2]


def table(rows: Sequence[Row]) -> Table:
    """Format the attempts."""
    found = Table(box=None, pad_edge=False)
    for name in ("", "attempt", "got", "healthy"):
        found.add_column(name, justify="right" if name == "healthy" else "left", no_wrap=name in ("", "healthy"))
    for row in rows:
        sign = "ok" if row.is_right else "FAIL"
        found.add_row(sign, row.attempt.name, row.outcome.got, f"{row.waited_s * 1000:.0f} ms")
    return found


if __name__ == "__main__":
    sys.exit(main())
