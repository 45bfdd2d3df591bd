"""The SAQ half of the peer: its queue, and its worker as `saq tools.compare.peers.saq_tasks.settings` runs it.

A function that is not `async` runs in a pool of threads, so that photos are decoded beside the network. One that does
nothing would only wait for its thread.
"""

import os
from typing import Any

from saq import Queue

from tools.compare.peers.work import do_nothing, work_of_environment

queue = Queue.from_url(os.environ["PEER_REDIS"])


async def startup(context: dict[str, Any]) -> None:
    """Loads the network."""
    context["work"] = work_of_environment()


async def noop(context: dict[str, Any], *, x: int) -> dict[str, Any]:  # noqa: ARG001
    """Takes the input and returns a constant."""
    return do_nothing({"x": x})


def classify(context: dict[str, Any], *, image: str) -> Any:
    """Returns the answer for one photo."""
    return context["work"]({"image": image})


settings = {"queue": queue, "functions": [noop, classify], "startup": startup}
