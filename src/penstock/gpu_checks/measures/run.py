"""Runs one measurement in this process, and prints its figures as they come."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.gpu_checks.measures.arena import arena
from penstock.gpu_checks.measures.copies import copies
from penstock.gpu_checks.measures.options import options
from penstock.gpu_checks.measures.product import watch_warnings
from penstock.gpu_checks.measures.right import right
from penstock.gpu_checks.measures.stages import stages
from penstock.gpu_checks.measures.start import start
from penstock.gpu_checks.measures.stop import stop
from penstock.gpu_checks.measures.switch import switch
from penstock.gpu_checks.measures.tensor_cores import tensor_cores
from penstock.gpu_checks.measures.who import who
from penstock.gpu_checks.verdicts import ERROR
from penstock.models.onnxruntime import golden
from penstock.settings import Settings


class Subject(Struct, frozen=True, kw_only=True):
    """What a check looks at: the device, its name in the driver's tool, and the settings of its worker."""

    device: Device
    uuid: str
    settings: Settings


MEASURES: dict[str, Callable[[Subject], Iterator[dict[str, Any]]]] = {
    "who": lambda on: who(on.device, on.uuid),
    "right": lambda on: right(on.device),
    "tensor-cores": lambda on: tensor_cores(on.device, on.uuid),
    "switch": lambda on: switch(on.device),
    "options": lambda on: options(on.device),
    "arena": lambda on: arena(on.device),
    "copies": lambda on: copies(on.device),
    "stages": lambda on: stages(on.device),
    "stop": lambda on: stop(on.device),
    "start": lambda on: start(on.settings.worker),
}
"""Check -> what measures it. Each yields its figures as soon as it has them, since the next step may break the
device."""


def run_measure(check: str, subject: Subject) -> int:
    """Print the figures of a check, a JSON object in each line, and return the exit status.

    An error is a figure too, and so are the warnings that the parts of Penstock have logged meanwhile.
    """
    log, status = watch_warnings(), 0
    try:
        with golden.unchecked():  # `right` compares the values; a device that is wrong still has a speed
            for figures in MEASURES[check](subject):
                _print(figures)
    except Exception as error:  # noqa: BLE001  whatever ends a check is its result
        _print({ERROR: _in_one_line(error)})
        status = 1
    if warnings := list(dict.fromkeys(log.getvalue().splitlines())):
        _print({"warnings": warnings})
    return status


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {said}"


def _print(figures: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
