"""The histograms of this process: numbers for each series, which are read when they are scraped.

Where this process makes spans, each bucket also has an exemplar: its latest value that belongs to a recorded trace,
with the id of that. Only the format of OpenMetrics shows them.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from threading import Lock
from typing import Any

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.samples import Exemplar

from penstock.lazy_import import lazy_import
from penstock.telemetry import traces
from penstock.telemetry.instruments import UNITS, Instrument

spans = lazy_import("penstock.telemetry.spans")

Series = tuple[tuple[str, str], ...]
"""Labels in a form that can be a key."""


class Histogram:
    """Counts values in buckets. Recording in one of OpenTelemetry's takes forty calls, this takes one."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._counts: dict[Series, list[int]] = {}
        self._sums: dict[Series, float] = {}
        self._exemplars: dict[tuple[Series, int], Exemplar] = {}
        self._counting = Lock()

    def report(self, series: Series, value: float) -> None:
        """Count a value in the first bucket whose bound it does not exceed. May be called by any thread."""
        bounds = self._instrument.buckets
        bucket = bisect_left(bounds, value)
        with self._counting:
            if series not in self._counts:
                self._counts[series] = [0] * (len(bounds) + 1)
            self._counts[series][bucket] += 1
            self._sums[series] = self._sums.get(series, 0.0) + value
        if traces.IS_ON and (trace_id := spans.sampled_trace_id()):
            self._exemplars[series, bucket] = Exemplar({"trace_id": trace_id}, value, round(time.time(), 3))

    def family(self) -> Metric:
        """Return all series as Prometheus has them: each bucket with the number of values in it and in those below."""
        i = self._instrument
        family = HistogramMetricFamily(i.exported, i.help, labels=i.labels, unit=UNITS[i.unit].removeprefix("_"))
        names = [*map(str, i.buckets), "+Inf"]
        with self._counting:
            now = [(series, [*counts], self._sums[series]) for series, counts in self._counts.items()]
        for series, counts, total in now:
            labels = dict(series)
            exemplars = [self._exemplars.get((series, bucket)) for bucket in range(len(names))]
            buckets: list[Any] = [*zip(names, accumulate(counts), exemplars, strict=True)]
            family.add_metric([labels[name] for name in i.labels], buckets, total)
        return family


class Histograms(Collector):
    """Shows histograms in every scrape of this process, those with any value."""

    def __init__(self, histograms: Iterable[Histogram]) -> None:
        self._histograms = tuple(histograms)
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield them as they are now."""
        for histogram in self._histograms:
            family = histogram.family()
            if family.samples:
                yield family
