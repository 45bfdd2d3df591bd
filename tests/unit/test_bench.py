"""The arithmetic of `penstock bench`: what is sent when, and what the figures mean."""

import os
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from penstock.bench import figures, processes
from penstock.bench.figures import Sample, percentile, spread
from penstock.bench.images import SIZES, image_set
from penstock.bench.load import halves
from penstock.bench.plan import NOOP, Plan, arrivals, parse_mix, plan_of, priorities
from penstock.bench.plot import bars, check_library, in_use, laid_out, merged
from penstock.bench.server import settings_of
from penstock.core.task import Priority
from penstock.errors import ConfigurationError
from penstock.intake.enqueue import KEPT_IN_RECORD_BYTES
from penstock.settings import RedisSettings, Settings

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"

OPTIONS: dict[str, Any] = {
    "model": "superres-x4",
    "tasks": None,
    "duration": None,
    "clients": None,
    "rate": None,
    "priority_mix": "normal=1",
    "wait": False,
    "batch": None,
    "bare": None,
    "json": None,
    "plot": None,
}


def sample(number: int = 0, **fields: Any) -> Sample:
    return Sample(**{"number": number, "image": 0, "priority": "normal", "due_s": 0.0} | fields)


# --- the plan -----------------------------------------------------------------------------------------------------


def test_a_mix_is_read_as_shares() -> None:
    assert parse_mix("high=1, normal=3") == {Priority.HIGH: 1, Priority.NORMAL: 3}


@pytest.mark.parametrize("text", ["", "high", "high=0", "high=-1", "high=x", "urgent=1", "high=1,high=2", "high=1,"])
def test_what_is_no_mix_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match="high=1"):
        parse_mix(text)


def test_priorities_come_in_their_shares_and_evenly_interleaved() -> None:
    order = list(islice(priorities({Priority.HIGH: 1, Priority.NORMAL: 3}), 40))

    assert Counter(order) == {Priority.HIGH: 10, Priority.NORMAL: 30}
    assert all(order[start : start + 4].count(Priority.HIGH) == 1 for start in range(0, 40, 4))


def test_arrivals_keep_their_rate_and_are_the_same_in_every_run() -> None:
    first, again = (list(islice(arrivals(50.0), 20_001)) for _ in range(2))

    assert first == again
    assert first[0] == 0.0
    assert first == sorted(first)
    assert 20_000 / first[-1] == pytest.approx(50, rel=0.03)


def test_without_options_a_run_is_a_closed_loop_with_a_bare_loop() -> None:
    plan = plan_of(**OPTIONS)

    assert (plan.tasks, plan.clients, plan.rate, plan.bare) == (12, 8, None, True)
    assert plan.mode == "closed loop, 8 clients"


def test_a_model_that_does_nothing_has_no_bare_loop_unless_it_is_asked_for() -> None:
    assert not plan_of(**OPTIONS | {"model": NOOP}).bare
    assert plan_of(**OPTIONS | {"model": NOOP, "bare": True}).bare


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clients": 2, "rate": 1.0}, "--clients"),
        ({"wait": True, "rate": 1.0}, "--wait"),
        ({"batch": 0, "rate": 1.0}, "--batch"),
        ({"batch": 10, "clients": 2}, "--batch"),
        ({"batch": 10, "wait": True}, "--batch"),
        ({"batch": 10, "duration": 1.0}, "--batch"),
        ({"tasks": 2, "duration": 1.0}, "--tasks or --duration"),
        ({"rate": float("inf"), "duration": 1.0}, "--tasks"),
        ({"plot": Path("run.jpg")}, ".png or .svg"),
        ({"plot": Path("/no/such/place/run.svg")}, "there is no directory /no/such/place"),
        ({"json": Path("/no/such/place/run.json")}, "there is no directory /no/such/place"),
    ],
)
def test_options_that_contradict_are_refused_with_what_to_do(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        plan_of(**OPTIONS | options)


@pytest.mark.parametrize(("lines", "mode"), [(0, "batches as long as a request may be"), (9, "batches of 9 lines")])
def test_batches_have_no_clients(lines: int, mode: str) -> None:
    plan = plan_of(**OPTIONS | {"batch": lines})

    assert (plan.tasks, plan.clients, plan.rate, plan.mode) == (12, None, None, mode)


def test_the_halves_of_the_bare_loop_are_the_images_of_the_load() -> None:
    before, after = halves(Plan(model="m", mix={}, tasks=7), 3)

    assert before + after == [0, 1, 2, 0, 1, 2, 0]
    assert len(before) - len(after) == 1


def test_a_server_of_our_own_uses_nothing_of_the_operators_and_serves_the_noop_alone() -> None:
    operators = Settings(redis=RedisSettings(url="redis://queue.example:6379/0"))

    settings = settings_of(Plan(model=NOOP, mix={}), operators)

    assert settings.redis.url == RedisSettings().url
    assert settings.models.modules == ("penstock.models.noop",)
    assert settings.models.serve == (NOOP,)
    assert settings.api.rate_limit_per_minute == 0


# --- images -------------------------------------------------------------------------------------------------------


def test_the_built_in_images_are_the_same_in_every_run() -> None:
    first, again = image_set((), "superres-x4"), image_set((), "superres-x4")

    assert first == again
    assert tuple((image.width, image.height) for image in first) == SIZES
    assert len({image.data for image in first}) == len(SIZES)


def test_a_model_that_looks_at_nothing_is_sent_an_image_that_needs_no_storage() -> None:
    (image,) = image_set((), NOOP)

    assert 0 < len(image.data) <= KEPT_IN_RECORD_BYTES


def test_files_and_directories_of_images_are_taken_by_name(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(PHOTO.read_bytes())

    images = image_set((tmp_path, PHOTO), "superres-x4")

    assert [Path(image.name).name for image in images] == ["a.JPG", "b.jpg", "photo.jpg"]
    assert images[0].megapixels == pytest.approx(0.03375)
    assert images[0].uri.startswith("data:;base64,/9j/")


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no image")

    for path, says in (("empty", "no PNG, JPEG or WebP"), ("broken.png", "broken.png"), ("nothing", "cannot read")):
        with pytest.raises(ConfigurationError, match=says):
            image_set((tmp_path / path,), "superres-x4")


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0], 51, 2.0),
        ([float(n) for n in range(1, 101)], 50, 50.0),
        ([float(n) for n in range(1, 101)], 90, 90.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 100, 100.0),
        ([float(n) for n in range(1, 1001)], 99, 990.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_a_spread_sorts_and_counts() -> None:
    assert spread([3.0, 1.0, 2.0]) == figures.Spread(n=3, p50=2.0, p90=3.0, p99=3.0, max=3.0)


def test_latencies_are_given_by_priority_and_together() -> None:
    timing = {"queue_ms": 2.0, "to_device_ms": 3.0, "total_ms": 10.0}
    seen = [("high", 1.0), ("normal", 2.0), ("normal", 4.0)]
    samples = [
        sample(priority=name, due_s=1.0, accepted_s=1.25, seen_s=1.0 + took_s, timing=timing) for name, took_s in seen
    ]

    by_name = figures.latencies(samples)

    assert {name: (latency.seen.n, latency.seen.max) for name, latency in by_name.items()} == {
        "high": (1, 1000.0),
        "normal": (2, 4000.0),
        "all": (3, 4000.0),
    }
    assert by_name["all"].submit.p50 == 250.0
    together = by_name["all"]
    assert (together.queue.p50, together.to_device.p50, together.run.p50) == (2.0, 3.0, 8.0)


def test_a_run_without_any_success_has_figures_too() -> None:
    refused = [sample(error="refused queue_full", seen_s=0.1)]

    assert figures.latencies([]) == {}
    assert figures.stage_means([]) == {}
    assert figures.submits_per_s(refused) == 0.0
    assert figures.wall_s(refused) == pytest.approx(0.1)


def test_accepted_submits_are_counted_until_the_last_answer() -> None:
    samples = [sample(due_s=1.0, accepted_s=1.5), sample(due_s=1.0, accepted_s=3.0), sample(due_s=2.0, error="refused")]

    assert figures.submits_per_s(samples) == pytest.approx(2 / 2.0)


def test_the_bare_loop_is_reckoned_for_the_very_tasks_of_the_load() -> None:
    seconds = {0: [1.0, 3.0], 1: [10.0]}
    samples = [sample(image=0), sample(image=0), sample(image=1)]

    assert figures.bare_seconds(samples, seconds) == pytest.approx(2 + 2 + 10)


def test_the_cost_of_a_tree_of_processes_counts_its_children(tmp_path: Path) -> None:
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    mark = tmp_path / "burnt"
    child = f"{burn}\nopen({str(mark)!r}, 'w').close(); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not mark.exists() and time.monotonic() < until:
            time.sleep(0.02)

        pids = list(processes.tree(process.pid))
        assert len(pids) == 2
        assert processes.cpu_s(process.pid) >= 0.3 - 2 / os.sysconf("SC_CLK_TCK")
        assert processes.pss_bytes(process.pid) > processes.pss_bytes(pids[1]) > 1_000_000
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_a_process_that_is_gone_costs_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert processes.cpu_s(process.pid) == 0.0
    assert processes.pss_bytes(process.pid) == 0


# --- the picture --------------------------------------------------------------------------------------------------


def drawn(number: int, started: float, infer_ms: float, *, waited_ms: float = 0.0, device_ms: float = 0.0) -> Sample:
    """Claimed after 20 ms, held up for 30 ms between fetch and prepare."""
    timing = {"fetch_ms": 100.0, "prepare_ms": 0.0, "infer_ms": infer_ms, "postprocess_ms": 200.0, "upload_ms": 50.0}
    timing |= {"queue_ms": 20.0, "to_device_ms": 150.0 + waited_ms, "total_ms": 400.0 + infer_ms}
    return sample(number, created=1000.0, started=1000.0 + started, timing=timing, device_ms=device_ms)


def test_the_stages_of_a_task_follow_one_another() -> None:
    rows = bars([drawn(0, 0.5, 1000.0, waited_ms=250.0), sample(1, error="FAILED internal")])

    spans = {stage: [(round(bar.start, 6), round(bar.end, 6)) for bar in row] for stage, row in rows.items()}
    assert spans == {
        "fetch": [(0.5, 0.6)],
        "prepare": [(0.63, 0.63)],
        "infer": [(0.63, 1.63)],
        "postprocess": [(1.63, 1.83)],
        "upload": [(1.83, 1.88)],
    }
    assert [round(bar.reached, 6) for bar in rows["infer"]] == [0.88]
    assert all(bar.reached == bar.start for stage, row in rows.items() if stage != "infer" for bar in row)


def test_bars_that_overlap_lie_in_lanes_of_their_own() -> None:
    rows = bars([drawn(0, 0.0, 1000.0), drawn(1, 0.5, 1000.0), drawn(2, 1.0, 1000.0)])

    assert [[bar.sample.number for bar in lane] for lane in laid_out(rows["infer"])] == [[0, 2], [1]]
    assert laid_out([]) == [[]]


def test_the_device_is_in_use_by_the_tasks_that_have_reached_it() -> None:
    """On a device of two streams: one task has both for a second, then two have one each."""
    first = drawn(0, 0.0, 1000.0, device_ms=2000.0)
    second, third = (drawn(n, 0.0, 2000.0, waited_ms=1000.0, device_ms=1000.0) for n in (1, 2))

    levels = in_use(bars([first, second, third])["infer"], 2.0)

    assert [(round(second, 6), round(level, 6)) for second, level in levels] == [(0.0, 0.0), (0.13, 1.0), (1.13, 1.0),
                                                                                 (2.13, 0.0)]  # fmt: skip


def test_a_picture_without_its_library_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'penstock-server\[bench\]'"):
        check_library()


def test_overlapping_spans_are_one() -> None:
    assert merged([(3.0, 4.0), (0.0, 1.0), (0.5, 2.0), (2.0, 2.5)]) == [(0.0, 2.5), (3.0, 4.0)]
