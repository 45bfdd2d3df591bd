"""The table of metrics: the name, the labels and the meaning of each.

Labels are bounded sets, never an id or a URL. A new metric is one row here; the reference of the docs is compared with
this table.
"""

from typing import Literal, NamedTuple

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
TILES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


UNITS = {
    "s": "_seconds",
    "1": "",
    "By": "_bytes",
    "Cel": "_celsius",
    "Hz": "_hertz",
    "W": "_watts",
    "J": "_joules",
}
"""Unit of OpenTelemetry -> what Prometheus appends to the name."""


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
        return self.name.replace(".", "_") + UNITS[self.unit] + ("_total" if self.kind == "counter" else "")


def _counter(name: str, help: str, *labels: str, unit: str = "1") -> Instrument:  # noqa: A002  Prometheus calls it so
    return Instrument(f"penstock.{name}", "counter", unit, labels, help)


def _gauge(name: str, help: str, *labels: str, unit: str = "1") -> Instrument:  # noqa: A002
    return Instrument(f"penstock.{name}", "gauge", unit, labels, help)


def _seconds(name: str, help: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Instrument:  # noqa: A002
    return Instrument(f"penstock.{name}", "histogram", "s", labels, help, buckets)


def _histogram(name: str, help: str, *labels: str, buckets: tuple[float, ...]) -> Instrument:  # noqa: A002
    return Instrument(f"penstock.{name}", "histogram", "1", labels, help, buckets)


INSTRUMENTS: dict[str, Instrument] = {
    i.name.removeprefix("penstock."): i
    for i in (
        _counter("tasks.submitted", "Tasks that were accepted", "model", "priority"),
        _counter("tasks.reused", "Tasks that took the result of an equal task (`hit`, `coalesced`)", "model", "how"),
        _counter("submits.refused", "Submits that were refused, by error code", "code"),
        _counter("tasks.finished", "Tasks that ended, by final state and error code", "model", "status", "code"),
        _counter("attempts", "Attempts that ended", "model", "outcome"),
        _gauge("decoders", "Processes that decode images, by state (`idle`, `busy`)", "state"),
        _counter("decoders.lost", "Processes that ended, or were ended, while they decoded an image, by signal", "how"),
        _seconds("task.wait", "Time from the submit to the first claim", "model", "priority"),
        _seconds("task.to_device", "Time from the submit to the first device batch", "model", "priority"),
        _seconds("task.duration", "Time of one attempt, from its claim to its end", "model"),
        _histogram(
            "eta.error.ratio", "Error of the estimate at the submit, relative to the true time", "model", buckets=RATIOS
        ),
        _seconds("stage.duration", "Time of one stage of one attempt", "model", "stage"),
        _histogram("device.batch.tiles", "Tiles in one device batch", "model", "device", buckets=TILES),
        _counter("device.busy", "Time in which the device computed batches", "device", unit="s"),
        _counter("device.copy", "Time of copies to and from the device, mostly beside computing", "device", unit="s"),
        _counter(
            "outputs.invalid",
            "Outputs that cannot be a result, and how their attempt went on (`recomputed` in fp32, `failed`)",
            *("model", "device", "outcome"),
        ),
        _counter("preemptions", "Device batches that went before a task which had already started", "device"),
        _gauge("gpu.utilization", "Share of the last second in which any kernel ran on the card", "device"),
        _gauge("gpu.memory.used", "Memory of the card in use, by everybody, as the driver says", "device", unit="By"),
        _gauge("gpu.memory.total", "Memory of the card", "device", unit="By"),
        _gauge("gpu.temperature", "Temperature of the card", "device", unit="Cel"),
        _gauge("gpu.clock", "Clock of the multiprocessors", "device", unit="Hz"),
        _gauge("gpu.power", "Power that the card draws", "device", unit="W"),
        _counter("gpu.energy", "Energy that the card has taken since its driver was loaded", "device", unit="J"),
        _gauge("gpu.throttled", "1 while the clock is lowered for this reason, else 0", "device", "reason"),
        _gauge("gpu.ecc.corrected", "Memory errors that ECC corrected since the driver was loaded", "device"),
        _gauge("gpu.ecc.uncorrected", "Memory errors that it could not correct since then", "device"),
        _counter("gpu.xid.errors", "Faults of the card that the driver reported, by number (Xid)", "device", "xid"),
        _gauge("tasks.in_flight", "Tasks that are claimed and have not ended", "device"),
        _gauge("worker.spool", "Results that wait for the storage, on disk or in memory", "device", "place"),
        _gauge("worker.pinned", "Bytes of the host's memory that are page-locked for a GPU", "device"),
        _gauge("model.load", "Time to load and warm up the model", "model", "device", unit="s"),
        _counter("model.loads", "Loads on demand (`ready`, `failed`)", "model", "device", "outcome"),
        _counter("model.evictions", "Unloads (for `room`, `idle`, `asked`)", "model", "device", "why"),
        _gauge("models.resident", "Memory of the models of the repository that are loaded", "device", unit="By"),
        _counter("writes.fenced", "Writes that were refused because the worker had lost its lease", "model"),
        _counter("leases.reclaimed", "Tasks that were taken back from dead workers", "status"),
        _counter("process.restarts", "Processes that their parent started again", "child"),
        _counter("workers.hung", "Workers and API processes that gave no sign of life and were killed", "child"),
        _gauge("worker.device.down", "1 while the worker of this device cannot run and is tried again later", "device"),
        _counter("tasks.pruned", "Tasks that were deleted after their retention"),
        _counter("uploads", "Uploads that were opened, completed, broken off or deleted", "outcome"),
        _gauge("storage.condemned", "Keys and prefixes that are to be deleted from the storage"),
        _gauge("storage.orphans", "Objects older than a day that no record knows of"),
        _gauge("uploads.unused", "Uploads that no task uses"),
        _gauge("queue.depth", "Tasks that wait", "model", "priority"),
        _gauge("queue.oldest", "Age of the oldest waiting task", "model", "priority", unit="s"),
        _gauge("queue.device", "Expected device time of the waiting tasks", "model", "priority", unit="s"),
        _gauge("queue.paused", "1 while the queue is paused, else 0", "model", "priority"),
        _gauge("tasks.stored", "Task records, by status", "status"),
        _gauge("records.unreadable", "Damaged records that were set aside in the last week"),
        _gauge("workers", "Workers that reported within their lease", "state"),
        _gauge(
            "model.info",
            "1 for each version of a model that this worker knows, loaded or not",
            *("model", "version", "digest", "device"),
        ),
        _gauge("models.differing", "Versions of which two workers have different files"),
        _counter("webhooks.attempts", "Attempts to deliver an event", "event", "outcome"),
        _gauge(
            "webhooks.endpoints",
            "Endpoints to which events are owed (`owed`), and those of them that are left alone for a while since they "
            "did not answer or were overloaded (`resting`)",
            "state",
        ),
        _seconds("webhooks.lag", "Time from an event to its delivery", "event"),
        _counter("batches.started", "Batches that were accepted"),
        _counter("batches.lines", "Lines of batches that were enqueued, or ended without becoming a task", "outcome"),
        _gauge("batches.feeding", "Batches that still have lines to enqueue"),
        _gauge("batches.backlog", "Lines of batches that are still to become tasks", "model"),
        _gauge(
            "backlog",
            "Expected device time of all work: tasks that wait in queues which are not paused, what is left of "
            "running ones, retries, and lines of batches that are no tasks yet. It is what to scale workers on",
            "model",
            unit="s",
        ),
        _gauge("store.up", "1 while Redis answers this process and accepts writes, else 0"),
        _gauge("storage.up", "1 while the storage answers this process, else 0"),
        _counter("spans", "Spans of traces that were exported (`sent`) or could not be (`lost`)", "outcome"),
        _seconds("store.calls", "Time until Redis answered, or was given up, of one script or pipeline", buckets=FAST),
        _seconds("storage.calls", "Time of one call of the storage, also of those that failed", "operation"),
        _gauge("inline.used", "Inputs of tasks that are in Redis", unit="By"),
        _gauge("inline.budget", "What `queue.inline_budget_bytes` allows them", unit="By"),
        _gauge("disk.free", "Free space for results that wait (`spool`) and for a local `storage`", "place", unit="By"),
        _gauge("disk.size", "Size of these disks", "place", unit="By"),
        _seconds("loop.lag", "How late the event loop of this process comes to what is due", buckets=FAST),
        _gauge("waits", "Requests that wait for the end of a task"),
        _gauge("connections", "Open connections of clients"),
        _counter(
            "connections.refused",
            "Connections that were too many (of one `address`, or in `all`), and requests (of one `tenant`)",
            "why",
        ),
        _counter(
            "connections.closed",
            "Connections that were ended (`head` or `body` came too late, `silent`, `stalled`, `evicted`)",
            "why",
        ),
        _counter("accept.failures", "Failures to accept connections, by error, such as EMFILE", "error"),
        _seconds("http.requests", "Time of HTTP requests, without waits for a task", "route", "method", "status"),
    )
}
"""Every metric of Penstock, by its name without the prefix `penstock.`."""
