"""The FastAPI half: the same two requests as Penstock's, as the tutorials write them.

The functions are not `async`: Celery's client blocks, and FastAPI runs them in its pool of threads.
"""

from typing import Any

from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

from tools.compare.peer_tasks import app as celery
from tools.compare.peer_tasks import noop_task


class Input(BaseModel):
    """Where the image is."""

    image_url: str


class TaskRequest(BaseModel):
    """A task to run."""

    model: str
    input: Input


def submit(asked: TaskRequest) -> dict[str, str]:
    """Queue a task."""
    return {"task_id": noop_task.delay(asked.model, asked.input.image_url).id, "status": "PENDING"}


def read(task_id: str) -> dict[str, Any]:
    """Where a task is, and its result."""
    found = AsyncResult(task_id, app=celery)
    status = found.status
    return {"task_id": task_id, "status": status, "result": found.result if status == "SUCCESS" else None}


app = FastAPI()
app.add_api_route("/v1/tasks", submit, methods=["POST"], status_code=202)
app.add_api_route("/v1/tasks/{task_id}", read, methods=["GET"])
