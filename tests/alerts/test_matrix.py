"""For each fault exactly the alerts of the matrix fire, and no other; and every query of the dashboards finds data.

All durations of the rules are a fifth of the shipped ones, or a half, so that eight faults take a quarter of an hour.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.faults import FAULTS, Fault, Watched, nothing, table
from tests.alerts.prometheus import Prometheus, until, watching
from tests.support.processes import up
from tests.support.redis_server import RedisProcess
from tools.observe.boards import DASHBOARDS

pytestmark = [pytest.mark.alerts, pytest.mark.timeout(900)]

LATER_S = 30.0
"""In which nothing else may fire: longer than any rule of these waits that could still come, and than the slow ones are
evaluated apart."""
VARIABLES = {"$__rate_interval": "30s", "$__range": "3m", "$model": ".*"}


@pytest.fixture(params=FAULTS, ids=lambda fault: fault.act.__name__)
def fault(request: pytest.FixtureRequest) -> Fault:
    found: Fault = request.param
    return found


@pytest.fixture
def watched(fault: Fault, own_redis: RedisProcess, tmp_path: Path) -> Iterator[Watched]:
    environ = {
        "REDIS_URL": own_redis.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_MODELS_SERVE": "slow-v1",
        "PENSTOCK_STORAGE_DIRECTORY": str(tmp_path / "objects"),
        "PENSTOCK_WEBHOOKS_ALLOW_HTTP": "true",
        "PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    with up(tmp_path / "penstock", **environ) as system, watching(system, tmp_path, times=fault.times) as prometheus:
        until(lambda: len(prometheus.ask("penstock_store_up == 1")) == 3)  # the API at both ports, and the worker
        until(lambda: bool(prometheus.ask("penstock_queue_depth")))
        yield Watched(system, own_redis, tmp_path / "objects", prometheus)


@pytest.fixture(scope="module", autouse=True)
def shown() -> Iterator[None]:
    yield
    print(f"\n{table()}")


def test_exactly_the_alerts_of_the_matrix_fire(fault: Fault, watched: Watched) -> None:
    fault.act(watched)

    expected = {(name, severity) for name, severities in fault.expected.items() for severity in severities}
    until(lambda: watched.prometheus.fired() >= expected)  # tickets come from rules that are evaluated less often
    time.sleep(LATER_S)
    assert watched.prometheus.fired() == expected
    if fault.act is nothing:
        _every_panel_has_data(watched.prometheus)


def _every_panel_has_data(prometheus: Prometheus) -> None:
    for board in DASHBOARDS:
        for panel in (panel for row in board.rows for panel in row.panels):
            found = []
            for expression, _ in panel.queries:
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                found += prometheus.ask(expression)
            assert bool(found) != bool(panel.empty), f"{board.title}: {panel.title} {found[:2]}"
