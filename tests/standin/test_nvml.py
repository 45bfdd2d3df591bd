"""The health of cards, read by NVML's own Python binding from a library that stands in for the driver's."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.standin.card import Card

READ = """
import json, threading, time
from penstock.telemetry.exposition import scrape
from penstock.telemetry.nvml import watch_cards
watch_cards(UUIDS)
until = time.monotonic() + 60
def lines():
    return [line for line in scrape().decode().splitlines() if line.startswith("penstock_gpu_")]
def is_over():
    return lines() or not [t for t in threading.enumerate() if t.name == "nvml"]
while not is_over() and time.monotonic() < until:
    time.sleep(0.05)
time.sleep(PAUSE_S)
print(json.dumps(lines()))
"""


def series(card: Card, uuids: dict[str, str], *, pause_s: float = 0, **faults: object) -> dict[str, float]:
    """The series of a process that watches these cards, without the common part of their names."""
    program = READ.replace("UUIDS", repr(uuids)).replace("PAUSE_S", str(pause_s))
    lines: Iterable[Any] = card.run(program, **faults)
    return {name.removeprefix("penstock_gpu_"): float(value) for name, value in (line.split() for line in lines)}


def test_a_card_that_is_well_has_no_fault(card: Card) -> None:
    assert series(card, {"cuda:0": "GPU-aaaa"}) == {
        'memory_used_bytes{device="cuda:0"}': 2**30,
        'memory_total_bytes{device="cuda:0"}': 80 * 2**30,
        'temperature_celsius{device="cuda:0"}': 61,
        'clock_hertz{device="cuda:0"}': 1710e6,
        'power_watts{device="cuda:0"}': 251.5,
        'utilization{device="cuda:0"}': 0.87,
        'energy_joules_total{device="cuda:0"}': 7250.5,
        **{
            f'throttled{{device="cuda:0",reason="{reason}"}}': 0
            for reason in ("power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake")
        },
    }


def test_heat_errors_and_faults_are_told_apart(card: Card) -> None:
    found = series(card, {"cuda:0": "GPU-aaaa"}, throttle=0x41, ecc=2, xid=79)

    assert [name for name, value in found.items() if name.startswith("throttled") and value] == [
        'throttled{device="cuda:0",reason="hw_thermal"}'
    ]
    assert found['ecc_uncorrected{device="cuda:0"}'] == 2
    assert found['ecc_corrected{device="cuda:0"}'] == 0
    assert found['xid_errors_total{device="cuda:0",xid="79"}'] == 1


def test_a_slice_has_its_own_memory_and_the_heat_of_the_card(card: Card) -> None:
    found = series(card, {"cuda:0.mig1": "MIG-c6d4"})

    assert found['memory_total_bytes{device="cuda:0.mig1"}'] == 10 * 2**30
    assert found['temperature_celsius{device="cuda:0.mig1"}'] == 61


def test_a_card_that_comes_back_is_read_again(card: Card) -> None:
    program = """
import json, os
from penstock.telemetry.nvml import CardWatch
watch, seen = CardWatch({"cuda:0": "GPU-aaaa", "cuda:1": "GPU-bbbb"}, reopen_s=0), []
for status in ("0", "15", "0"):
    os.environ["SI_NVML"] = status
    watch.read(), watch.read()
    seen.append([labels["device"] for _, labels in watch.latest("gpu.power")])
print(json.dumps(seen))
"""

    assert card.run(program) == [["cuda:0", "cuda:1"], [], ["cuda:0", "cuda:1"]]


@pytest.mark.parametrize("faults", [{"nvml": 15}, {"nvml_init": 9}, {"without": ("libnvidia-ml.so.1",)}], ids=str)
def test_what_cannot_be_asked_has_no_series(card: Card, faults: dict[str, Any]) -> None:
    assert series(card, {"cuda:0": "GPU-aaaa"}, pause_s=0.3, **faults) == {}
