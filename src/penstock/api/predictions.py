"""A task in the words of Replicate's API: what its clients and its webhooks' receivers read."""

from typing import Any

from penstock.api.schemas import Moment, View
from penstock.api.views import links, moment
from penstock.errors import DeadlineExceeded
from penstock.runners.base import registry
from penstock.task import Progress, State, Task

PREFIX = "/replicate/v1"

STATUS = {
    State.PENDING: "starting",
    State.RUNNING: "processing",
    State.SUCCESS: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
    State.EXPIRED: "canceled",
}
"""The official client waits for ever for a word that it does not know: EXPIRED says why in `error`, as does a task
that failed by its deadline, which is canceled there."""


class PredictionUrls(View, frozen=True):
    """Absolute."""

    get: str
    cancel: str


class PredictionView(View, frozen=True):
    """A task in Replicate's words; `output` is the URL of a file (same key), or the data of a model without one."""

    id: str
    model: str
    version: str
    status: str
    input: dict[str, Any]
    output: Any
    error: str | None
    logs: str
    metrics: dict[str, float]
    created_at: Moment
    started_at: Moment | None
    completed_at: Moment | None
    urls: PredictionUrls


class PredictionPage(View, frozen=True):
    """Newest first; `next` is the URL of the next page."""

    next: str | None
    previous: str | None
    results: tuple[PredictionView, ...]


def predictions_url(base_url: str) -> str:
    """Where they are, for a client that reaches the server at `base_url`."""
    return f"{base_url.rstrip('/')}{PREFIX}/predictions"


def prediction_view(task: Task, base_url: str) -> PredictionView:
    """Everything that Replicate's API has a word for."""
    runner = registry().get(task.request.model)
    own = f"{predictions_url(base_url)}/{task.id}"
    url = task.request.source.url
    error = task.outcome.error
    ran_ms = task.finished - task.started if task.finished and task.started else None
    return PredictionView(
        id=task.id,
        model=task.request.model,
        version=runner.card.version if runner else "",
        status=STATUS[State.CANCELED if _is_overdue(task) else task.state],
        input=({"image": url} if url else {}) | task.request.params,
        output=_output(task, base_url),
        error=error.message if error else None,
        logs=_logs(task.progress),
        metrics={} if ran_ms is None else {"predict_time": ran_ms / 1000},
        created_at=moment(task.created),
        started_at=moment(task.started) if task.started else None,
        completed_at=moment(task.finished) if task.finished else None,
        urls=PredictionUrls(get=own, cancel=f"{own}/cancel"),
    )


def _logs(progress: Progress | None) -> str:
    """As tqdm would write it, which is where Replicate's clients read how far a prediction has come."""
    if progress is None or not progress.total:
        return ""
    ratio = progress.done / progress.total
    return f"{ratio:4.0%}|{'#' * round(ratio * 20):20}| {progress.done}/{progress.total}"


def _is_overdue(task: Task) -> bool:
    error = task.outcome.error
    return error is not None and error.code == DeadlineExceeded.code


def _output(task: Task, base_url: str) -> Any:
    result = task.outcome.result
    if result is None or result.artifact is None:
        return result and result.data
    return base_url.rstrip("/") + links(task.id).result
