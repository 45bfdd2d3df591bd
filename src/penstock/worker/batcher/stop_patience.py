"""How long a run goes on that was told to stop."""

import asyncio
from contextlib import suppress

STUCK_S = 5.0
"""A run that goes on this long after it was told to stop will not stop: the device is considered lost. The longest
single node of the built-in models takes under a second on a CPU."""

STUCK_RUNS = 4
"""A GPU may finish a run that was told to stop, and the one before it: a run is given as long as this many of the
longest that are known, if that is longer than STUCK_S."""

CHECK_S = 0.25
"""The longest wait that counts. A process that was frozen for longer, or suspended with its machine, must not take a
run for stuck: it stood still, too."""


class StopPatience:
    """The seconds that are left to the runs of a task that has left. `longest_s` is that of the runs that are known."""

    def __init__(self, longest_s: float) -> None:
        self._allowed_s = self._left_s = max(STUCK_S, STUCK_RUNS * longest_s)

    @property
    def is_over(self) -> bool:
        return self._left_s <= 0

    async def wait(self, ended: asyncio.Event, *, counts: bool) -> None:
        """Wait until a run has ended, but not for long. The time counts where all runs that the task is in should stop:
        the ends of others give them no more time."""
        now = asyncio.get_running_loop().time
        ended.clear()
        began = now()
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await ended.wait()
        self._left_s = self._left_s - min(now() - began, CHECK_S) if counts else self._allowed_s
