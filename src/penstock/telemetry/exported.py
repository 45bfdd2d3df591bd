"""Counters and gauges as instruments of the OpenTelemetry SDK, whose Prometheus exporter shows them.

The SDK is imported when a process is first scraped: it takes a tenth of the time in which a process starts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from prometheus_client.registry import REGISTRY, Collector

from penstock.telemetry.instruments import INSTRUMENTS

Read = Callable[[], Iterable[tuple[float, dict[str, str]]]]
"""Returns the values of an instrument, each with its labels."""


def collector_of(reads: Mapping[str, Read]) -> Collector:
    """Return what collects these instruments, by their names in `INSTRUMENTS`, each time with what `reads` return."""
    # Without exemplars and target info: nobody reads them, and they would cost time in every scrape.
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
    provider = MeterProvider([reader], exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)
    meter = provider.get_meter("penstock")
    for key, read in reads.items():
        i = INSTRUMENTS[key]
        create = meter.create_observable_counter if i.kind == "counter" else meter.create_observable_gauge
        create(i.name, [_observer(read)], i.unit, i.help)
    REGISTRY.unregister(reader._collector)  # who calls this shows it, also in the scrape that goes on
    return reader._collector


def _observer(read: Read) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for value, labels in read():
            yield Observation(value, labels)

    return observe
