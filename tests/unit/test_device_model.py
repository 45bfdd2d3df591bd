"""The arithmetic of the simulation: times of the model, gaps with their causes, cores and waits."""

import io
import threading
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Outcome, Priority, State, Task
from penstock.settings import WorkerSettings
from tools.device_model import causes, table
from tools.device_model.cards import CARDS, Card, device_of
from tools.device_model.causes import CAUSES, Moments, busy_at_full_speed, gaps, seconds_by_cause
from tools.device_model.codec_rates import CodecRates
from tools.device_model.load import Sent
from tools.device_model.plan import Plan
from tools.device_model.record import Entry, Kind, Recorder, read
from tools.device_model.report import Report, report
from tools.device_model.session import SimulatedSession
from tools.device_model.simulation import Measured, MeasuredWorker, Run
from tools.device_model.timeline import Series, batches_before, idle
from tools.device_model.workers import Spent, WorkerProcess

RATES = CodecRates(decode_mp_per_s=200, encode_mp_per_s=200, bytes_per_px=0.2)
QUICK = Card(
    name="quick", mpx_per_s=1000, launch_s=1e-3, pcie_bytes_per_s=1e9, memory_bytes=2**34, cores=4, ram_bytes=2**30
)


def entry(kind: Kind, start: float, end: float, label: str = "", size: int = 1, thread: int = 7) -> Entry:
    return Entry(kind, start, end, thread, label, size)


# --- the model of a card ------------------------------------------------------------------------------------


def test_a_batch_takes_its_launches_and_its_pixels() -> None:
    h100 = CARDS["H100"]
    assert h100.compute_s(8 * 512**2) == pytest.approx(h100.launch_s + 8 * 512**2 / 55e6)
    assert h100.compute_s(0) == h100.launch_s


def test_a_copy_from_pageable_memory_is_slower() -> None:
    assert CARDS["T4"].copy_s(12 * 10**9) == pytest.approx(1.0)
    assert CARDS["T4"].copy_s(10**6, page_locked=False) > 5 * CARDS["T4"].copy_s(10**6)


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_a_described_card_has_the_batches_and_the_memory_of_a_gpu(card: Card) -> None:
    device = device_of(card, 3, WorkerSettings())
    assert (device.kind, device.name, device.batches, device.cores) == ("cuda", "cuda:3", (1, 2, 4, 8), card.cores)
    assert 0 < device.memory_limit_bytes < card.memory_bytes


def run_at_once(session: SimulatedSession, tiles: np.ndarray, threads: int) -> None:
    session.run(tiles)  # the first run of a shape is not recorded
    started = [threading.Thread(target=session.run, args=(tiles,)) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def test_one_run_computes_at_a_time_and_every_output_is_there(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "record"))
    session = SimulatedSession(Plan(card=QUICK, rates=RATES, slowed=2, record=""), recorder)
    run_at_once(session, np.zeros((2, 64, 32, 3), np.uint8), threads=4)
    computed = sorted((e.start, e.end) for e in read(tmp_path / "record") if e.kind == "compute")
    assert len(computed) == 4
    assert all(before[1] <= after[0] for before, after in pairwise(computed))
    assert all(end - start >= 2 * QUICK.compute_s(2 * 64 * 32) for start, end in computed)
    pixels, numbers = session.run(np.zeros((2, 64, 32, 3), np.uint8))
    assert (pixels.shape, pixels.dtype, numbers.shape) == ((2, 256, 128, 3), np.uint8, (2,))
    (floats,) = session.run(np.zeros((1, 3, 64, 32), np.float32))
    assert (floats.shape, floats.dtype) == ((1, 3, 256, 128), np.float32)


def test_a_batch_is_recorded_with_the_tasks_whose_tiles_it_holds(tmp_path: Path) -> None:
    session = SimulatedSession(Plan(card=QUICK, rates=RATES, slowed=1, record=""), Recorder(str(tmp_path / "record")))
    batch = np.zeros((4, 8, 8, 3), np.uint8)
    session.run(batch)
    for place, label in zip(batch, ("a", "a", "b"), strict=False):  # the fourth place is padding
        session.stacked(place, label)
    session.run(batch)
    session.run(batch)
    found = read(tmp_path / "record")
    assert [e.label for e in found if e.kind == "compute"] == ["a,b", ""]
    assert [e.size for e in found if e.kind == "infer"] == [3, 0]


# --- timelines and causes -----------------------------------------------------------------------------------


def test_a_series_knows_what_has_begun_and_ended() -> None:
    series = Series([(0, 10, 2), (5, 6, 1)])
    assert [series.active(at) for at in (-1, 0, 5.5, 7, 10)] == [0, 2, 3, 2, 0]
    assert (series.begun(7), series.ended(7)) == (3, 1)


def test_what_lies_between_batches_is_idle() -> None:
    entries = [entry("compute", 1, 3), entry("compute", 4, 6), entry("compute", 5, 7), entry("up", 3, 4)]
    assert idle(entries, 0, 10) == [(0, 1), (3, 4), (7, 10)]
    assert idle(entries, 2, 6) == [(3, 4)]


def test_a_wait_is_counted_in_batches_from_the_one_that_computes() -> None:
    entries = [entry("compute", n, n + 1, "low" if n < 3 else "low,high") for n in range(5)]
    assert batches_before(entries, "high", since=1.5) == 2
    assert batches_before(entries, "high", since=3.5) == 0
    assert batches_before(entries, "hig", since=0) is None


RECORDS: dict[str, list[Entry]] = {
    "copy up": [entry("up", 0, 2)],
    "copy down": [entry("stack", -1, 0), entry("down", 0, 2)],
    "hand-over": [entry("wait", 0, 2), entry("down", 0, 2), entry("stack", -1, 0)],
    "stacking": [entry("stack", 0, 2), entry("down", 0, 2)],
    "outputs": [entry("decode", -2, -1, size=3), entry("accept", 0, 2)],
    "event loop": [entry("decode", -2, -1, size=3)],
    "codec threads": [entry("encode", 0, 2), entry("decode", 0, 2)],
    "slots": [entry("encode", 0, 2)],
    "decoding": [entry("decode", 0, 2), entry("encode", -2, -1)],
    "memory": [entry("need", 0, 0), entry("encode", -2, -1)],
    "claims": [entry("encode", -2, -1)],
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_gap_has_the_cause_that_its_record_shows(cause: str) -> None:
    moments = Moments(RECORDS[cause], claimed=[-3], slots=1, codec_threads=2)
    assert moments.cause(1) == cause


def test_a_gap_with_two_causes_becomes_two_gaps() -> None:
    moments = Moments([entry("stack", 0, 1), entry("up", 1, 2)], claimed=[], slots=8, codec_threads=2)
    found = gaps([(0, 2)], moments)
    assert [gap.cause for gap in found] == ["stacking", "copy up"]
    assert seconds_by_cause(found) == pytest.approx({"stacking": 1.0, "copy up": 1.0}, abs=0.05)
    assert sum(gap.end - gap.start for gap in found) == pytest.approx(2)


def test_what_is_not_slowed_is_a_larger_share_at_full_speed() -> None:
    # Of 100 s, 90 compute and 1 is a hand-over; ten times as fast, 9 s compute, 0.9 are other gaps, and 1 is the same.
    assert busy_at_full_speed(0.90, {"hand-over": 0.01, "slots": 0.09}, slowed=10) == pytest.approx(9 / 10.9)
    assert busy_at_full_speed(0.9, {"slots": 0.1}, slowed=10) == 0.9
    assert set(causes.NOT_SLOWED) <= set(CAUSES)


# --- the report ---------------------------------------------------------------------------------------------


def task(label: str, priority: Priority, *, started: int, finished: int) -> Task:
    return Task(
        id=label, tenant="default", caller="me", state=State.SUCCESS, stage="done", priority=priority,
        request=Request(model="m", inputs={"image": Source(key="k")}, params={}, output=OutputOptions()),
        epoch=1, failures=0, crashes=0, created=0, started=started, finished=finished, start_by=None, deadline=None,
        expires=None, worker="card-0", progress=None, position=None, outcome=Outcome(), attempts=(), reuse="miss",
        version=1,
    )  # fmt: skip


def measured(slowed: float) -> Measured:
    """Ten seconds, of which the device computes eight, with one task of each priority."""
    names = {2: "codec-0", 3: "codec-high-0", 4: "tiles-0", 5: "cuda:0-0"}
    entries = [entry("thread", 0, 0, name, thread=number) for number, name in names.items()]
    entries += [entry("compute", n, n + 1, "low", size=4_000_000) for n in range(100, 107)]
    entries += [entry("compute", 108, 109, "high", size=4_000_000), entry("encode", 101, 106), entry("infer", 100, 108)]
    entries += [entry("decode", 106, 106.5, "high")]
    cpu_s = {1: 0.5, 2: 1.0, 3: 0.25, 4: 2.0, 5: 0.1, 6: 0.15}
    worker = MeasuredWorker(
        process=WorkerProcess(id="card-0", pid=1, record=Path(), metrics_url=""),
        slots=8,
        entries=entries,
        before=Spent(at=100, busy_s=3, cpu_s=dict.fromkeys(cpu_s, 1.0)),
        after=Spent(at=110, busy_s=11.2, cpu_s={thread: 1 + s for thread, s in cpu_s.items()}),
    )
    low, high = (
        Sent(id=n, label=n, priority=p, megapixels=2) for n, p in (("low", Priority.LOW), ("high", Priority.HIGH))
    )
    return Measured(
        run=Run(card=CARDS["H100"], rates=RATES, slowed=slowed),
        workers=[worker],
        redis_cpu_s=0.2,
        lock=0.1,
        sent={"low": low, "high": high},
        tasks={
            "low": task("low", Priority.LOW, started=99_000, finished=107_000),
            "high": task("high", Priority.HIGH, started=105_500, finished=111_000),
        },
    )


def test_busy_and_idle_shares_add_up_and_rates_are_those_of_the_real_card() -> None:
    found = report(measured(slowed=5))
    assert found.busy == pytest.approx(0.8)
    assert found.busy + sum(found.idle_by_cause.values()) == pytest.approx(1)
    assert found.busy_metric == pytest.approx(0.82)
    assert found.seconds == pytest.approx(2)
    assert (found.tasks_per_s, found.mpx_per_s) == pytest.approx((0.5, 1.0))  # one ended within the ten seconds
    assert found.computed_mpx_per_s == pytest.approx(8 * 4 * 5 / 10)
    assert found.longest_gap_ms == pytest.approx(200)


def test_cores_needed_are_cpu_seconds_times_the_factor_by_seconds() -> None:
    found = report(measured(slowed=5))
    assert found.own_cores == pytest.approx(
        {"codec": 0.625, "tiles": 1.0, "device": 0.05, "loop": 0.25, "other": 0.075}
    )
    assert found.redis_cores == pytest.approx(0.1)
    assert found.codec_cores == pytest.approx(0.55)  # they are slowed already
    assert found.lock == pytest.approx(0.5)
    assert found.cores_here == pytest.approx(0.4)
    assert found.all_cores == pytest.approx(2.65)


def test_a_task_of_high_priority_is_counted_by_the_batches_that_went_before() -> None:
    found = report(measured(slowed=5))  # claimed at 105.5 s, decoded until 106.5, on the device from 108
    assert (found.high_waits, found.high_waits_from_claim) == ({1: 1}, {2: 1})


def test_the_tables_fit_a_terminal_of_80_columns() -> None:
    found = report(measured(slowed=5))
    console = Console(width=80, file=io.StringIO())
    with console.capture() as printed:
        console.print(table.details(found), table.overview([found]))
    lines = printed.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("80.0%" in line and "H100" in line for line in lines)


def test_a_report_comes_back_from_its_json() -> None:
    found = report(measured(slowed=5))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found
