"""The metrics of this process, reported as facts, such as `report("webhooks.lag", 0.3, event="succeeded")`.

Counters and gauges go through the OpenTelemetry SDK to its Prometheus exporter, histograms straight to the registry of
the process; `exposition` serves them, and `instruments` has the table of all.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider

from penstock.telemetry.histograms import Histogram, Histograms, Series
from penstock.telemetry.instruments import INSTRUMENTS

Labels = dict[str, str]

MOST_MODELS = 200
"""Models, and versions of them, of which a process has series of their own, in the order in which it meets them: each
takes 160 lines of a worker's scrape. The others share the series of OTHER_MODEL."""

OTHER_MODEL = "other"


class Meters:
    """The instruments of this process.

    They keep numbers for each series, which are read when they are scraped: that takes a tenth of the time of a record
    in an instrument of OpenTelemetry.
    """

    def __init__(self) -> None:
        # Without exemplars and target info: nobody reads them, and they would cost time in every report and scrape.
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
        meter = MeterProvider([reader], exemplar_filter=AlwaysOffExemplarFilter()).get_meter("penstock")
        self._report: dict[str, Callable[[Series, float], None]] = {}
        self._values: dict[str, dict[Series, float]] = {}
        self._reads: dict[str, Callable[[], Iterable[tuple[float, Labels]]]] = {}
        self._counting = Lock()
        self._models: set[str] = set()
        histograms = {key: Histogram(i) for key, i in INSTRUMENTS.items() if i.kind == "histogram"}
        Histograms(histograms.values())
        for key, i in INSTRUMENTS.items():
            if i.kind == "histogram":
                self._report[key] = histograms[key].report
                continue
            self._values[key] = {}
            counts = i.kind == "counter"
            self._report[key] = partial(self._add if counts else self._set, key)
            create = meter.create_observable_counter if counts else meter.create_observable_gauge
            create(i.name, [self._observer(key)], i.unit, i.help)

    def report(self, key: str, value: float = 1, **labels: str) -> None:
        """Add to a counter, record in a histogram, or set a gauge. May be called by any thread."""
        if "model" in labels and labels["model"] not in self._models:
            labels["model"] = self._bounded(labels["model"])
        self._report[key](tuple(sorted(labels.items())), value)

    def replace(self, key: str, values: Iterable[tuple[float, Labels]]) -> None:
        """Set all series of a gauge. Series that are not among the values are no longer shown."""
        self._values[key] = {tuple(sorted(labels.items())): value for value, labels in values}

    def observe(self, key: str, read: Callable[[], Iterable[tuple[float, Labels]]]) -> None:
        """Show in each scrape what `read` returns then as the series of a counter or gauge, and nothing else."""
        self._reads[key] = read

    @contextmanager
    def measuring(self, *keys: str) -> Iterator[None]:
        """Wraps code that sets these gauges. When it fails they are no longer shown, since their last values would say
        nothing about the present."""
        try:
            yield
        except BaseException:
            for key in keys:
                self.replace(key, ())
            raise

    def _bounded(self, model: str) -> str:
        with self._counting:
            if len(self._models) < MOST_MODELS:
                self._models.add(model)
            return model if model in self._models else OTHER_MODEL

    def _add(self, key: str, series: Series, value: float) -> None:
        counts = self._values[key]
        with self._counting:
            counts[series] = counts.get(series, 0) + value

    def _set(self, key: str, series: Series, value: float) -> None:
        self._values[key][series] = value

    def _observer(self, key: str) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            if key in self._reads:
                yield from (Observation(value, labels) for value, labels in self._reads[key]())
                return
            for series, value in tuple(self._values[key].items()):
                yield Observation(value, dict(series))

        return observe


_meters: Meters | None = None
_making = Lock()


def report(key: str, value: float = 1, **labels: str) -> None:
    """Report to the instruments of this process; see `Meters.report`."""
    (_meters or meters()).report(key, value, **labels)


def meters() -> Meters:
    """The instruments of this process, made at first use."""
    global _meters
    with _making:  # threads that came first at a time would each have instruments of their own, and one be scraped
        _meters = _meters or Meters()
    return _meters
