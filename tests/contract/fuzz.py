"""Runs of Schemathesis against a server."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.support.processes import System, up

HERE = Path(__file__).parent
PATIENCE_S = 900
ANSWER_S = "20"
"""No request asks for a wait of more than a second (`values`)."""

ALL_PHASES = "examples,coverage,fuzzing,stateful"
"""Those of Schemathesis. Most of the requests are of `coverage`: each value at each bound of each parameter."""


class Run(Struct, frozen=True):
    """One run: the number of requests that were sent, and the report of Schemathesis on answers that did not match
    the description or could not be checked."""

    seed: int
    sent: int
    findings: int
    report: str


@contextmanager
def server(directory: Path) -> Iterator[System]:
    """Runs a server with a worker, no limit of submits, and no retries: a made-up URL would fail each time."""
    with up(directory, RATE_LIMIT_PER_MINUTE="0", MAX_RETRIES="0") as system:
        yield system


def fuzz(system: System, *, max_examples: int, seed: int, phases: str = ALL_PHASES) -> Run:
    """Makes up requests and sends them; `max_examples` holds for each operation in each phase."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        command = [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", HERE / "schemathesis.toml", "run", f"{system.url}/schema/openapi.json"),
            *("--checks", "all", "--request-timeout", ANSWER_S, "--max-response-time", ANSWER_S),
            *("--phases", phases, "--max-examples", str(max_examples), "--seed", str(seed)),
            *("--report", "json", "--report-json-path", path),
        ]
        environ = os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.contract.values",
            "CONTRACT_URL": system.url,
            "CONTRACT_API_KEY": system.api_key,
            "PYTHONPATH": str(HERE.parents[1]),
        }
        done = subprocess.run(
            command, env=environ, cwd=directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        report = done.stdout + done.stderr
        assert path.exists(), report
        said = json.loads(path.read_text())
    counted = said["test_cases"]
    findings = counted["unique_failures"] + len(said["errors"])
    assert bool(findings) == bool(done.returncode), report
    return Run(seed=seed, sent=counted["generated"], findings=findings, report=report)
