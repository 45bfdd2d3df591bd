"""The Celery half of the peer. Its settings make its promises comparable: a task whose worker dies runs again, and a
submit is acknowledged when the broker has it."""

import os
from functools import cache
from typing import Any

from celery import Celery

from tools.compare.peers.work import Body, work_of_environment

app = Celery("peer", broker=os.environ["PEER_BROKER"], backend=os.environ["PEER_REDIS"])
app.conf.broker_connection_retry_on_startup = True
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.worker_prefetch_multiplier = 1
app.conf.task_track_started = True
app.conf.broker_transport_options = {"confirm_publish": True}

loaded = cache(work_of_environment)
"""The network is loaded by the first task of the process that runs them."""


def run(body: Body) -> dict[str, Any]:
    """Runs a task."""
    return loaded()(body)


run_task = app.task(run, name="run")
