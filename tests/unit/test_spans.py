"""Spans where the receiver is away, or nothing asks for them. Each program is a process of its own: whether spans are
made is known when a module is imported."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

import pytest

from penstock.settings import clean_environment, traces_wanted

NOBODY = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
SDK_WAITS_S = 30
"""How long the SDK waits for its last spans by itself."""

AWAY = """
import time
from penstock.settings import TelemetrySettings
from penstock.telemetry import spans
from penstock.telemetry.logs import set_up_logs
from penstock.telemetry.traces import tracing

set_up_logs(TelemetrySettings(log_format="json"), process="test")
with tracing("tests", "test"):
    for _ in range(3):
        for _ in range(1000):
            with spans.span("a span"):
                pass
        time.sleep(0.3)
    ends = time.monotonic()
print(time.monotonic() - ends)
"""

SILENT = """
import time
from penstock.telemetry import span_export, spans
from penstock.telemetry.traces import tracing

span_export.END_S = 0.2
with tracing("tests", "test"):
    with spans.span("a span"):
        pass
    ends = time.monotonic()
print(time.monotonic() - ends)
"""

OFF = """
import sys
from penstock.api import app, submits
from penstock.telemetry import traces
from penstock.telemetry.traces import tracing
from penstock.worker import process, attempt, stages
from penstock.worker.batcher import device_runs
from penstock.webhooks.sender import Sender
from penstock.storage import LocalStorage

with tracing("tests", "test"):
    pass
around = (submits.submit, attempt.Attempts.run, stages.Stages.__call__, device_runs.DeviceRuns.infer, Sender.post)
around = [one.__qualname__ for one in (*around, LocalStorage.put)]
print([name for name in around if "span" in name or "traced" in name])
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | environ
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)


def test_a_receiver_that_is_away_costs_one_line_and_holds_nothing_up() -> None:
    finished = run(AWAY, **NOBODY, OTEL_BSP_SCHEDULE_DELAY="20", OTEL_EXPORTER_OTLP_TIMEOUT="0.1")

    lines = [line for line in finished.stderr.splitlines() if "spans" in line]
    assert len(lines) == 1
    assert "spans cannot be sent, and are dropped" in lines[0]
    assert "Traceback" not in finished.stderr
    assert float(finished.stdout) < SDK_WAITS_S / 2


def test_a_process_that_ends_does_not_wait_for_a_receiver_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        finished = run(SILENT, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="60")

    assert float(finished.stdout) < SDK_WAITS_S / 2


def test_without_an_endpoint_no_function_is_wrapped_and_nothing_of_opentelemetry_is_loaded() -> None:
    assert run(OFF).stdout.splitlines() == ["[]", "[]"]


def test_a_protocol_without_its_package_is_said_once_and_stops_nothing() -> None:
    finished = run(AWAY, **NOBODY, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")

    assert finished.stderr.count("spans are not sent") == 1


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (NOBODY, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        (NOBODY | {"OTEL_SDK_DISABLED": "True"}, False),
        (NOBODY | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (NOBODY | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_opentelemetrys_own_variables_say_whether_there_are_spans(environ: Mapping[str, str], wanted: bool) -> None:
    assert traces_wanted(environ) is wanted


def test_children_of_a_supervisor_get_the_variables_of_opentelemetry() -> None:
    assert NOBODY.items() <= clean_environment({**os.environ, **NOBODY}).items()
