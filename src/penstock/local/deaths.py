"""What follows from the deaths of a child: another start after a while, or that it is given up."""

import random
import signal

from msgspec import Struct

from penstock.worker.heartbeat import EXIT_DEVICE_LOST

EXIT_CONFIGURATION = 78
"""The exit status for wrong settings (EX_CONFIG of sysexits.h): a restart would end the same way."""

STEADY_S = 2.0
"""A child that was ready for this long is restarted at once. After an earlier death the wait grows each time, since
whatever killed the child would kill it again."""

MAX_EARLY_DEATHS = 5
"""A child that was never ready is given up when it has died this often, as is one that loses its device this often
without being steady in between. A life that was ready for a moment counts half: it may be a task that breaks the
device, and two such tasks are given up after 6 deaths."""


class Life(Struct, frozen=True, kw_only=True):
    """One process of a child, from its start to its death."""

    status: int
    """The exit status, as `subprocess` gives it: below 0 for a signal."""
    was_ready: bool
    """Whether the process reported that it is ready; a child that reports nothing never does."""
    steady_s: float
    """How long the process was ready; of a child that reports nothing, how long it lived."""
    reason: str = ""
    """Why it ended, in its own words or those of its parent, which killed it or saw why; empty where nobody can
    say."""

    @property
    def killed_because(self) -> str:
        """Why it was killed; empty where it was not, or nobody can say."""
        return self.reason if self.status == -signal.SIGKILL else ""


class Deaths:
    """Counts the deaths of one child. Steadiness counts from ready only: a process that loads for minutes and dies
    before it is ready has died early."""

    def __init__(self) -> None:
        self._early = 0
        self._device_lost = 0.0
        self._was_ready = False

    def count(self, life: Life) -> None:
        """Note the death that ended this life."""
        self._was_ready = self._was_ready or life.was_ready
        is_early = life.steady_s <= STEADY_S
        self._early = self._early + 1 if is_early else 0
        is_lost = is_early and life.status == EXIT_DEVICE_LOST
        self._device_lost = self._device_lost + (0.5 if life.was_ready else 1) if is_lost else 0

    def hopeless(self, life: Life) -> bool:
        """Whether another start right after this life would end the same way."""
        tries = self._device_lost if self._was_ready else self._early
        return life.status == EXIT_CONFIGURATION or tries >= MAX_EARLY_DEATHS

    def backoff_s(self) -> float:
        """The seconds before a restart: 0 for the first death after a steady run, then doubling up to 30 s, with
        jitter."""
        return random.uniform(0.5, 1.0) * min(30.0, 0.2 * 2**self._early) if self._early else 0.0  # noqa: S311  jitter
