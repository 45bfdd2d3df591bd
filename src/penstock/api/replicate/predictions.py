"""A task in the words of Replicate's API: what its clients and its webhooks' receivers read."""

import base64
import functools
import hashlib
import hmac
from typing import Any

from penstock.api.schemas.render import filename, moment
from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.core.task import Artifact, Progress, Source, State, Task
from penstock.errors import DeadlineExceeded
from penstock.models.base import BaseModelRunner, registry, results_digest

PREFIX = "/replicate/v1"

OWNER = "penstock"
"""Who owns every model and deployment, as far as clients are told; in a request any owner will do."""

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

TOKEN_BYTES = 18


class PredictionUrls(ResponseBody, frozen=True):
    """Absolute."""

    get: str
    cancel: str


class PredictionView(ResponseBody, frozen=True):
    """A task in Replicate's words. `output` is a file, as a data: URI or as a URL that needs no key, or the data of a
    model that makes no file."""

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


class PredictionPage(ResponseBody, frozen=True):
    """Newest first; `next` is the URL of the next page."""

    next: str | None
    previous: str | None
    results: tuple[PredictionView, ...]


class OutputLinks:
    """Makes and checks the URLs of result files that Replicate's clients fetch: each opens the file of one task, for
    whoever has it, as long as that file is there.

    All servers with the same API keys understand them; a change of the keys ends those that are out.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"penstock output" + secret).digest()

    def url(self, task: Task, file: Artifact, base_url: str) -> str:
        """Absolute, for a client that reaches the server at `base_url`; the path ends with the name of the file."""
        return f"{predictions_url(base_url)}/{task.id}/output/{filename(task, file)}?token={self._token(task.id)}"

    def opens(self, task_id: str, token: str) -> bool:
        """Whether the token is that of the task. Takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(self._token(task_id).encode(), token.encode())

    def _token(self, task_id: str) -> str:
        digest = hmac.digest(self._secret, task_id.encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:TOKEN_BYTES]).decode()


def predictions_url(base_url: str) -> str:
    """Where they are, for a client that reaches the server at `base_url`."""
    return f"{base_url.rstrip('/')}{PREFIX}/predictions"


def file_url(upload_id: str, base_url: str) -> str:
    """What stands for a file of Replicate's files API in the input of a prediction."""
    return f"{base_url.rstrip('/')}{PREFIX}/files/{upload_id}"


@functools.cache
def version_id(runner: type[BaseModelRunner[Any]]) -> str:
    """The id of the only version of a model: 64 hex digits that no other model has, and that change with whatever
    changes its results."""
    return hashlib.sha256(f"{runner.name} {results_digest(runner)}".encode()).hexdigest()


def prediction_view(task: Task, base_url: str, links: OutputLinks) -> PredictionView:
    """Everything that Replicate's API has a word for; the output, if it is a file, by its URL."""
    runner = registry().get(task.request.model)
    own = f"{predictions_url(base_url)}/{task.id}"
    error = task.outcome.error
    ran_ms = task.finished - task.started if task.finished and task.started else None
    return PredictionView(
        id=task.id,
        model=f"{OWNER}/{task.request.model}",
        version=version_id(runner) if runner else "",
        status=STATUS[State.CANCELED if _is_overdue(task) else task.state],
        input=_image(task.request.source, base_url) | task.request.params,
        output=_output(task, base_url, links),
        error=error.message if error else None,
        logs=_logs(task.progress),
        metrics={} if ran_ms is None else {"predict_time": ran_ms / 1000},
        created_at=moment(task.created),
        started_at=moment(task.started) if task.started else None,
        completed_at=moment(task.finished) if task.finished else None,
        urls=PredictionUrls(get=own, cancel=f"{own}/cancel"),
    )


def _image(source: Source, base_url: str) -> dict[str, str]:
    """None for an image that came inside the request."""
    url = file_url(source.upload, base_url) if source.upload else source.url
    return {"image": url} if url else {}


def _logs(progress: Progress | None) -> str:
    """As tqdm would write it, which is where Replicate's clients read how far a prediction has come."""
    if progress is None or not progress.total:
        return ""
    ratio = progress.done / progress.total
    return f"{ratio:4.0%}|{'#' * round(ratio * 20):20}| {progress.done}/{progress.total}"


def _is_overdue(task: Task) -> bool:
    error = task.outcome.error
    return error is not None and error.code == DeadlineExceeded.code


def _output(task: Task, base_url: str, links: OutputLinks) -> Any:
    result = task.outcome.result
    if result is None or result.artifact is None:
        return result and result.data
    return links.url(task, result.artifact, base_url)
