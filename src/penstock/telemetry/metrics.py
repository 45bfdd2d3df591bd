"""The metrics of this process, reported as facts, such as `report("webhooks.lag", 0.3, event="succeeded")`.

Counters and gauges go through the OpenTelemetry SDK to its Prometheus exporter when they are scraped (`exported`),
histograms straight to the registry of the process; `exposition` serves them, and `instruments` has the table of all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock

from prometheus_client.core import Metric
from prometheus_client.registry import REGISTRY, Collector

from penstock.lazy_import import lazy_import
from penstock.telemetry.histograms import Histogram, Histograms, Series
from penstock.telemetry.instruments import INSTRUMENTS

exported = lazy_import("penstock.telemetry.exported")

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
            self._report[key] = partial(self._add if i.kind == "counter" else self._set, key)
        REGISTRY.register(_AtScrape({key: partial(self._read, key) for key in self._values}))

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

    def _read(self, key: str) -> Iterable[tuple[float, Labels]]:
        if key in self._reads:
            return self._reads[key]()
        return [(value, dict(series)) for series, value in tuple(self._values[key].items())]


class _AtScrape(Collector):
    """Shows counters and gauges in every scrape of this process, of which the first makes what collects them."""

    def __init__(self, reads: Mapping[str, Callable[[], Iterable[tuple[float, Labels]]]]) -> None:
        self._reads = reads
        self._made: Collector | None = None
        self._making = Lock()

    def describe(self) -> list[Metric]:
        return []  # without this, registering would scrape

    def collect(self) -> Iterable[Metric]:
        with self._making:
            self._made = self._made or exported.collector_of(self._reads)
        return self._made.collect()


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
