"""`penstock bench` as it is typed: its files, its exit statuses, and what it says when something is wrong."""

import json
import os
import signal
import socket
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from penstock.bench.figures import STAGES, Report
from penstock.bench.processes import tree
from tests.support.processes import Process, up

FAILING = """
import numpy as np

from penstock.errors import InvalidOutput
from penstock.models.base import BaseModelRunner, Params, Work, model_runner

pytestmark = pytest.mark.at_length


@model_runner("fails-v1")
class Fails(BaseModelRunner[Params]):
    def prepare(self, source, params):
        return Work([np.zeros(1)])

    def infer(self, tiles, work):
        return tiles

    def postprocess(self, work, params, output):
        raise InvalidOutput("it always fails")
"""


def bench(tmp_path: Path, *options: str, **environ: str) -> tuple[int, str]:
    """Exit status and all that was printed."""
    process = Process(["bench", *options], {"GPU_IDS": "cpu", "COLUMNS": "120"} | environ, tmp_path / "log")
    status = process.popen.wait(120)
    return status, (tmp_path / "log").read_text()


def noop(tmp_path: Path, *options: str, **environ: str) -> tuple[dict[str, Any], str]:
    """The figures of a run that must succeed, and its table."""
    status, text = bench(tmp_path, "--model", "noop-v1", "--json", str(tmp_path / "run.json"), *options, **environ)
    assert status == 0, text
    return json.loads((tmp_path / "run.json").read_text()), text


@pytest.mark.at_length
def test_the_figures_of_a_closed_loop_are_plausible(tmp_path: Path) -> None:
    report, text = noop(tmp_path, "--tasks", "20", "--clients", "2", "--priority-mix", "high=1,normal=3")

    assert set(report) == set(Report.__struct_fields__)
    assert (report["model"], report["mode"]) == ("noop-v1", "closed loop, 2 clients")
    assert (report["tasks"], report["failed"], report["errors"]) == (20, 0, {})
    assert report["tasks_per_s"] == pytest.approx(20 / report["wall_s"], rel=0.01)
    assert report["input_megapixels_per_s"] == pytest.approx(report["tasks_per_s"] * 64 * 48 / 1e6, rel=0.02)
    assert report["output_megapixels_per_s"] == 0
    assert {name: latency["seen"]["n"] for name, latency in report["latency_ms"].items()} == {
        "high": 5,
        "normal": 15,
        "all": 20,
    }
    for latency in report["latency_ms"].values():
        for part in ("submit", "seen", "queue", "run"):
            assert 0 < latency[part]["p50"] <= latency[part]["p90"] <= latency[part]["p99"] <= latency[part]["max"]
        assert latency["seen"]["max"] < report["wall_s"] * 1000
    assert tuple(report["stages_ms"]) == STAGES
    assert 0 <= report["device_busy"] < 1
    assert 0 < report["cpu_s_per_task"] < report["wall_s"] * report["machine"]["cores"]
    assert 30e6 < report["peak_pss_bytes"] < 2e9
    assert 0 < report["start_to_ready_s"] < 60
    assert report["bare"] is None
    assert [sample["number"] for sample in report["samples"]] == list(range(20))
    for word in ("tasks/s", "PSS", "start to ready", "p99", "accepted to claimed"):
        assert word in text


@pytest.mark.at_length
def test_the_bare_loop_runs_the_images_of_the_load_in_the_same_run(tmp_path: Path) -> None:
    report, text = noop(tmp_path, "--tasks", "5", "--bare")

    bare = report["bare"]
    assert (bare["device"], bare["runs"]) == ("cpu", 5)
    assert bare["ratio"] == pytest.approx(report["tasks_per_s"] / bare["tasks_per_s"], rel=0.05)
    assert bare["before_megapixels_per_s"] > 0
    assert bare["after_megapixels_per_s"] > 0
    assert bare["bound"] > 0
    assert "× the bare loop" in text


@pytest.mark.at_length
@pytest.mark.parametrize("rate", ["20", "inf"])
def test_an_open_loop_sends_without_waiting(tmp_path: Path, rate: str) -> None:
    report, _ = noop(tmp_path, "--tasks", "10", "--rate", rate)

    assert report["tasks"] == 10
    assert report["submits_per_s"] > 0
    assert report["mode"].startswith("open loop")


@pytest.mark.at_length
def test_a_client_that_would_rather_wait_sees_every_end(tmp_path: Path) -> None:
    report, _ = noop(tmp_path, "--tasks", "5", "--wait")

    assert (report["tasks"], report["failed"]) == (5, 0)
    assert report["mode"] == "closed loop, 8 clients, Prefer: wait"


@pytest.mark.at_length
@pytest.mark.parametrize(("lines", "batches"), [pytest.param((), 1, marks=pytest.mark.at_length), (("7",), 3)])
def test_batches_are_followed_to_their_end(tmp_path: Path, lines: tuple[str, ...], batches: int) -> None:
    report, text = noop(tmp_path, "--batch", *lines, "--tasks", "20", "--priority-mix", "high=1,normal=3")

    samples = report["samples"]
    assert [sample["number"] for sample in samples] == list(range(20))
    assert Counter(sample["priority"] for sample in samples) == {"high": 5, "normal": 15}
    assert len({(sample["accepted_s"], sample["seen_s"]) for sample in samples}) == batches
    ends_s = min(sample["due_s"] for sample in samples) + report["wall_s"] + 0.001
    assert all(0 <= sample["due_s"] < sample["accepted_s"] < sample["seen_s"] <= ends_s for sample in samples)
    assert all(sample["started"] >= sample["created"] for sample in samples)
    assert report["latency_ms"]["all"]["queue"]["n"] == 20
    assert report["mode"] in text


@pytest.mark.at_length
def test_a_batch_is_as_long_as_a_request_may_be(tmp_path: Path) -> None:
    report, _ = noop(tmp_path, "--batch", "--tasks", "20", PENSTOCK_LIMITS_MAX_BATCH_BYTES="20000")

    assert report["failed"] == 0
    assert 1 < len({sample["accepted_s"] for sample in report["samples"]}) < 20


@pytest.mark.at_length
def test_batches_that_are_refused_are_failures(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    options = ("--model", "noop-v1", "--batch", "2", "--tasks", "4", "--no-bare", "--json", str(file))
    status, text = bench(tmp_path, *options, PENSTOCK_QUEUE_MAX_BATCHES="1")

    report = json.loads(file.read_text())
    assert (status, report["failed"]) == (1, 2), text
    assert report["errors"] == {"refused queue_full": 2}


@pytest.mark.at_length
def test_a_duration_ends_the_run(tmp_path: Path) -> None:
    report, _ = noop(tmp_path, "--duration", "1", "--clients", "1")

    assert report["tasks"] >= 1
    assert all(sample["due_s"] < 1 for sample in report["samples"])


@pytest.mark.at_length
@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs penstock-server[bench]")
@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_timeline_is_drawn(tmp_path: Path, suffix: str, begins: bytes) -> None:
    picture = tmp_path / f"run.{suffix}"

    noop(tmp_path, "--tasks", "4", "--plot", str(picture))

    assert picture.read_bytes().startswith(begins)
    if suffix == "svg":
        assert all(f"<!-- {stage} -->" in picture.read_text() for stage in (*STAGES, "device"))


@pytest.mark.at_length
def test_a_task_that_fails_is_counted_and_makes_the_exit_status_one(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    report = tmp_path / "run.json"

    status, text = bench(
        tmp_path,
        *("--model", "fails-v1", "--tasks", "3", "--no-bare", "--json", str(report)),
        PENSTOCK_MODELS_MODULES="failing",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )

    assert status == 1, text
    figures = json.loads(report.read_text())
    assert (figures["tasks"], figures["failed"]) == (3, 3)
    assert figures["errors"] == {"FAILED invalid_output": 3}
    assert figures["latency_ms"] == {}
    assert "invalid_output × 3" in text


@pytest.mark.at_length
def test_a_running_server_is_measured_as_far_as_it_can_be_seen(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    with up(tmp_path / "up", GPU_IDS="cpu", PENSTOCK_MODELS_MODULES="penstock.models.noop") as system:
        place = ("--url", system.url, "--api-key", system.api_key)
        alone, _ = noop(tmp_path, *place, "--tasks", "3")
        with_metrics, _ = noop(tmp_path, *place, "--tasks", "3", "--metrics-url", system.metrics_url)
        wrong_metrics = bench(tmp_path / "image", *place, "--no-bare", "--tasks", "1", "--metrics-url", "nowhere")
        wrong_key = bench(tmp_path / "image", "--url", system.url, "--api-key", "a-key-that-nobody-knows")
        wrong_model = bench(tmp_path / "image", *place, "--model", "nothing-v9")

    assert (alone["peak_pss_bytes"], alone["start_to_ready_s"], alone["device_busy"]) == (None, None, None)
    assert 0 <= with_metrics["device_busy"] < 1
    assert with_metrics["cpu_s_per_task"] > 0
    assert wrong_metrics[0] == wrong_key[0] == 78
    assert "--metrics-url: nowhere" in wrong_metrics[1]
    assert "Traceback" not in wrong_metrics[1]
    assert "--api-key" in wrong_key[1]
    assert wrong_model[0] == 78
    assert "it serves image-scoring-v1, noop-v1, superres-x4" in wrong_model[1]


@pytest.mark.at_length
@pytest.mark.parametrize(
    ("number", "in_background"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_run_that_is_broken_off_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, in_background: bool
) -> None:
    """The background jobs of a script ignore SIGINT."""
    options = ["bench", "--model", "noop-v1", "--duration", "60", "--bare"]
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_background else signal.getsignal(signal.SIGINT)
    process = Process(options, {"GPU_IDS": "cpu", "TMPDIR": str(tmp_path)}, tmp_path / "log")
    signal.signal(signal.SIGINT, ours)
    until = time.monotonic() + 60
    pids: list[int] = []
    while len(pids) < 5 and time.monotonic() < until:
        time.sleep(0.02)
        pids = [pid for child in process.children() for pid in tree(child)]

    status = process.stop(number)

    assert len(pids) == 5, "up with its three, and the bare loop"
    assert status == 1
    assert "Traceback" not in process.log.read_text()
    assert not list(tmp_path.glob("penstock-bench-*"))
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_an_address_where_nobody_answers_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    status, text = bench(tmp_path, "--url", f"http://127.0.0.1:{port}")

    lines = [line for line in text.splitlines() if line.startswith("penstock:")]
    assert status == 78
    assert "Traceback" not in text
    assert len(lines) == 1
    assert f"http://127.0.0.1:{port}" in lines[0]
    assert "leave --url out" in lines[0]


@pytest.mark.parametrize(
    ("options", "environ", "says"),
    [
        (("--clients", "2", "--rate", "1"), {}, "not both"),
        (("--priority-mix", "urgent=1"), {}, "high=1"),
        (("--images", "/nothing/here.png"), {}, "/nothing/here.png"),
        (("--model", "noop-v1"), {"GPU_IDS": "7"}, "there is no GPU 7"),
    ],
)
def test_what_keeps_a_run_from_being_one_is_said_in_one_line(
    tmp_path: Path, options: tuple[str, ...], environ: dict[str, str], says: str
) -> None:
    status, text = bench(tmp_path, *options, **environ)

    assert status == 78, text
    assert "Traceback" not in text
    assert says in next(line for line in text.splitlines() if line.startswith("penstock:"))
