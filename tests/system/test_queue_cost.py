"""The tool that says what the queue costs, at a size that says nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.at_length
def test_the_costs_of_the_queue_are_measured_and_written(tmp_path: Path) -> None:
    figures = tmp_path / "cost.json"
    small = ["--sizes", "100,600", "--running", "1,5", "--claims", "10", "--json", str(figures)]

    finished = subprocess.run(
        [sys.executable, "-m", "tools.queue_cost", *small],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    written = json.loads(figures.read_text())
    assert [(row["queued"], row["running"]) for row in written["lengths"]] == [(100, 0), (600, 0)]
    assert [row["running"] for row in written["running"]] == [1, 5]
    assert all(row["in_redis"] > 0 and row["p99"] >= row["p50"] > 0 for row in written["lengths"] + written["running"])
    assert 300 < written["bytes_per_task"] < 5000
    assert "Claim by the length of the queue" in finished.stdout
