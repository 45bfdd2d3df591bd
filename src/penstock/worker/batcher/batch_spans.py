"""The spans of device batches, in which tiles of several tasks run together: each is linked to all of them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from penstock.lazy_import import lazy_import
from penstock.telemetry import traces
from penstock.worker.batcher.device_work import DeviceBatch

spans = lazy_import("penstock.telemetry.spans")

R = TypeVar("R", bound=Callable[..., Any])


def traced_batch(infer: R) -> R:
    """Give each batch a span in the trace of the first of its tasks that is recorded; the tasks and it are linked to
    one another. Without spans it stays as it is. A thread of the device makes the span."""
    if not traces.IS_ON:
        return infer

    def infer_in_span(runs: Any, batch: DeviceBatch, *given: Any) -> Any:
        waiting = [task.span for task in batch.tasks if task.span is not None and task.span.is_recorded]
        if not waiting:
            return infer(runs, batch, *given)
        lead = batch.lead.task.span
        parent = lead if lead in waiting else waiting[0]
        links = [span.context for span in waiting]
        with spans.span("device batch", parent=parent, links=links, attributes=_attributes(batch)) as span:
            for one in waiting:
                one.link(span)
            return infer(runs, batch, *given)

    return cast(R, infer_in_span)


def _attributes(batch: DeviceBatch) -> dict[str, Any]:
    return {
        "penstock.model": batch.lead.task.runner.name,
        "penstock.device.tasks": len(batch.tasks),
        "penstock.device.tiles": len(batch.tiles),
        "penstock.device.batch_size": len(batch.stacked),
    }
