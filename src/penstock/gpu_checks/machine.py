"""The card and the machine that a report is about, as the driver's tool and the installed packages name them."""

import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import NamedTuple

from msgspec import Struct

from penstock import __version__
from penstock.core.device import Device
from penstock.worker.devices import Placement, cores, memory
from penstock.worker.devices.nvidia_smi import MISSING, ask, find_tool

PACKAGES = ("onnxruntime", "nvidia-", "tensorrt", "numpy", "pillow")
"""Beginnings of the names of packages that decide what a card computes, and how fast."""

NAMES = {"name": "card", "uuid": "uuid", "driver_version": "driver", "compute_cap": "compute_capability"}


class TestedMachine(Struct, frozen=True, kw_only=True):
    """What must be known to compare the figures of two cards."""

    card: str = "unknown"
    uuid: str = ""
    driver: str = "unknown"
    compute_capability: str = ""
    memory_mib: int = 0
    device: Device
    """As its worker would have it: shapes, batches, precision, options and limits."""
    penstock: str = __version__
    python: str = platform.python_version()
    system: str
    processor: str
    cores: int
    host_memory_mib: int
    packages: dict[str, str]
    date: str


class ToolAnswer(NamedTuple):
    """What nvidia-smi said: a value for each field that it knows, or in `why` the reason why it said nothing."""

    fields: dict[str, str]
    why: str
    seconds: float


def describe(place: Placement) -> TestedMachine:
    """The machine with the card of this placement. What the driver does not say is left out."""
    answer = ask_tool(["name", "uuid", "driver_version", "compute_cap", "memory.total"], uuid_of(place))
    named = {NAMES[field]: value for field, value in answer.fields.items() if field in NAMES}
    mib = answer.fields.get("memory.total", "")
    return TestedMachine(
        **named,
        memory_mib=int(mib) if mib.isdigit() else 0,
        device=place.device,
        system=platform.platform(),
        processor=_processor(),
        cores=cores(),
        host_memory_mib=memory() >> 20,
        packages=_packages(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def uuid_of(place: Placement) -> str:
    """The card of a placement, as the driver's tool takes it."""
    return place.environment.get("CUDA_VISIBLE_DEVICES", "")


def ask_tool(fields: Sequence[str], uuid: str = "") -> ToolAnswer:
    """Ask nvidia-smi for these fields of one card, or of the first."""
    tool, started = find_tool(), time.perf_counter()
    if tool is None:
        return ToolAnswer({}, MISSING, 0.0)
    which = (f"--id={uuid}",) if uuid else ()
    text, problem = ask(tool, (f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", *which))
    seconds = time.perf_counter() - started
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    row = next((row for row in rows if len(row) == len(fields)), None)
    if row is None or (problem and len(fields) == 1):  # else words of an error pass for the one cell
        return ToolAnswer({}, problem or f"nvidia-smi does not answer with {len(fields)} cells", seconds)
    known = {field: cell for field, cell in zip(fields, row, strict=True) if not cell.startswith("[")}
    return ToolAnswer(known, "", seconds)


def _packages() -> dict[str, str]:
    named = {str(d.metadata["Name"]): d.version for d in metadata.distributions()}
    return {name: named[name] for name in sorted(named) if name.lower().startswith(PACKAGES)}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123  a stream of lines, of which one is wanted
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return os.uname().machine
