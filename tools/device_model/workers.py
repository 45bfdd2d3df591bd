"""The worker processes of a simulation, and what they have used so far."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from penstock.local.children import FEW_ARENAS, die_with_parent, python
from penstock.settings import Settings, clean_environment, environment_of
from penstock.telemetry import exposition
from penstock.worker.devices import GPU_VARIABLES
from tools.device_model.cards import device_of
from tools.device_model.plan import VARIABLE, Plan

ROOT = Path(__file__).parents[2]
BUSY = "penstock_device_busy_seconds_total"


class WorkerProcess(Struct, frozen=True, kw_only=True):
    """A worker that runs, and is ready. `record` is the file with what its model writes down."""

    id: str
    pid: int
    record: Path
    metrics_url: str


class Spent(Struct, frozen=True, kw_only=True):
    """What a worker had used at a moment, in seconds since 1970: device time by its metric, CPU time by thread."""

    at: float
    busy_s: float
    cpu_s: dict[int, float]


@contextmanager
def running_workers(plans: Sequence[Plan], settings: Settings) -> Iterator[list[WorkerProcess]]:
    """Start one worker for each plan, wait until all are ready, and kill them at the end of the block.

    Raises RuntimeError when one ends before it is ready.
    """
    started = [_started(plan, settings, number) for number, plan in enumerate(plans)]
    try:
        yield [
            WorkerProcess(id=_id(number), pid=process.pid, record=Path(plan.record), metrics_url=_url(process, reports))
            for number, (plan, (process, reports)) in enumerate(zip(plans, started, strict=True))
        ]
    finally:
        for process, reports in started:
            process.kill()
            process.wait()
            os.close(reports)


def spent_by(worker: WorkerProcess) -> Spent:
    """What this worker has used until now."""
    families = exposition.fetch(worker.metrics_url)
    busy_s = sum(sample.value for family in families for sample in family.samples if sample.name == BUSY)
    return Spent(at=time.time(), busy_s=busy_s, cpu_s=_thread_cpu_s(worker.pid))


def _started(plan: Plan, settings: Settings, number: int) -> "tuple[subprocess.Popen[bytes], int]":
    reports, writing = os.pipe()
    device = msgspec.json.encode(device_of(plan.card, number, settings.worker)).decode()
    process = subprocess.Popen(
        python("worker-process", "--device", device, "--id", _id(number), "--report-fd", str(writing)),
        env=FEW_ARENAS
        | GPU_VARIABLES
        | clean_environment()
        | environment_of(settings)
        | {VARIABLE: msgspec.json.encode(plan).decode(), "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        pass_fds=(writing,),
        preexec_fn=die_with_parent,
    )
    os.close(writing)
    return process, reports


def _id(number: int) -> str:
    return f"card-{number}"


def _url(process: "subprocess.Popen[bytes]", reports: int) -> str:
    with os.fdopen(reports, closefd=False) as lines:
        for line in lines:
            if url := msgspec.json.decode(line, type=dict[str, str]).get("metrics_url"):
                return url
    raise RuntimeError(f"a worker ended with {process.wait()} before it was ready")


def _thread_cpu_s(pid: int) -> dict[int, float]:
    """User and system time of each thread, from proc_pid_stat(5)."""
    found = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found
