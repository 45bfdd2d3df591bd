"""A real Prometheus with the shipped rules, which watches the two ports of a system."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.net.session import read_local
from tests.support.processes import System
from tests.support.redis_server import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
WITHIN_S = 180.0
SHORTEST_S = 3
"""A scrape of a busy machine takes a second and more."""

Found = list[dict[str, Any]]


def shortened(settings: Any, times: int) -> Any:
    """Returns settings of Prometheus, or rules, with all durations divided: those between two looks, those for which an
    alert waits, and the windows of expressions. Thresholds stay as they are."""
    if isinstance(settings, dict):
        return {key: _of_key(key, value, times) for key, value in settings.items()}
    if isinstance(settings, list):
        return [shortened(value, times) for value in settings]
    return settings


def _of_key(key: str, value: Any, times: int) -> Any:
    if key in ("for", "interval", "scrape_interval", "scrape_timeout", "evaluation_interval"):
        return _shorter(value, times)
    if key == "expr":
        window = re.compile(r"(?<=\[)\w+(?=\])|(?<=offset )\w+")
        return window.sub(lambda found: _shorter(found[0], times), value)
    return shortened(value, times)


def _shorter(duration: str, times: int) -> str:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]] * int(duration[:-1])
    return f"{max(SHORTEST_S, seconds // times)}s"


class Prometheus:
    """Asks a Prometheus that runs."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._process = process
        self._log = log

    def ask(self, expression: str) -> Found:
        """Returns the series of an expression; none while it does not answer yet."""
        found: Found = self._data("query", query=expression).get("result", [])
        return found

    def traces(self, expression: str) -> set[str]:
        """Returns the traces that the exemplars of the last hour name, of the series of an expression."""
        now = time.time()
        series = self._data("query_exemplars", query=expression, start=str(now - 3600), end=str(now)) or []
        return {found["labels"]["trace_id"] for one in series for found in one["exemplars"]}

    def _data(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        try:
            status, text = read_local(f"{self._url}/{path}?{query}", timeout_s=30)
        except OSError:
            status, text = HTTPStatus.SERVICE_UNAVAILABLE, b""
        if status == HTTPStatus.SERVICE_UNAVAILABLE:  # it has not opened its database yet
            assert self._process.poll() is None, self._log.read_text()
            return {}
        answer = json.loads(text)
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def is_firing(self, name: str) -> bool:
        """Whether an alert of this name fires now."""
        return bool(self.ask(f'ALERTS{{alertname="{name}", alertstate="firing"}}'))

    def fired(self) -> set[tuple[str, str]]:
        """Returns the name and the severity of every alert that has fired since the start."""
        found = self.ask('ALERTS{alertstate="firing"}[1h]')
        return {(one["metric"]["alertname"], one["metric"]["severity"]) for one in found}


@contextmanager
def watching(system: System, directory: Path, *, times: int = 1) -> Iterator[Prometheus]:
    """Runs Prometheus with the shipped rules and intervals, all durations divided by `times`."""
    program = shutil.which("prometheus") or pytest.skip("prometheus is not installed (Debian: apt install prometheus)")
    settings = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    targets = {"penstock-api": system.url, "penstock-worker": system.metrics_url}
    settings["rule_files"] = ["alerts.yml"]
    settings["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [urllib.parse.urlsplit(url).netloc]}]}
        for job, url in targets.items()
    ]
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    for name, content in (("prometheus.yml", settings), ("alerts.yml", rules)):
        (directory / name).write_text(yaml.safe_dump(shortened(content, times) if times > 1 else content))
    port, log = free_port(), directory / "prometheus.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=out,
            stderr=out,
        )
    try:
        yield Prometheus(port, process, log)
    finally:
        process.terminate()
        process.wait(30)


def until(is_so: Callable[[], bool], within_s: float = WITHIN_S) -> float:
    """Seconds until it was so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < within_s
        time.sleep(0.25)
    return time.monotonic() - started
