"""Logs that machines and people can read, without secrets; metrics under their documented names."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from loguru import logger
from prometheus_client.parser import text_string_to_metric_families

from penstock.core.task import Verb
from penstock.settings import TelemetrySettings
from penstock.telemetry import exposition, logs, metrics
from penstock.telemetry.instruments import INSTRUMENTS
from penstock.telemetry.metrics_server import MOST_CONNECTIONS
from penstock.telemetry.traces import accept_traceparent, trace_id
from tests.support.quiet import quiet_logs

DIGITS = "0af7651916cd43dd8448eb211c80319cb7ad6b7169203331"
CANARY = "canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    quiet_logs()


@pytest.fixture
def json_logs(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    logs.set_up_logs(TelemetrySettings(log_format="json", log_level="DEBUG"), process="test")
    return capsys


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


def test_a_line_is_one_json_object_with_its_context(json_logs: pytest.CaptureFixture[str]) -> None:
    with logger.contextualize(task="tsk_1", trace="0af7"):
        logger.bind(seconds=0.5).info("attempt ended")

    (line,) = lines(json_logs)
    assert {k: line[k] for k in ("level", "message", "process", "task", "trace", "seconds")} == {
        "level": "INFO",
        "message": "attempt ended",
        "process": "test",
        "task": "tsk_1",
        "trace": "0af7",
        "seconds": 0.5,
    }


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
def test_the_line_of_a_request_is_that_of_the_logger_and_keeps_to_its_level(
    level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"method": "GET", "route": "/v1/tasks", "status": 200, "ms": 1.5}
    logs.set_up_logs(TelemetrySettings(log_format="json", log_level=level), process="api")  # type: ignore[arg-type]
    before = logs.line_fields.set({"request_id": "req_1", "trace_id": DIGITS[:32]})
    for quiet in ("DEBUG", "INFO"):
        logs.write_line(quiet, "request", method="GET", route="/v1/tasks", status=200, ms=1.5)
        logger.bind(**fields).log(quiet, "request")
    logs.line_fields.reset(before)

    written = [line | {"time": ""} for line in lines(capsys)]
    assert len(written) == {"DEBUG": 4, "INFO": 2, "WARNING": 0}[level]
    assert written[::2] == written[1::2]
    assert all(line["request_id"] == "req_1" for line in written)


def test_a_line_of_a_request_that_cannot_be_written_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    is_answered = False
    reader, writer = os.pipe()
    os.close(reader)
    logs.set_up_logs(TelemetrySettings(log_format="json"), process="api")
    with suppress(BrokenPipeError), os.fdopen(writer, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(BrokenPipeError):
            stream.write("a line\n")

        logs.write_line("INFO", "request", method="GET", route="/v1/tasks", status=200, ms=1.5)
        is_answered = True

    assert is_answered


def test_on_a_terminal_the_line_of_a_request_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up_logs(TelemetrySettings(log_format="human"), process="api")
    logs.write_line("INFO", "request", method="GET", route="/v1/tasks", status=200, ms=1.5)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("api  GET /v1/tasks 200 1.5 ms")


def test_lo2_what_users_send_cannot_break_a_line(json_logs: pytest.CaptureFixture[str]) -> None:
    logger.bind(name='evil\n{"level": "FAKE"}\x1b[31m').warning("got {braces} and %s")

    (line,) = lines(json_logs)
    assert line["name"] == 'evil\n{"level": "FAKE"}\x1b[31m'


def test_a_traceback_never_shows_local_variables(json_logs: pytest.CaptureFixture[str]) -> None:
    def fail(key: str) -> None:
        raise ValueError(f"a key of {len(key)} characters")

    try:
        fail(CANARY)
    except ValueError:
        logger.exception("failed")

    (line,) = lines(json_logs)
    assert "ValueError" in str(line["exception"])
    assert CANARY not in json.dumps(line)


def test_lines_of_libraries_are_json_too(json_logs: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("some.library").warning("odd: %s {x}", "value")

    (line,) = lines(json_logs)
    assert (line["message"], line["logger"]) == ("odd: value {x}", "some.library")


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    logs.set_up_logs(TelemetrySettings(log_format="human", log_level="DEBUG"), process="worker-cpu")
    return capsys


def rows(captured: pytest.CaptureFixture[str]) -> list[str]:
    """What stands behind the time."""
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in captured.readouterr().err.splitlines()]


def test_the_events_of_every_task_are_short_rows_on_a_terminal(terminal: pytest.CaptureFixture[str]) -> None:
    task_id, trace = "tsk_01a226a93be1b6fa48a07f6b77614798", "ab" * 16
    with logger.contextualize(task_id=task_id, attempt=1, model="superres-x4", trace_id=trace):
        logger.bind(outcome=Verb.COMPLETE, seconds=22.954).info("attempt ended")
    with logger.contextualize(request_id="req_d48a164e1714429b6aeedfcf", trace_id=trace):
        logger.bind(method="GET", route="/v1/tasks/{task_id}", status=200, ms=2.3).info("request")
        logger.bind(method="GET", route="/v1/tasks/{task_id}", status=404, ms=2.3).info("request")

    told = rows(terminal)
    assert told == [
        f"cpu  {task_id} complete superres-x4 23 s",
        "cpu  GET /v1/tasks/{task_id} 200 2.3 ms",
        "cpu  GET /v1/tasks/{task_id} 404 2.3 ms request_id=req_d48a164e1714429b6aeedfcf",
    ]
    assert max(map(len, told[:2])) <= 80 - len("09:36:17 ")


def test_a_terminal_shows_values_as_people_write_them(terminal: pytest.CaptureFixture[str]) -> None:
    logger.bind(
        outcome=Verb.RETRY, models=[f"m{n}" for n in range(7)], due=None, is_late=True, why="no room", of={"a": 1.0}
    ).warning("odd {x} <red>")
    logger.bind(name='evil\n{"level": "FAKE"}\x1b[31m').info("two\nlines")

    assert rows(terminal) == [
        'cpu  WARNING odd {x} <red> outcome=retry models=m0,m1,m2,m3,m4,… (7) is_late=true why="no room" of=a:1',
        r'cpu  two\nlines name="evil\\n{\"level\": \"FAKE\"}\\x1b[31m"',
    ]


@pytest.mark.parametrize(("status", "shown"), [(("FAILED", "CANCELED"), "FAILED,CANCELED"), ("DOWN", "DOWN")])
def test_a_terminal_shows_a_status_that_is_none_of_http(
    terminal: pytest.CaptureFixture[str], status: object, shown: str
) -> None:
    logger.bind(status=status, deleted=2).info("tasks deleted by filter")

    assert rows(terminal) == [f"cpu  tasks deleted by filter status={shown} deleted=2"]


def test_a_terminal_shows_a_traceback_below_its_event(terminal: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("broken {y} <b>")
    except ValueError:
        logger.exception("failed")

    first, *below = rows(terminal)
    assert first == "cpu  ERROR failed"
    assert below[-1] == "ValueError: broken {y} <b>"


def test_every_instrument_is_exported_under_its_documented_name() -> None:
    program = (
        "from penstock.telemetry import exposition, metrics as t\n"
        "for key, i in t.INSTRUMENTS.items():\n"
        "    t.report(key, 1, **{label: 'x' for label in i.labels})\n"
        "print(exposition.scrape().decode())\n"
    )
    text = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    samples = {s.name: s.labels for f in text_string_to_metric_families(text) for s in f.samples}

    for instrument in INSTRUMENTS.values():
        name = instrument.exported + ("_count" if instrument.kind == "histogram" else "")
        assert set(samples[name]) == set(instrument.labels)


def test_a_histogram_counts_a_value_in_every_bucket_whose_bound_it_does_not_exceed() -> None:
    program = (
        "from threading import Thread\n"
        "from penstock.telemetry import exposition, metrics\n"
        "def report():\n"
        "    for value in (0.5, 1.0, 3.0, 40.0):\n"
        "        metrics.report('device.batch.tiles', value, model='x', device='cpu')\n"
        "threads = [Thread(target=report) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(exposition.scrape().decode())\n"
    )
    scraped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    (family,) = [f for f in text_string_to_metric_families(scraped) if f.name == "penstock_device_batch_tiles"]
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}
    rest = {sample.name: sample.value for sample in family.samples if "le" not in sample.labels}

    assert buckets == {"1.0": 16, "2.0": 16, "4.0": 24, "8.0": 24, "16.0": 24, "32.0": 24, "+Inf": 32}
    assert rest == {"penstock_device_batch_tiles_count": 32, "penstock_device_batch_tiles_sum": 8 * 44.5}


def test_the_series_of_versions_that_come_and_go_are_bounded() -> None:
    code = (
        "from penstock.telemetry import exposition, metrics\n"
        "for number in range(500):\n"
        "    for key in ('attempts', 'task.duration'):\n"
        "        metrics.report(key, model=f'face@{number}')\n"
        "print(exposition.scrape().decode())\n"
    )
    scraped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    families = {one.name: one for one in text_string_to_metric_families(scraped)}
    attempts = {one.labels["model"]: one.value for one in families["penstock_attempts"].samples}
    durations = {one.labels["model"] for one in families["penstock_task_duration_seconds"].samples}

    assert len(attempts) == metrics.MOST_MODELS + 1
    assert attempts["face@0"] == 1
    assert attempts[metrics.OTHER_MODEL] == 500 - metrics.MOST_MODELS
    assert durations == attempts.keys()


def test_the_metrics_of_children_are_merged_and_a_dead_one_is_left_out() -> None:
    metrics.report("tasks.submitted", model="merged", priority="low")
    port = exposition.serve_metrics("127.0.0.1", 0)
    children = {"alive": f"http://127.0.0.1:{port}/metrics", "dead": "http://127.0.0.1:9/metrics"}
    merged = exposition.serve_children("127.0.0.1", 0, lambda: children)

    with urllib.request.urlopen(f"http://127.0.0.1:{merged}/metrics") as answer:
        text = answer.read().decode()

    assert 'penstock_tasks_submitted_total{model="merged",priority="low",process="alive"} 1.0' in text
    assert 'process="dead"' not in text


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nHost:"])
def test_the_oldest_connection_to_the_port_of_metrics_makes_room(
    said: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    port = exposition.serve_metrics("127.0.0.1", 0)
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(100)]
        for connection in held[-MOST_CONNECTIONS:]:
            connection.sendall(said)
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).close()

        first, last = held[0].recv(1), held[-1]
        last.setblocking(False)
        with pytest.raises(BlockingIOError):
            last.recv(1)

    assert first == b""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("header", [None, "", "junk", "00-xyz-1-01", "01-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_trace_is_started_where_none_comes_in(header: str | None) -> None:
    made = accept_traceparent(header, DIGITS)

    assert made == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert trace_id(made) == DIGITS[:32]


def test_a_callers_trace_is_kept() -> None:
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    assert accept_traceparent(header, DIGITS) == header
    assert trace_id(header) == "4bf92f3577b34da6a3ce929d0e0e4736"


def teardown_module() -> None:
    logger.remove()
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
