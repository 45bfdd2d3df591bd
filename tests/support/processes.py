"""The commands of Penstock as real processes, which tests start, kill and stop."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from penstock.settings import clean_environment

START_TIMEOUT_S = 60.0

ASKED_AGAIN_S = 10.0
"""How long a read that the API refuses with 503 is asked again: it waits for Redis less than a second, which passes on
a machine whose cores are all busy with other tests. A Redis that is really away is refused after that, too."""


class Process:
    """One running command. Its log is a file that is shown when the test fails."""

    def __init__(self, arguments: list[str], environ: dict[str, str], log: Path, stdout: Any = None,
                 python: str = sys.executable) -> None:  # fmt: skip
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [python, "-m", "penstock", *arguments],
                env=clean_environment() | environ,
                stdout=stdout or out,
                stderr=out,
                start_new_session=True,
            )

    def children(self) -> list[int]:
        """Returns the process ids of its direct children."""
        path = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def child(self, word: str) -> int:
        """Returns the child whose command line contains this word."""
        for pid in self.children():
            if word in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        raise AssertionError(f"no child {word} of {self.popen.args!r}")

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60) -> int:
        """Signals the process, waits for its end and returns the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout_s)

    def kill_all(self) -> None:
        """Kills the process and all its children with SIGKILL, as a power cut would."""
        for pid in [*self.children(), self.popen.pid]:
            os.kill(pid, signal.SIGKILL)
        self.popen.wait(10)


class _PatientTransport(httpx.HTTPTransport):
    """Asks again, as a client should, when the API has refused a read for the moment."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        give_up = time.monotonic() + ASKED_AGAIN_S
        while True:
            response = super().handle_request(request)
            is_read = request.method == "GET" and request.url.path.startswith("/v1/")
            if response.status_code != 503 or not is_read or time.monotonic() > give_up:
                return response
            response.close()
            time.sleep(0.2)


class System:
    """A whole `penstock up`."""

    def __init__(self, process: Process, address: dict[str, str]) -> None:
        self.process = process
        self.url = address["url"]
        self.metrics_url = address["metrics_url"]
        self.api_key = address["api_key"]

    def client(self) -> httpx.Client:
        """Returns a client that sends the key with every request."""
        headers = {"x-api-key": self.api_key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, transport=_PatientTransport())

    def metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Returns the labels and values of each sample by its name."""
        samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(httpx.get(self.metrics_url, trust_env=False).text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return samples


@contextmanager
def up(data_dir: Path, python: str = sys.executable, options: tuple[str, ...] = (), **environ: str) -> Iterator[System]:
    """Runs `penstock up` on free ports, stops it at the end, and shows its log if the test failed. `options` are
    further ones of the command.

    It stops without lingering, since no proxy watches /readyz here, and has no brake on wrong keys.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    arguments = ["up", "--port", "0", "--data-dir", str(data_dir), "--json", *options]
    environ = {"PENSTOCK_API_LINGER_S": "0", "PENSTOCK_API_WRONG_KEYS_PER_MINUTE": "0"} | environ
    process = Process(arguments, environ, data_dir / "up.log", subprocess.PIPE, python)
    try:
        assert process.popen.stdout is not None
        line = process.popen.stdout.readline()
        assert line, f"penstock up did not start:\n{process.log.read_text()}"
        yield System(process, json.loads(line))
    except BaseException:
        print(process.log.read_text()[-8000:])
        raise
    finally:
        process.stop()
        if process.popen.stdout is not None:
            process.popen.stdout.close()


def wait_for(client: httpx.Client, task_id: str, *statuses: str, timeout_s: float = 120) -> dict[str, Any]:
    """Polls until the task has one of these states, or any final one: less often the longer it takes, since a look
    costs 4 ms of CPU here and there."""
    wanted, pause_s = set(statuses) or {"SUCCESS"}, 0.01
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        answer = client.get(f"/v1/tasks/{task_id}")
        if answer.status_code == 503:  # on a busy machine Redis may take longer than a client is let wait for it
            time.sleep(0.2)
            continue
        view: dict[str, Any] = answer.raise_for_status().json()
        if view["status"] in wanted:
            return view
        assert view["status"] in ("PENDING", "RUNNING"), view
        time.sleep(pause_s)
        pause_s = min(0.05, 1.3 * pause_s)
    raise AssertionError(f"not {wanted} after {timeout_s} s: {answer.text}")


def penstock(here: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs one command in this folder, on the CPU, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        cwd=here,
        env=clean_environment() | {"GPU_IDS": "cpu", "COLUMNS": "300"} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def examined(here: Path, status: int, **environ: str) -> dict[str, dict[str, str]]:
    """Returns the findings of `penstock doctor` by check; it must exit with this status."""
    finished = penstock(here, "doctor", "--json", **environ)
    assert finished.returncode == status, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return {finding["check"]: finding for finding in map(json.loads, finished.stdout.splitlines())}
