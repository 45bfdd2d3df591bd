"""The Celery half of the peer: one task that does nothing.

`PEER_LATE=1` makes its promises comparable: a task whose worker dies runs again, and a submit is acknowledged when the
broker has it. Without it, Celery runs with its defaults.
"""

import os

from celery import Celery

app = Celery("peer", broker=os.environ["PEER_BROKER"], backend=os.environ["PEER_RESULTS"])
app.conf.broker_connection_retry_on_startup = True
if os.environ.get("PEER_LATE") == "1":
    app.conf.task_acks_late = True
    app.conf.task_reject_on_worker_lost = True
    app.conf.worker_prefetch_multiplier = 1
    app.conf.task_track_started = True
    app.conf.broker_transport_options = {"confirm_publish": True}


def noop(model: str, image_url: str) -> dict[str, bool]:  # noqa: ARG001
    """Takes the input and returns a constant."""
    return {"ok": True}


noop_task = app.task(noop, name="noop")
