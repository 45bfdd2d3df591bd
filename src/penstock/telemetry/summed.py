"""The metrics of several processes that share one work, as if one process did it all."""

from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from prometheus_client.core import Metric
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.samples import Exemplar, Sample

from penstock.telemetry.exposition import fetch

ADDING_UP = frozenset({"counter", "histogram", "summary"})
"""Kinds of metrics that only grow: what a process counted before its end stays in the sum."""

STARTED = "process_start_time_seconds"

HOW_TO_MERGE: dict[str, Callable[[Iterable[float]], float]] = {
    "penstock_waits": sum,
    "penstock_connections": sum,
    "process_resident_memory_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": sum,
    "penstock_store_up": min,
    "penstock_storage_up": min,
    STARTED: min,
}
"""Gauges that are of one process each. Any other, such as the depth of a queue, is the same whoever measures it: it is
shown as the first process has it that knows it."""


class Summed(Collector):
    """The sum of what these processes count, and each gauge once.

    `processes` returns the URLs of those that live now. What one that ended had counted at the last scrape stays in the
    sum, as does that of one which does not answer: no counter goes down. `is_with_own` adds those of this process.
    """

    def __init__(self, processes: Callable[[], Sequence[str]], *, is_with_own: bool = False) -> None:
        self._processes = processes
        self._is_with_own = is_with_own
        self._last: dict[str, list[Metric]] = {}
        self._ended: list[Metric] = []
        self._reading = Lock()

    def describe(self) -> list[Metric]:
        """Return nothing: nothing is known before a scrape; without this, registering would scrape."""
        return []

    def collect(self) -> list[Metric]:
        """Ask all processes, and return the merged metrics."""
        with self._reading:  # two scrapes at a time would count a process that has ended twice
            urls = self._processes()
            for url in self._last.keys() - set(urls):
                self._end(url)
            for url in urls:
                self._take(url, fetch(url))
            own = list(REGISTRY.collect()) if self._is_with_own else []
            return merged([self._ended, *(self._last[url] for url in urls if url in self._last), own])

    def _take(self, url: str, scraped: list[Metric]) -> None:
        if not scraped:
            return
        if url in self._last and _started(self._last[url]) != _started(scraped):
            self._end(url)  # another process has got its port
        self._last[url] = scraped

    def _end(self, url: str) -> None:
        counted = [family for family in self._last.pop(url) if family.type in ADDING_UP]
        self._ended = merged([self._ended, counted])


def merged(parts: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Return the metrics of these parts as those of one process."""
    families: dict[str, list[Metric]] = {}
    for part in parts:
        for family in part:
            if family.samples:
                families.setdefault(family.name, []).append(family)
    return [_as_one(same) for same in families.values()]


def _as_one(same: list[Metric]) -> Metric:
    first = same[0]
    merge = sum if first.type in ADDING_UP else HOW_TO_MERGE.get(first.name)
    if len(same) == 1 or merge is None:
        return first
    samples: dict[tuple[object, ...], list[Sample]] = {}
    for family in same:
        for sample in family.samples:
            samples.setdefault((sample.name, *sorted(sample.labels.items())), []).append(sample)
    one = Metric(first.name, first.documentation, first.type)
    one.samples = [
        series[0]._replace(value=merge(sample.value for sample in series), exemplar=_latest(series))
        for series in samples.values()
    ]
    return one


def _latest(series: Iterable[Sample]) -> Exemplar | None:
    """The newest of the exemplars that several processes have for one bucket."""
    exemplars = [sample.exemplar for sample in series if sample.exemplar]
    return max(exemplars, key=lambda one: float(one.timestamp or 0), default=None)


def _started(families: Iterable[Metric]) -> list[float]:
    return [sample.value for family in families if family.name == STARTED for sample in family.samples]
