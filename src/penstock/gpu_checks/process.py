"""Runs one check in a process of its own, within its limit: one that hangs or breaks the device costs only itself."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress

import msgspec
from msgspec import Struct

from penstock.gpu_checks.machine import uuid_of
from penstock.gpu_checks.table import GpuCheck
from penstock.gpu_checks.verdicts import ERROR, Figures
from penstock.local.children import die_with_parent, python
from penstock.settings import Settings, clean_environment, environment_of
from penstock.worker.devices import Placement

GRACE_S = 10.0
"""How long a check, and the `penstock up` that it may have started, may take to end after SIGTERM."""


STOPS = {signal.SIGINT, signal.SIGTERM}


class Measured(Struct, frozen=True, kw_only=True):
    """The figures of a check up to its end, whether that was its own or not."""

    figures: Figures
    seconds: float


def measure(check: GpuCheck, place: Placement, settings: Settings) -> Measured:
    """Run a check. Why it ended early, if it did, is in the figure `error`; those that it had before are kept.

    On KeyboardInterrupt the process is ended before that is raised again.
    """
    started = time.perf_counter()
    why = ""
    # Python drops the exception of a signal that comes in its hooks after a fork: Ctrl-C would do nothing then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        process = _started(check, place, settings, before)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # raises what came meanwhile
        out, err = process.communicate(timeout=check.limit_s)
    except subprocess.TimeoutExpired:
        why = f"it was not done within its limit of {check.limit_s} s"
        out, err = _end(process)
    except BaseException:
        _end(process)
        raise
    figures = figures_of(out)
    if why or process.returncode:
        figures.setdefault(ERROR, why or _cause(process.returncode, err))
    return Measured(figures=figures, seconds=time.perf_counter() - started)


def _started(
    check: GpuCheck, place: Placement, settings: Settings, signals: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        die_with_parent(signal.SIGTERM)

    device = msgspec.json.encode(place.device).decode()
    return subprocess.Popen(
        python("gpu-check", check.name, "--device", device, "--uuid", uuid_of(place)),
        env=clean_environment() | environment_of(settings) | place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches this process alone, which ends the other
        preexec_fn=prepare,
    )


def figures_of(output: bytes) -> dict[str, object]:
    """The figures that a check has printed, one JSON object for each line. Other lines come from libraries."""
    figures: dict[str, object] = {}
    for line in output.splitlines():
        with suppress(ValueError):
            found = json.loads(line)
            figures.update(found if isinstance(found, dict) else {})
    return figures


def _end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """End a check and what it started, and return what it had printed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE_S)
    return b"", b""  # it hangs in the driver, where no signal reaches it


def _cause(status: int, err: bytes) -> str:
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    lines = err.decode(errors="replace").strip().splitlines() or [f"its process ended with status {status}"]
    return lines[-1].removeprefix("penstock: ")[:400]
