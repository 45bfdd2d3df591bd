"""Serves metrics in the Prometheus text format: those of this process, or those of several on one port.

Who asks for the format of OpenMetrics gets that: it alone has exemplars. Processes that make spans ask one another for
it; others do not, since it takes longer to read.

It does not load the instruments, nor OpenTelemetry with them: a parent of processes stays small.
"""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from itertools import chain

import prometheus_client
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from penstock.net.session import read_local
from penstock.telemetry import traces
from penstock.telemetry.metrics_server import serve_app

SCRAPE_TIMEOUT_S = 2.0

OPENMETRICS = "application/openmetrics-text"


def scrape(accept: str = "") -> bytes:
    """The metrics of this process, in the Prometheus text format unless this header `Accept` asks for OpenMetrics."""
    encode, _ = choose_encoder(accept)
    return encode(REGISTRY)


def media_type(accept: str) -> str:
    """The media type of the metrics for this header `Accept`, whichever of our processes answers."""
    _, chosen = choose_encoder(accept)
    return chosen


def serve_metrics(host: str, port: int) -> int:
    """Serve the metrics of this process from a thread. Returns the port, which the system chooses for port 0."""
    return serve_app(host, port, prometheus_client.make_wsgi_app())


def serve_collector(host: str, port: int, collector: Collector) -> int:
    """Serve what this collector returns at each scrape, from a thread. Returns the port, as `serve_metrics` does."""
    registry = CollectorRegistry()
    registry.register(collector)
    return serve_app(host, port, prometheus_client.make_wsgi_app(registry))


def serve_children(
    host: str, port: int, children: Callable[[], dict[str, str]], others: Mapping[str, Collector] | None = None
) -> int:
    """Serve the metrics of this process and its children on one port, from a thread. Returns the port.

    Each series has the label `process`: `parent`, or the name of the child. `children` returns the metrics URL of each
    child, by name, at the time of each scrape; a child that does not answer within 2 s is left out of the scrape.
    `others` are shown beside them by the same label, such as several children as one.
    """
    return serve_collector(host, port, _Children(children, others or {}))


class _Children(Collector):
    def __init__(self, children: Callable[[], dict[str, str]], others: Mapping[str, Collector]) -> None:
        self._children = children
        self._others = others

    def describe(self) -> list[Metric]:
        return []  # nothing is known before a scrape; without this, registering would scrape

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        here = chain(
            [("parent", REGISTRY.collect())], ((name, other.collect()) for name, other in self._others.items())
        )
        for process, scraped in chain(here, ((name, fetch(url)) for name, url in self._children().items())):
            for family in scraped:
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                merged.samples += [s._replace(labels=s.labels | {"process": process}) for s in family.samples]
        return families.values()


def fetch(url: str) -> list[Metric]:
    """The metrics that are served at a URL; an empty list when it does not answer within 2 s."""
    accept, read = (OPENMETRICS, openmetrics_families) if traces.IS_ON else ("", text_string_to_metric_families)
    try:
        status, text = read_local(url, timeout_s=SCRAPE_TIMEOUT_S, accept=accept)
    except OSError:
        return []
    return list(read(text.decode())) if status == HTTPStatus.OK else []
