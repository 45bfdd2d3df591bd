"""How long a client keeps on trying."""

import random
import time
from collections.abc import Iterator

from penstock.client.problems import PenstockApiError

BASE_S, CAP_S = 0.2, 5.0
"""Pause before retry n is random between 0 and base × 2^n, at most the cap, on top of what the server asks for: all
clients of a server that comes back do not come back in the same moment."""


class Tries:
    """The pauses of one request, for `patience_s` in all."""

    def __init__(self, patience_s: float) -> None:
        self._give_up = time.monotonic() + patience_s
        self._caps = _caps()

    def pause_after(self, error: PenstockApiError) -> float:
        """Seconds to wait before the next try; raises the error when no try would help, or none is left."""
        pause_s = (error.retry_after_s or 0.0) + random.uniform(0, next(self._caps))  # noqa: S311  no secret
        if not error.retryable or time.monotonic() + pause_s > self._give_up:
            raise error
        return pause_s


def _caps() -> Iterator[float]:
    longest = BASE_S
    while True:
        yield longest
        longest = min(CAP_S, longest * 2)
