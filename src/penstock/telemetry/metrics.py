"""Metrics: every instrument declared in one table, facts reported in the past tense.

They go through the OpenTelemetry SDK to its Prometheus exporter, one registry per process; `exposition` serves them.
Labels are bounded sets: never an id or a URL.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Literal, NamedTuple

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
TILES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Instrument(NamedTuple):
    """One metric. `name` is the OpenTelemetry name; Prometheus sees it with the unit and `_total` appended."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name in a scrape."""
        unit = {"s": "_seconds", "1": ""}[self.unit]
        return self.name.replace(".", "_") + unit + ("_total" if self.kind == "counter" else "")


INSTRUMENTS: dict[str, Instrument] = {
    i.name.removeprefix("penstock."): i
    for i in (
        Instrument("penstock.tasks.submitted", "counter", "1", ("model", "priority"), "Tasks accepted"),
        Instrument("penstock.tasks.reused", "counter", "1", ("model", "how"), "Tasks ended by a run of an equal one"),
        Instrument("penstock.submits.refused", "counter", "1", ("code",), "Submits refused, by error code"),
        Instrument("penstock.tasks.finished", "counter", "1", ("model", "status", "code"), "Tasks ended"),
        Instrument("penstock.attempts", "counter", "1", ("model", "outcome"), "Attempts ended"),
        Instrument("penstock.task.wait", "histogram", "s", ("model", "priority"), "Submit to first claim", SECONDS),
        Instrument(
            "penstock.task.to_device",
            "histogram",
            "s",
            ("model", "priority"),
            "Submit to first batch on the device",
            SECONDS,
        ),
        Instrument("penstock.task.duration", "histogram", "s", ("model",), "Claim to settled, one attempt", SECONDS),
        Instrument(
            "penstock.eta.error.ratio",
            "histogram",
            "1",
            ("model",),
            "How far the time promised at submit was from the true one, as a part of that",
            RATIOS,
        ),
        Instrument(
            "penstock.stage.duration",
            "histogram",
            "s",
            ("model", "stage"),
            "One stage of one attempt",
            SECONDS,
        ),
        Instrument(
            "penstock.device.batch.tiles", "histogram", "1", ("model", "device"), "Tiles in a device batch", TILES
        ),
        Instrument("penstock.device.busy", "counter", "s", ("device",), "Time the device ran a batch"),
        Instrument("penstock.preemptions", "counter", "1", ("device",), "Batches that passed over a started task"),
        Instrument("penstock.tasks.in_flight", "gauge", "1", ("device",), "Tasks claimed and not settled"),
        Instrument(
            "penstock.worker.spool",
            "gauge",
            "1",
            ("device", "place"),
            "Results that wait for the storage: on disk, or in memory where the spool is full",
        ),
        Instrument("penstock.model.load", "gauge", "s", ("model", "device"), "Time to load and warm up"),
        Instrument("penstock.writes.fenced", "counter", "1", ("model",), "Writes of a lost lease, refused"),
        Instrument("penstock.leases.reclaimed", "counter", "1", ("status",), "Tasks taken back from dead workers"),
        Instrument("penstock.process.restarts", "counter", "1", ("child",), "Processes started again by their parent"),
        Instrument(
            "penstock.workers.hung", "counter", "1", ("child",), "Workers killed since they gave no sign of life"
        ),
        Instrument("penstock.tasks.pruned", "counter", "1", (), "Tasks deleted after their retention"),
        Instrument("penstock.uploads", "counter", "1", ("outcome",), "Uploads opened, completed, broken off, deleted"),
        Instrument("penstock.storage.condemned", "gauge", "1", (), "Keys and prefixes to be deleted from the storage"),
        Instrument("penstock.storage.orphans", "gauge", "1", (), "Objects older than a day that no record knows of"),
        Instrument("penstock.uploads.unused", "gauge", "1", (), "Uploads that no task uses"),
        Instrument("penstock.queue.depth", "gauge", "1", ("model", "priority"), "Tasks waiting"),
        Instrument("penstock.queue.oldest", "gauge", "s", ("model", "priority"), "Age of the oldest waiting task"),
        Instrument(
            "penstock.queue.device", "gauge", "s", ("model", "priority"), "Device time that what waits should take"
        ),
        Instrument("penstock.queue.paused", "gauge", "1", ("model", "priority"), "1 when nothing of it may start"),
        Instrument("penstock.tasks.stored", "gauge", "1", ("status",), "Task records, by status"),
        Instrument("penstock.records.unreadable", "gauge", "1", (), "Records that were set aside within a week"),
        Instrument("penstock.workers", "gauge", "1", ("state",), "Workers heard of within their lease"),
        Instrument("penstock.webhooks.attempts", "counter", "1", ("event", "outcome"), "Deliveries tried"),
        Instrument("penstock.webhooks.lag", "histogram", "s", ("event",), "Event to its delivery", SECONDS),
        Instrument("penstock.batches.started", "counter", "1", (), "Batches accepted"),
        Instrument(
            "penstock.batches.lines", "counter", "1", ("outcome",), "Lines of batches that were queued or ended"
        ),
        Instrument("penstock.batches.feeding", "gauge", "1", (), "Batches with lines that are no tasks yet"),
        Instrument("penstock.batches.backlog", "gauge", "1", (), "Lines of batches that are no tasks yet"),
        Instrument("penstock.store.up", "gauge", "1", (), "1 while Redis answers this process and takes writes"),
        Instrument("penstock.storage.up", "gauge", "1", (), "1 while the storage answers this process"),
        Instrument("penstock.waits", "gauge", "1", (), "Requests that wait for the end of a task"),
        Instrument(
            "penstock.http.requests",
            "histogram",
            "s",
            ("route", "method", "status"),
            "HTTP requests, without the time they were asked to wait",
            SECONDS,
        ),
    )
}
"""Every metric of Penstock; docs/reference/metrics.md is generated from it."""

Labels = dict[str, str]

Series = tuple[tuple[str, str], ...]
"""Labels as a key."""


class Meters:
    """The instruments of this process. Histograms record at once; counters and gauges keep a number for each series,
    which is read at scrape time, since that is a tenth of the work."""

    def __init__(self) -> None:
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
        meter = MeterProvider([reader], exemplar_filter=AlwaysOffExemplarFilter()).get_meter("penstock")
        self._report: dict[str, Callable[[str, float, Labels], None]] = {}
        self._record: dict[str, Callable[[float, Labels], None]] = {}
        self._values: dict[str, dict[Series, float]] = {}
        self._counting = Lock()
        for key, i in INSTRUMENTS.items():
            if i.kind == "histogram":
                self._record[key] = meter.create_histogram(
                    i.name, i.unit, i.help, explicit_bucket_boundaries_advisory=list(i.buckets)
                ).record
                self._report[key] = self._into_histogram
                continue
            self._values[key] = {}
            counts = i.kind == "counter"
            self._report[key] = self._add if counts else self._set
            create = meter.create_observable_counter if counts else meter.create_observable_gauge
            create(i.name, [self._observer(key)], i.unit, i.help)

    def report(self, key: str, value: float = 1, **labels: str) -> None:
        """Add to a counter, record in a histogram, or set a gauge. May be called by any thread."""
        self._report[key](key, value, labels)

    def replace(self, key: str, values: Iterable[tuple[float, Labels]]) -> None:
        """Set a gauge whose label sets come and go: those not given are no longer shown."""
        self._values[key] = {_series(labels): value for value, labels in values}

    @contextmanager
    def measuring(self, *keys: str) -> Iterator[None]:
        """Around what sets these gauges: when it fails they are no longer shown, since their last values say nothing of
        the present."""
        try:
            yield
        except BaseException:
            for key in keys:
                self.replace(key, ())
            raise

    def _into_histogram(self, key: str, value: float, labels: Labels) -> None:
        self._record[key](value, labels)

    def _add(self, key: str, value: float, labels: Labels) -> None:
        series, counts = _series(labels), self._values[key]
        with self._counting:
            counts[series] = counts.get(series, 0) + value

    def _set(self, key: str, value: float, labels: Labels) -> None:
        self._values[key][_series(labels)] = value

    def _observer(self, key: str) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for series, value in tuple(self._values[key].items()):
                yield Observation(value, dict(series))

        return observe


def _series(labels: Labels) -> Series:
    return tuple(sorted(labels.items()))


_meters: Meters | None = None


def report(key: str, value: float = 1, **labels: str) -> None:
    """`Meters.report` of this process."""
    meters().report(key, value, **labels)


def meters() -> Meters:
    """The instruments of this process, made at first use."""
    global _meters
    if _meters is None:
        _meters = Meters()
    return _meters


# --- trace context (W3C Trace Context, version 00) --------------------------------------------------------------

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")


def accept_traceparent(header: str | None) -> str:
    """The caller's traceparent if it is one, else a new one."""
    if header and _TRACEPARENT.match(header):
        return header
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str | None) -> str | None:
    """The trace id in a traceparent."""
    match = _TRACEPARENT.match(traceparent or "")
    return match[1] if match else None
