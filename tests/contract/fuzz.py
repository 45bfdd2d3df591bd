"""Runs of Schemathesis against a server."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.api.prefer import MAX_WAIT_S
from tests.processes import System, up

HERE = Path(__file__).parent
PATIENCE_S = 900
WAIT_S = str(MAX_WAIT_S + 10)
"""A request may ask for the longest wait of a task."""


@contextmanager
def server(directory: Path) -> Iterator[System]:
    """With a worker, no limit of submits, and no second attempt: what is behind a made-up URL stays away."""
    with up(directory, RATE_LIMIT_PER_MINUTE="0", MAX_RETRIES="0") as system:
        yield system


def fuzz(system: System, *, max_examples: int, seed: int) -> int:
    """Make requests up and send them: how many they were. Raises AssertionError with the report of Schemathesis when
    the server does not do what its document says."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", HERE / "schemathesis.toml", "run", f"{system.url}/schema/openapi.json"),
            *("--checks", "all", "--request-timeout", WAIT_S, "--max-response-time", WAIT_S),
            *("--max-examples", str(max_examples), "--seed", str(seed)),
            *("--report", "json", "--report-json-path", report),
        ]
        environ = os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.contract.values",
            "CONTRACT_API_KEY": system.api_key,
            "PYTHONPATH": str(HERE.parents[1]),
        }
        done = subprocess.run(
            command, env=environ, cwd=directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return int(json.loads(report.read_text())["test_cases"]["generated"])
