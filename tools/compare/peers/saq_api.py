"""The FastAPI half of the peer with SAQ. It keeps results for as long as SAQ does by default, ten minutes.

It has no `Prefer: wait`: SAQ's subscription to the end of a job misses a job that ends while it begins to listen.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from saq import Job

from tools.compare.peers.saq_tasks import queue


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001
    """Connects to Redis."""
    await queue.connect()
    yield
    await queue.disconnect()


async def submit(body: dict[str, Any]) -> dict[str, Any]:
    """Queues a task."""
    job = await queue.enqueue("classify" if "image" in body else "noop", **body)
    assert job is not None  # its key is new
    return view(job)


async def read(task_id: str) -> dict[str, Any]:
    """Returns the state of a task, and its result."""
    job = await queue.job(task_id)
    if job is None:
        raise HTTPException(404)
    return view(job)


def view(job: Job) -> dict[str, Any]:
    """Returns a task as a client sees it."""
    status = "SUCCESS" if job.status == "complete" else "RUNNING" if job.error is None else "FAILED"
    return {"task_id": job.key, "status": status, "result": job.result}


app = FastAPI(lifespan=lifespan)
app.add_api_route("/v1/tasks", submit, methods=["POST"], status_code=202)
app.add_api_route("/v1/tasks/{task_id}", read, methods=["GET"])
