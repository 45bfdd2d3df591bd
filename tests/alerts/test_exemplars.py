"""A real Prometheus keeps, beside the durations of tasks, the traces that say where the time went."""

import secrets
from pathlib import Path

import pytest

from tests.alerts.prometheus import until, watching
from tests.support.drive import data_uri, image
from tests.support.processes import up
from tests.support.redis_server import RedisProcess, free_port

pytestmark = [pytest.mark.alerts, pytest.mark.timeout(600)]


def test_prometheus_has_the_trace_of_a_task_as_an_exemplar_of_its_duration(
    own_redis: RedisProcess, tmp_path: Path
) -> None:
    environ = {
        "REDIS_URL": own_redis.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1",
        # Traces are recorded though nobody takes them.
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    trace = secrets.token_hex(16)
    with up(tmp_path / "penstock", **environ) as system, watching(system, tmp_path, times=5) as prometheus:
        with system.client() as client:
            headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01", "Prefer": "wait=60"}
            task = {"model": "noop-v1", "input": {"image_url": data_uri(image(8, 8))}}
            answer = client.post("/v1/tasks", json=task, headers=headers)
        assert answer.json().get("status") == "SUCCESS", answer.text

        until(lambda: trace in prometheus.traces("penstock_task_duration_seconds_bucket"))
        until(lambda: trace in prometheus.traces("penstock_http_requests_seconds_bucket"))
