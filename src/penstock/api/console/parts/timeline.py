"""How a task went: its steps with the time of each, and its attempts one after the other."""

from collections.abc import Iterator
from datetime import UTC, datetime

import htpy as h
from msgspec import Struct

from penstock.api.console.answers import error_link
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, between, duration, when
from penstock.api.console.viewer import Viewer
from penstock.api.schemas.tasks import AttemptView, TaskView

STEPS = (
    ("queued", "Queued", "queue_ms"),
    ("fetch", "Fetch", "fetch_ms"),
    ("load", "Load model", "load_ms"),
    ("prepare", "Prepare", "prepare_ms"),
    ("infer", "Infer", "infer_ms"),
    ("postprocess", "Postprocess", "postprocess_ms"),
    ("upload", "Upload", "upload_ms"),
)
"""The stages of a task in their order: the word in its record, that for people, and where its time stands."""

WIDTH, HEIGHT, ROW = 1000, 12, 18
ENDED = {"complete": "success", "fail": "failed", "retry": "warn", "cancel": "expired", "release": "plain"}


class DrawnSpan(Struct, frozen=True):
    """A part of the timeline, in seconds from the submit, drawn in the colours of `tone`."""

    start: float
    end: float
    tone: str
    says: str


def steps(task: TaskView) -> h.Element:
    """Return the way of a task through its stages: those that are done with their time, and the one where it is."""
    names = [name for name, _, _ in STEPS]
    is_live = task.finished_at is None
    stage = "queued" if task.stage == "retry" else task.stage
    at = names.index(stage) if is_live and stage in names else None
    items = [_step(n, name, title, task.timing.get(timed), at) for n, (name, title, timed) in enumerate(STEPS)]
    end = task.status.value if not is_live else ""
    return h.ol(".steps")[
        items,
        h.li(class_=f"step end tone-{end.lower()}" if end else "step")[
            h.span(".step-name")[end.capitalize() or "End"],
            h.span(".step-time")[duration(between(task.created_at, task.finished_at)) if end else ""],
        ],
    ]


def timeline(task: TaskView) -> h.Node:
    """Return the time from the submit to the end, or until now, drawn to scale: waits, attempts, and the stages of the
    last one."""
    if task.started_at is None:
        return None
    now = datetime.now(UTC).isoformat()
    whole = max(0.001, between(task.created_at, task.finished_at or now) or 0.0)
    spans = list(_spans(task, whole))
    return h.figure(".timeline")[
        h.svg(viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", aria_hidden="true")[
            [_drawn(span, whole) for span in spans]
        ],
        h.figcaption[
            h.span["submitted ", when(task.created_at)],
            h.span[f"{duration(whole)} in all"],
            h.span["ended " if task.finished_at else "now", when(task.finished_at, absent="")],
        ],
    ]


def attempts(viewer: Viewer, task: TaskView) -> h.Node:
    """Return the attempts with worker, device and how each ended; None where there was none yet."""
    if not task.attempts:
        return None
    columns: list[Column | str] = [
        Column("No.", True),
        "Ended as",
        "Worker",
        "Device",
        "Started",
        Column("Took", True),
        "Error",
    ]
    return table(columns, _rows(viewer, task.attempts), caption="Attempts")


def _step(n: int, name: str, title: str, took_ms: float | None, at: int | None) -> h.Element:
    is_done = took_ms is not None or (at is not None and n < at and name != "load")
    state = "current" if n == at else "done" if is_done else "skipped"
    return h.li({"aria-current": "step" if n == at else None}, class_=f"step {state}")[
        h.span(".step-name")[title],
        h.span(".step-time")[duration(took_ms / 1000) if took_ms is not None else "now" if n == at else ""],
    ]


def _spans(task: TaskView, whole: float) -> Iterator[DrawnSpan]:
    """The spans without gaps: a wait lasts until the next attempt begins."""
    at = 0.0
    for attempt in task.attempts:
        start = between(task.created_at, attempt.started_at) or 0.0
        end = between(task.created_at, attempt.ended_at) or 0.0
        yield DrawnSpan(at, start, "wait", f"waited {duration(start - at)}")
        is_last = attempt is task.attempts[-1] and attempt.outcome == "complete"
        yield from (
            _stages(task, start, end) if is_last else [DrawnSpan(start, end, _tone(attempt), f"attempt {attempt.n}")]
        )
        at = end
    if task.finished_at is None:
        yield DrawnSpan(at, whole, "running" if task.status == "RUNNING" else "wait", "now")


def _stages(task: TaskView, start: float, end: float) -> Iterator[DrawnSpan]:
    timed = [(name, task.timing.get(key, 0.0) / 1000) for name, _, key in STEPS[1:]]
    scale = min(1.0, (end - start) / (sum(s for _, s in timed) or 1.0))
    for name, seconds in timed:
        yield DrawnSpan(start, start + seconds * scale, name, f"{name} {duration(seconds)}")
        start += seconds * scale


def _tone(attempt: AttemptView) -> str:
    return "bad" if attempt.error else "wait" if attempt.outcome == "release" else "infer"


def _drawn(span: DrawnSpan, whole: float) -> h.Element:
    start, width = span.start / whole * WIDTH, max(0.0, span.end - span.start) / whole * WIDTH
    return h.rect(
        class_=f"span-{span.tone}", x=f"{start:.1f}", y="0", width=f"{max(width, 1.5):.1f}", height=str(HEIGHT)
    )[h.title[span.says]]


def _rows(viewer: Viewer, ended: tuple[AttemptView, ...]) -> Iterator[TableRow]:
    for attempt in ended:
        cells: list[h.Node] = [
            str(attempt.n),
            badge(attempt.outcome, ENDED.get(attempt.outcome, "plain")),
            attempt.worker,
            attempt.device,
            when(attempt.started_at),
            duration(between(attempt.started_at, attempt.ended_at)),
            [error_link(viewer, attempt.error.code), " ", attempt.error.message] if attempt.error else "",
        ]
        yield TableRow(cells)
