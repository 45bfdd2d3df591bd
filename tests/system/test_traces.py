"""A task as it is seen in Jaeger: its spans, from the client's request to the webhook, through real processes."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from penstock.worker.devices import cpu
from tests.support import slow_model
from tests.support.drive import data_uri, image
from tests.support.otlp_receiver import WITHIN_S, OtlpReceiver, ReceivedSpan, receiving
from tests.support.processes import Process, System, up, wait_for

CALLER = "00f067aa0ba902b7"
SECRET = "secret-0123456789abcdef"
STAGES = ("fetch", "prepare", "infer", "postprocess", "upload")


class Website(BaseHTTPRequestHandler):
    """Takes every webhook, and is broken for every input."""

    took: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.took.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture(scope="module")
def website() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def environ(redis_url: str, receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "REDIS_URL": redis_url,
        "GPU_IDS": "cpu",
        "MAX_RETRIES": "1",
        "PENSTOCK_REDIS_NAMESPACE": f"traced-{secrets.token_hex(6)}",
        "PENSTOCK_QUEUE_RETRY_BASE_S": "0.05",
        "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8",
        "PENSTOCK_WEBHOOKS_ALLOW_HTTP": "true",
        "PENSTOCK_WEBHOOKS_SECRETS": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_MODELS_SERVE": slow_model.MODEL,
        "PENSTOCK_STORAGE_DIRECTORY": str(tmp_path_factory.mktemp("objects")),
    }


@pytest.fixture(scope="module")
def system(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up"), **environ) as running:
        yield running


@pytest.fixture
def batching(environ: dict[str, str], client: httpx.Client, tmp_path: Path) -> Iterator[None]:
    """A worker whose device runs up to four tiles at once, as a GPU does, in the place of the one that is there."""
    device = msgspec.json.encode(replace(cpu(2), name="batching", streams=1, batches=(1, 2, 4))).decode()
    before = client.get("/v1/workers").json()["data"][0]["id"]
    worker = Process(["worker-process", "--device", device, "--id", "batching-1"], environ, tmp_path / "worker.log")
    try:
        until(lambda: len(client.get("/v1/workers").json()["data"]) == 2)
        client.post(f"/v1/workers/{before}/drain").raise_for_status()
        yield
    finally:
        client.post(f"/v1/workers/{before}/resume").raise_for_status()
        worker.stop()


@pytest.fixture
def client(system: System) -> Iterator[httpx.Client]:
    with system.client() as client:
        yield client


def traceparent(trace: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-{flags}"}


def task(**members: Any) -> dict[str, Any]:
    return {"model": slow_model.MODEL, "input": {"image_url": data_uri(image())}, "reuse": False} | members


def submit(client: httpx.Client, trace: str, flags: str = "01", **members: Any) -> str:
    answer = client.post("/v1/tasks", json=task(**members), headers=traceparent(trace, flags))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def named(spans: list[ReceivedSpan], name: str) -> ReceivedSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


def until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def has(*names: str) -> Any:
    return lambda spans: set(names) <= {span.name for span in spans}


def under(parent: ReceivedSpan, spans: list[ReceivedSpan]) -> set[str]:
    return {span.name for span in spans if span.parent == parent.id}


def test_a_task_is_one_tree_of_spans_from_the_request_to_the_webhook(
    client: httpx.Client, receiver: OtlpReceiver, website: str
) -> None:
    trace = secrets.token_hex(16)
    params, hook = {"product": "a small and a large file"}, {"url": f"{website}/{SECRET}?key={SECRET}"}
    task_id = submit(client, trace, params=params, webhook=hook)
    wait_for(client, task_id)
    spans = receiver.when(has("POST", "process slow-v1", "POST /v1/tasks"), trace)

    server, submitted = named(spans, "POST /v1/tasks"), named(spans, "submit slow-v1")
    attempt, infer, post = named(spans, "process slow-v1"), named(spans, "infer"), named(spans, "POST")
    assert (server.parent, submitted.parent, attempt.parent) == (CALLER, server.id, submitted.id)
    assert [span.kind for span in (server, submitted, attempt, post)] == ["server", "producer", "consumer", "client"]
    assert [span.service for span in (server, attempt)] == ["penstock-api", "penstock-worker"]
    assert under(attempt, spans) == {*STAGES}
    assert under(infer, spans) == {"wait for device", "device batch"}
    assert "storage put_all" in under(named(spans, "upload"), spans)
    assert server.attributes["http.response.status_code"] == 202
    assert attempt.attributes["messaging.destination.name"] == "slow-v1/normal"
    assert {span.attributes["messaging.message.id"] for span in (submitted, attempt)} == {task_id}
    assert (attempt.attributes["penstock.outcome"], attempt.is_failed) == ("complete", False)
    assert post.parent == submitted.id
    assert Website.took[-1]["traceparent"].startswith(f"00-{trace}-{post.id}-")
    assert all(
        attempt.began <= span.began <= span.ended <= attempt.ended for span in spans if span.parent == attempt.id
    )
    assert SECRET not in json.dumps(msgspec.to_builtins(spans))
    assert {headers["authorization"] for headers in receiver.headers} == {SECRET}
    assert {span.resource["deployment.environment.name"] for span in spans} == {"tests"}


def test_a_task_that_fails_says_with_which_code(client: httpx.Client, receiver: OtlpReceiver) -> None:
    trace = secrets.token_hex(16)
    wait_for(client, submit(client, trace, params={"product": "an object"}), "FAILED")
    attempt = named(receiver.when(has("process slow-v1"), trace), "process slow-v1")

    assert attempt.is_failed
    assert (attempt.attributes["error.type"], attempt.attributes["penstock.outcome"]) == (
        "model_result_invalid",
        "fail",
    )
    assert named(receiver.trace(trace), "postprocess").attributes["error.type"] == "model_result_invalid"


def test_a_refused_submit_names_its_code_and_is_no_fault_of_the_server(
    client: httpx.Client, receiver: OtlpReceiver
) -> None:
    trace = secrets.token_hex(16)
    refused = client.post(f"/v1/tasks?key={SECRET}", json=task(model="no-such"), headers=traceparent(trace))
    server = named(receiver.when(has("POST /v1/tasks"), trace), "POST /v1/tasks")

    assert server.attributes["error.type"] == refused.json()["code"]
    assert (server.attributes["http.response.status_code"], server.is_failed) == (refused.status_code, False)
    assert SECRET not in json.dumps(msgspec.to_builtins(server))


def test_a_further_attempt_is_linked_to_the_one_before_it(
    client: httpx.Client, receiver: OtlpReceiver, website: str
) -> None:
    trace = secrets.token_hex(16)
    wait_for(client, submit(client, trace, input={"image_url": f"{website}/{SECRET}.png"}), "FAILED")
    spans = receiver.when(lambda came: sum(span.kind == "consumer" for span in came) == 2, trace)

    first, second = sorted((s for s in spans if s.kind == "consumer"), key=lambda s: s.attributes["penstock.attempt"])
    assert first.parent == second.parent == named(spans, "submit slow-v1").id
    assert (first.links, second.links) == ((), ((trace, first.id),))
    assert [span.attributes["penstock.outcome"] for span in (first, second)] == ["retry", "fail"]
    assert {span.attributes["error.type"] for span in (first, second)} == {"input_download_failed"}


@pytest.mark.usefixtures("batching")
def test_a_device_batch_is_linked_to_all_of_its_tasks(client: httpx.Client, receiver: OtlpReceiver) -> None:
    trace, lines = secrets.token_hex(16), 6
    first = submit(client, secrets.token_hex(16), params={"tile_s": 0.5, "product": "file"})
    wait_for(client, first, "RUNNING", "SUCCESS")  # what comes now waits for the device, and shares it
    shared = task(params={"tile_s": 0.05, "product": "file"})
    batch = {"lines": [shared | {"custom_id": f"{n}"} for n in range(lines)]}
    client.post("/v1/batches", json=batch, headers=traceparent(trace)).raise_for_status()
    spans = receiver.when(lambda came: sum(span.kind == "consumer" for span in came) == lines, trace)

    started = named(spans, "POST /v1/batches")
    created = [span for span in spans if span.name == "create slow-v1"]
    infers = {span.id: span for span in spans if span.name == "infer"}
    shared_runs = [span for span in spans if span.name == "device batch" and len(span.links) > 1]
    assert {span.parent for span in created} == {started.id}
    assert {span.parent for span in spans if span.kind == "consumer"} == {span.id for span in created}
    assert shared_runs
    for run in shared_runs:
        assert run.attributes["penstock.device.tasks"] == len(run.links)
        assert run.parent in infers
        assert all((trace, run.id) in infers[span].links for _, span in run.links)


def test_what_the_client_does_not_sample_has_no_spans(client: httpx.Client, receiver: OtlpReceiver) -> None:
    unsampled, sampled = secrets.token_hex(16), secrets.token_hex(16)
    for trace, flags in ((unsampled, "00"), (sampled, "01")):
        wait_for(client, submit(client, trace, flags, params={"product": "file"}))
    receiver.when(has("process slow-v1", "POST /v1/tasks"), sampled)

    assert receiver.trace(unsampled) == []


def test_a_bucket_of_durations_has_the_trace_of_its_latest_value(system: System, receiver: OtlpReceiver) -> None:
    trace, accept = secrets.token_hex(16), {"Accept": "application/openmetrics-text; version=1.0.0"}
    with system.client() as client:
        wait_for(client, submit(client, trace, params={"product": "file"}))
        receiver.when(has("process slow-v1", "POST /v1/tasks"), trace)
    texts = [
        httpx.get(url, headers=accept, trust_env=False).text for url in (system.metrics_url, f"{system.url}/metrics")
    ]
    exemplars = [
        (family.name, sample.exemplar)
        for text in texts
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar
    ]

    of_trace = {name for name, exemplar in exemplars if exemplar.labels == {"trace_id": trace}}
    assert of_trace >= {f"penstock_{one}_seconds" for one in ("http_requests", "task_duration", "stage_duration")}
    assert "penstock_task_wait_seconds" in of_trace
    plain = httpx.get(system.metrics_url, trust_env=False).text
    assert "trace_id" not in plain
    assert "penstock_http_requests_seconds_bucket" in plain


def test_health_checks_and_scrapes_have_no_spans(system: System, receiver: OtlpReceiver) -> None:
    assert not {"/livez", "/readyz", "/metrics"} & {span.attributes.get("url.path") for span in receiver.spans}
