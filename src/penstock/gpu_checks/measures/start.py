"""Whether a whole server starts on this card, serves photos, and stops."""

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from penstock.client import Client
from penstock.errors import ConfigurationError
from penstock.gpu_checks.measures.product import UPSCALER, in_words
from penstock.local.children import die_with_parent, python
from penstock.pixels.headers import ImageBounds, probe
from penstock.settings import Settings, WorkerSettings, clean_environment, environment_of

TASKS = 4
SERIOUS = ("WARNING", "ERROR", "CRITICAL")
STILL_STARTING = "not ready yet"
"""What `up` says every now and then while it waits for the worker: how long that takes is a figure."""

SHOWN = 3
"""Lines of its log that are kept where it does not start."""


def start(worker: WorkerSettings) -> Iterator[dict[str, Any]]:
    """Yield the seconds of each part of the life of a `penstock up` with these settings of its worker.

    It has a directory, ports and a Redis of its own, so that it meets no server that is in use.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # at its limit: or its directory is left behind
    photo = (resources.files("penstock.models") / "photo.jpg").read_bytes()
    with tempfile.TemporaryDirectory(prefix="penstock-gpu-check-") as home:
        begun = time.perf_counter()
        with _up(worker, Path(home)) as (process, address):
            yield {"ready_s": time.perf_counter() - begun}
            yield from _worker_of(process)
            yield {"photo_mpx": probe(photo, ImageBounds()).megapixels}
            with Client(address["url"], address["api_key"]) as client:
                times = list(_tasks(client, photo))
            yield {"first_task_ms": times[0] * 1000, "second_task_ms": min(times[1:]) * 1000}
            yield from _worker_of(process)
            begun = time.perf_counter()
            process.terminate()
            yield {"exit_status": process.wait(), "stop_s": time.perf_counter() - begun}
        yield from _logged(Path(home) / "log")


@contextmanager
def _up(worker: WorkerSettings, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    settings = replace(Settings(), worker=worker, telemetry=replace(Settings().telemetry, log_format="json"))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            python("up", "--port", "0", "--json", "--data-dir", str(home / "data")),
            env=clean_environment() | environment_of(settings),
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=die_with_parent,
        )
        assert process.stdout is not None  # noqa: S101  a pipe
        try:
            line = process.stdout.readline()
            if not line:
                raise ConfigurationError(f"`penstock up` did not start: {_last_words(home / 'log')}")
            yield process, json.loads(line)
        finally:
            process.stdout.close()
            process.terminate()
            process.wait()


def _tasks(client: Client, photo: bytes) -> Iterator[float]:
    """Run the photo some times, each a task that computes, and yield the seconds of each."""
    for _ in range(TASKS):
        started = time.perf_counter()
        client.run(photo, UPSCALER, reuse=False)
        yield time.perf_counter() - started


def _worker_of(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the threads and the memory of the worker, as the kernel counts them."""
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with suppress(OSError):
            if b"worker-process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                yield {
                    "worker_threads": int(status["Threads"]),
                    "worker_resident_mib": _kib(status, "VmRSS") / 1024,
                    "worker_shared_mib": _kib(status, "RssShmem") / 1024,
                    "worker_locked_mib": (_kib(status, "VmLck") + _kib(status, "VmPin")) / 1024,
                }


def _kib(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0").split()[0])


def _logged(log: Path) -> Iterator[dict[str, Any]]:
    """Yield what the log says of the models, and its warnings."""
    lines = [found for line in log.read_text().splitlines() if isinstance(found := _parsed(line), dict)]
    for line in lines:
        if line.get("message") == "model loaded":
            yield {f"{line['model'].replace('-', '_')}_load_s": line["seconds"]}
        if "difference" in line:
            yield {"fp16_difference": line["difference"]}
    warnings = [line for line in lines if line["level"] in SERIOUS and line["message"] != STILL_STARTING]
    yield {"warnings": [_brief(line) for line in warnings]}


def _last_words(log: Path) -> str:
    lines = log.read_text().splitlines()
    last = [_brief(found) if isinstance(found := _parsed(line), dict) else line for line in lines[-SHOWN:]]
    said = (line.removeprefix("penstock: ") for line in lines if line.startswith("penstock: "))
    return next(said, " | ".join(last))


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _brief(line: dict[str, Any]) -> str:
    """What a line of the log says, without its time."""
    details = {name: value for name, value in line.items() if name not in ("time", "level", "message", "process")}
    return in_words(str(line.get("message")), details)
