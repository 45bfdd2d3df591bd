"""The FastAPI half of the peer: it takes the same requests as Penstock. Those for one task are written as in the
tutorials; those for many tasks use one producer for all messages and one query for many results.

The functions are not `async`: Celery's client blocks, and FastAPI runs them in its pool of threads.
"""

from typing import Any

from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

from tools.compare.peer_tasks import app as celery
from tools.compare.peer_tasks import noop_task


class Input(BaseModel):
    """The place of the image."""

    image_url: str


class TaskRequest(BaseModel):
    """The request to run a task."""

    model: str
    input: Input


class BulkRequest(BaseModel):
    """The request to run many tasks."""

    tasks: list[TaskRequest]


class BulkLook(BaseModel):
    """The tasks whose state is wanted."""

    task_ids: list[str]


def submit(asked: TaskRequest) -> dict[str, str]:
    """Queues a task."""
    return {"task_id": noop_task.delay(asked.model, asked.input.image_url).id, "status": "PENDING"}


def read(task_id: str) -> dict[str, Any]:
    """Returns the state of a task, and its result."""
    found = AsyncResult(task_id, app=celery)
    status = found.status
    return {"task_id": task_id, "status": status, "result": found.result if status == "SUCCESS" else None}


def submit_all(asked: BulkRequest) -> dict[str, list[str]]:
    """Queues many tasks."""
    with celery.producer_pool.acquire(block=True) as producer:
        queued = [
            noop_task.apply_async((task.model, task.input.image_url), producer=producer).id for task in asked.tasks
        ]
    return {"task_ids": queued}


def read_all(asked: BulkLook) -> dict[str, list[str]]:
    """Returns the states of these tasks."""
    backend = celery.backend
    found = backend.mget([backend.get_key_for_task(task_id) for task_id in asked.task_ids])
    return {"status": [backend.decode_result(value)["status"] if value else "PENDING" for value in found]}


app = FastAPI()
app.add_api_route("/v1/tasks", submit, methods=["POST"], status_code=202)
app.add_api_route("/v1/tasks/{task_id}", read, methods=["GET"])
app.add_api_route("/v1/bulk", submit_all, methods=["POST"], status_code=202)
app.add_api_route("/v1/bulk/status", read_all, methods=["POST"])
