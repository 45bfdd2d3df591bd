"""When a client tries again, and for how long."""

import random
import time
from collections.abc import Iterator

from penstock.client.problems import PenstockApiError

BASE_S, CAP_S = 0.2, 5.0
"""Pause before retry n is random between 0 and base × 2^n, at most the cap, on top of what the server asks for: all
clients of a server that comes back do not come back in the same moment."""

LEAST_S = 2.0
"""What a try is given in any case: whoever has no patience wants one try, and not none."""


class Tries:
    """The pauses of one request, for `patience_s` in all. While bytes move the patience begins anew, but only until a
    try has failed: a link that breaks at the same place each time would be tried for ever."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._give_up = time.monotonic() + patience_s
        self._have_failed = False
        self._caps = _caps()

    def moved(self) -> None:
        """Notes that bytes were transferred."""
        if not self._have_failed:
            self._give_up = time.monotonic() + self._patience_s

    def silence_s(self, longest_s: float) -> float:
        """How long the other side may be silent in the next try, in seconds: the longest, or what is left of the
        patience."""
        left_s = self._give_up - time.monotonic() if self._have_failed else self._patience_s
        return min(longest_s, max(LEAST_S, left_s))

    def pause_after(self, error: PenstockApiError) -> float:
        """Seconds to wait before the next try; raises the error when no try would help, or none is left."""
        self._have_failed = True
        pause_s = (error.retry_after_s or 0.0) + random.uniform(0, next(self._caps))  # noqa: S311  no secret
        if not error.retryable or time.monotonic() + pause_s > self._give_up:
            raise error
        return pause_s


def _caps() -> Iterator[float]:
    longest = BASE_S
    while True:
        yield longest
        longest = min(CAP_S, longest * 2)
