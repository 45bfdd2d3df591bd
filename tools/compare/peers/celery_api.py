"""The FastAPI half of the peer with Celery, as in the tutorials.

The functions are not `async`: Celery's client blocks, and FastAPI runs them in its pool of threads.
"""

from typing import Any

from celery.result import AsyncResult
from fastapi import FastAPI

from tools.compare.peers.celery_tasks import app as celery
from tools.compare.peers.celery_tasks import run_task


def submit(body: dict[str, Any]) -> dict[str, str]:
    """Queues a task."""
    return {"task_id": run_task.delay(body).id, "status": "PENDING"}


def read(task_id: str) -> dict[str, Any]:
    """Returns the state of a task, and its result."""
    found = AsyncResult(task_id, app=celery)
    status = found.status
    return {"task_id": task_id, "status": status, "result": found.result if status == "SUCCESS" else None}


app = FastAPI()
app.add_api_route("/v1/tasks", submit, methods=["POST"], status_code=202)
app.add_api_route("/v1/tasks/{task_id}", read, methods=["GET"])
