"""A task in the words of Replicate's API, as its clients and the receivers of its webhooks read it."""

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from penstock.api.replicate.versions import version_id
from penstock.api.schemas.render import filename, moment
from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.api.services import Services
from penstock.core.model import split_id
from penstock.core.request import Source
from penstock.core.task import Artifact, Progress, State, Task
from penstock.errors import DeadlineExceeded, ResultExpired, StorageUnavailable

PREFIX = "/replicate/v1"

OWNER = "penstock"
"""The owner of every model and deployment in answers; a request may name any owner."""

STATUS = {
    State.PENDING: "starting",
    State.RUNNING: "processing",
    State.SUCCESS: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
    State.EXPIRED: "canceled",
}
"""Our status -> Replicate's. The official client waits for ever for the end of a status that it does not know, so
EXPIRED becomes `canceled`, as does a task that failed by its deadline; `error` says why."""

INLINE_BYTES = 1_000_000
"""Result files of at most this size together are in the prediction itself, as data: URIs."""

TOKEN_BYTES = 18


class PredictionUrls(ResponseBody, frozen=True):
    """Absolute URLs of the prediction."""

    get: str
    cancel: str


class PredictionView(ResponseBody, frozen=True):
    """A task in Replicate's words. `output` is a file, as a data: URI or as a URL that needs no key, a list of
    several, or the data of a model that makes no file."""

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
    """A page of predictions, newest first; `next` is the URL of the next page."""

    next: str | None
    previous: str | None
    results: tuple[PredictionView, ...]


class OutputLinks:
    """Makes and checks the URLs of result files. Whoever has a URL can fetch the file of its task while that exists.

    All servers of one installation accept them; `secret` returns what they share, a random one that says nothing about
    keys.
    """

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    def url(self, task: Task, file: Artifact, base_url: str) -> str:
        """Return the absolute URL for clients that reach the server at `base_url`; its path ends with the file name."""
        token = self._token(task.id, task.tenant)
        return f"{predictions_url(base_url)}/{task.id}/output/{filename(task, file)}?token={token}"

    def tenant_of(self, task_id: str, token: str) -> str | None:
        """Return the tenant whose task of this id the token opens; None for any other token. A wrong one takes as long
        to check as the right one."""
        tenant = token.partition(".")[2]
        # Of str it takes only ASCII.
        return tenant if hmac.compare_digest(self._token(task_id, tenant).encode(), token.encode()) else None

    def _token(self, task_id: str, tenant: str) -> str:
        digest = hmac.digest(self._secret(), f"penstock output {tenant}/{task_id}".encode(), "sha256")
        return f"{base64.urlsafe_b64encode(digest[:TOKEN_BYTES]).decode()}.{tenant}"


def predictions_url(base_url: str) -> str:
    """Return the URL of all predictions, for a client that reaches the server at `base_url`."""
    return f"{base_url.rstrip('/')}{PREFIX}/predictions"


def file_url(upload_id: str, base_url: str) -> str:
    """Return the URL that names a file of /replicate/v1/files in the input of a prediction."""
    return f"{base_url.rstrip('/')}{PREFIX}/files/{upload_id}"


def prediction_view(task: Task, base_url: str, links: OutputLinks) -> PredictionView:
    """Return everything of a task that Replicate's API has a word for; an output that is a file appears as its URL."""
    name, digest = split_id(task.request.model)[0], task.request.digest
    own = f"{predictions_url(base_url)}/{task.id}"
    error = task.outcome.error
    ran_ms = task.finished - task.started if task.finished and task.started else None
    return PredictionView(
        id=task.id,
        model=f"{OWNER}/{name}",
        version=version_id(name, digest) if digest else "",
        status=STATUS[State.CANCELED if _is_overdue(task) else task.state],
        input=_urls(task.request.inputs, base_url) | task.request.params,
        output=_output(task, base_url, links),
        error=error.message if error else None,
        logs=_logs(task.progress),
        metrics={} if ran_ms is None else {"predict_time": ran_ms / 1000},
        created_at=moment(task.created),
        started_at=moment(task.started) if task.started else None,
        completed_at=moment(task.finished) if task.finished else None,
        urls=PredictionUrls(get=own, cancel=f"{own}/cancel"),
    )


def _urls(inputs: Mapping[str, Source], base_url: str) -> dict[str, Any]:
    """The members that have a URL or are JSON; what came inside the request as a file has no URL. A URL is without its
    query, which may have a signature: whoever gets the prediction, such as the receiver of a webhook, must not read the
    source with it."""
    shown = {
        name: file_url(source.upload, base_url) if source.upload else _unsigned(source.url) or source.value
        for name, source in inputs.items()
    }
    return {name: value for name, value in shown.items() if value is not UNSET}


def _unsigned(url: str | None) -> str | None:
    return url and url.partition("?")[0]


def _logs(progress: Progress | None) -> str:
    """A line of tqdm's progress bar: Replicate's clients read the progress of a prediction from its logs."""
    if progress is None or not progress.total:
        return ""
    ratio = progress.done / progress.total
    return f"{ratio:4.0%}|{'#' * round(ratio * 20):20}| {progress.done}/{progress.total}"


def _is_overdue(task: Task) -> bool:
    error = task.outcome.error
    return error is not None and error.code == DeadlineExceeded.code


def _output(task: Task, base_url: str, links: OutputLinks) -> Any:
    result = task.outcome.result
    if result is None or not result.artifacts:
        return result and result.data
    return _one_or_all([links.url(task, file, base_url) for file in result.artifacts])


def _one_or_all(outputs: list[str]) -> str | list[str]:
    # As models of Replicate do: one file is the output itself, several are a list.
    return outputs[0] if len(outputs) == 1 else outputs


async def whole_view(task: Task, base_url: str, links: OutputLinks, services: Services) -> PredictionView:
    """Return the prediction with its output in it as data: URIs, if its files are small."""
    view = prediction_view(task, base_url, links)
    files = task.outcome.result.artifacts if task.outcome.result else ()
    if not files or sum(file.size for file in files) > INLINE_BYTES:
        return view
    try:
        return msgspec.structs.replace(view, output=_one_or_all([await _data_uri(file, services) for file in files]))
    except (ResultExpired, StorageUnavailable):  # the prediction can still be read, and its URL answers why
        return view


async def _data_uri(file: Artifact, services: Services) -> str:
    data = await services.storage.get(file.s3_key, limit=INLINE_BYTES)
    return f"data:{file.content_type};base64,{base64.b64encode(data).decode()}"
