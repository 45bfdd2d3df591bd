"""Answers made from the records of the store."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import repeat
from pathlib import PurePosixPath
from typing import Any

from msgspec import UNSET

from penstock.api.schemas.operators import (
    BacklogView,
    MemoryView,
    PauseView,
    QueueView,
    RunningView,
    WorkerStatusView,
    WorkerView,
)
from penstock.api.schemas.tasks import (
    AttemptView,
    DeliveryView,
    ErrorView,
    EventView,
    LinksView,
    ProgressView,
    ResultFileView,
    ResultView,
    SubmittedView,
    TaskView,
    WebhookView,
)
from penstock.core.events import Event, Webhook
from penstock.core.task import Artifact, Attempt, ErrorRecord, Progress, Result, Task
from penstock.storage import Storage
from penstock.store import QueueDepth, Running, Submitted, WorkerInfo


async def task_view(task: Task, storage: Storage, base_url: str, token: str = "") -> TaskView:
    """Return everything that a client may read of a task; a result in a bucket gets a newly signed link.

    Who comes with a task token does not see the webhook, whose URL may have a secret, and gets links with the token.
    """
    result = task.outcome.result
    return TaskView(
        task_id=task.id,
        client_request_id=task.request.client_request_id,
        batch_id=task.request.line.batch if task.request.line else None,
        custom_id=task.request.line.custom_id if task.request.line else None,
        model=task.request.model.partition("@")[0],
        model_version=task.request.version or None,
        model_digest=task.request.digest or None,
        model_guessed=task.request.guessed,
        status=task.state,
        stage=task.stage,
        priority=task.priority,
        progress=progress_view(task.progress),
        queue_position=task.position,
        created_at=moment(task.created),
        started_at=None if task.started is None else moment(task.started),
        finished_at=None if task.finished is None else moment(task.finished),
        expires_at=None if task.expires is None else moment(task.expires),
        start_by=None if task.start_by is None else moment(task.start_by),
        deadline=None if task.deadline is None else moment(task.deadline),
        reuse=task.reuse,
        timing=task.outcome.timing,
        execution=({"worker": task.worker} if task.worker else {}) | task.outcome.execution,
        attempts=tuple(map(_attempt, task.attempts)),
        result=await _result(task, result, storage, base_url, token) if result else None,
        error=error_view(task.outcome.error),
        metadata=task.request.metadata,
        webhook=webhook_view("task", task.request.webhook, task.events) if task.request.webhook and not token else None,
        links=links(task.id, token or None),
    )


def submitted_view(submitted: Submitted, task: Task | None, eta_s: float | None, token: str | None) -> SubmittedView:
    """Return the answer to a submit; the task is there where the client has waited for its end."""
    now = task or submitted
    return SubmittedView(
        task_id=submitted.id,
        status=now.state,
        queue_position=now.position,
        eta_s=eta_s,
        links=links(submitted.id, token),
    )


def links(task_id: str, token: str | None = None) -> LinksView:
    """Return the links of a task, relative to the server, and the token that opens some of them."""
    self_ = f"/v1/tasks/{task_id}"
    return LinksView(
        self_=self_, cancel=f"{self_}/cancel", events=f"{self_}/events", result=f"{self_}/result", token=token or UNSET
    )


def version_of(task: Task) -> str:
    """Return a text that changes whenever the task does; progress alone changes only the part after its last dot."""
    done = task.progress.done if task.progress else 0
    # Deliveries change the log of the webhook, which a client may watch, without a change of the task's state.
    told = [f"{sum(e.epoch for e in task.events)}-{sum(e.tries for e in task.events)}"] if task.events else []
    return ".".join(
        map(str, [task.state, task.epoch, task.stage, *told, done if task.position is None else f"p{task.position}"])
    )


def worker_view(worker: WorkerInfo) -> WorkerView:
    """Return a worker without its tasks."""
    return WorkerView(**_of_worker(worker))


def worker_status(worker: WorkerInfo, running: Iterable[Running]) -> WorkerStatusView:
    """Return a worker with its own tasks out of `running`."""
    own = (task for task in running if task.worker == worker.id)
    tasks = tuple(
        RunningView(
            task_id=task.task_id,
            tenant=task.tenant,
            model=task.model,
            priority=task.priority,
            stage=task.stage,
            claimed_at=moment(task.claimed),
            progress=progress_view(task.progress),
        )
        for task in own
    )
    return WorkerStatusView(**_of_worker(worker), tasks=tasks)


def _of_worker(worker: WorkerInfo) -> dict[str, Any]:
    memory = worker.memory
    return {
        "id": worker.id,
        "device": worker.device,
        "host": worker.host,
        "models": worker.models,
        "slots": worker.slots,
        "running": worker.running,
        "state": worker.state,
        "started_at": moment(worker.started),
        "spool_full": worker.spool_full,
        "reason": worker.reason,
        "memory": memory
        and MemoryView(
            process=memory.process,
            tasks=memory.tasks,
            tasks_limit=memory.tasks_limit,
            device_limit=memory.device_limit or None,
            pinned=memory.pinned,
        ),
    }


def queue_view(queue: QueueDepth) -> QueueView:
    """Return a queue; its times are in seconds."""
    pause = queue.pause
    return QueueView(
        model=queue.model,
        priority=queue.priority,
        depth=queue.depth,
        oldest_s=round(queue.oldest_s, 3),
        device_s=None if queue.device_s is None else round(queue.device_s, 3),
        paused=None if pause is None else PauseView(since=moment(pause.at), by=pause.by),
    )


def backlog_view(seconds: Mapping[str, float]) -> BacklogView:
    """Return the backlog of these models."""
    models = {model: round(value, 3) for model, value in seconds.items()}
    return BacklogView(device_s=round(sum(models.values()), 3), models=models)


def filename(task: Task, artifact: Artifact) -> str:
    """Return the name under which a browser saves a file of the result: no other file, of no other task, has it."""
    result = task.outcome.result
    if result is None or artifact == result.first:
        return task.id + (PurePosixPath(artifact.s3_key).suffix or ".bin")
    return f"{task.id}-{artifact.name}"


def moment(ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_or_none(ms: int | None) -> str | None:
    """Return the moment, or None for None."""
    return None if ms is None else moment(ms)


def progress_view(progress: Progress | None) -> ProgressView | None:
    """Return the progress, or None until the total is known."""
    if progress is None or not progress.total:
        return None
    ratio = round(progress.done / progress.total, 4)
    return ProgressView(ratio=ratio, unit=progress.unit, done=progress.done, total=progress.total)


def error_view(problem: ErrorRecord | None) -> ErrorView | None:
    """Return the error, or None if there is none."""
    return ErrorView(code=problem.code, message=problem.message, retryable=problem.retryable) if problem else None


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        n=attempt.number,
        worker=attempt.worker,
        device=attempt.device,
        started_at=moment(attempt.started),
        ended_at=moment(attempt.ended),
        outcome=attempt.outcome,
        error=error_view(attempt.error),
    )


def webhook_view(subject: str, webhook: Webhook, events: tuple[Event, ...]) -> WebhookView:
    """Return the webhook of a task or batch; `subject` is that word, and its events begin with it.

    The URL is without its query, in which a receiver's secret may be: whoever may read a task need not know that.
    """
    ends = tuple(_event(subject, event) for event in events if event.type != "progress")
    return WebhookView(url=webhook.url.partition("?")[0], events=webhook.events, log=ends)


def _event(subject: str, event: Event) -> EventView:
    return EventView(
        type=f"{subject}.{event.type}",
        sequence=event.seq,
        status="waiting" if event.status == "leased" else event.status,
        deliveries=tuple(
            DeliveryView(at=moment(entry.at), ms=entry.ms, outcome=entry.outcome, code=entry.code)
            for entry in event.log
        ),
        next_delivery_at=moment_or_none(event.due) if event.status == "waiting" else None,
    )


async def _result(task: Task, result: Result, storage: Storage, base_url: str, token: str) -> ResultView:
    own_url, query = base_url.rstrip("/") + links(task.id).result, f"?token={token}" if token else ""
    if not result.artifacts:
        return ResultView(
            s3_key=None,
            size=None,
            url=own_url + query,
            sha256=None,
            content_type="application/json",
            width=None,
            height=None,
            data=result.data,
            files=(),
            notes=result.notes,
        )
    signed = [await storage.url(file.s3_key, file.content_type, filename(task, file)) for file in result.artifacts]
    first = result.artifacts[0]
    return ResultView(
        s3_key=storage.full_key(first.s3_key),
        size=first.size,
        url=signed[0] or own_url + query,
        sha256=first.sha256,
        content_type=first.content_type,
        width=first.width,
        height=first.height,
        data=result.data,
        files=files_view(result, own_url, signed, query),
        notes=result.notes,
    )


def files_view(
    result: Result, own_url: str, signed: Iterable[str | None] = repeat(None), query: str = ""
) -> tuple[ResultFileView, ...]:
    """Return the files of a result, each with its signed link, or with one to us where there is none; `own_url` is our
    link to the result, and `query` follows each of ours."""
    return tuple(
        ResultFileView(
            name=file.name,
            url=link or f"{own_url}/{file.name}{query}",
            content_type=file.content_type,
            size=file.size,
            sha256=file.sha256,
            width=file.width,
            height=file.height,
        )
        for file, link in zip(result.artifacts, signed, strict=False)
    )
