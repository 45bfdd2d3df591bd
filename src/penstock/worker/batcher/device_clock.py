"""Which seconds of a device each run took, where the runs of several threads overlap."""

import math
from threading import Lock

from penstock.models.device_time import DeviceTime


class DeviceClock:
    """Shares out the time of a device that computes one batch at a time, so that no second counts twice."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._taken_until = -math.inf

    def take(self, began: float, ended: float, noted: DeviceTime) -> float:
        """Returns the seconds that a run computed which was with the device between two moments of one clock: those
        that it has noted, else all that no other run has taken. Any thread may call this when its run has ended."""
        # What notes its time waits for its turn, so that two such runs never compute at once. The copy of the results
        # is what it does last: from there on the device computes for others.
        computed_until = ended - (noted.copy_s or 0.0)
        with self._lock:
            left_s = max(0.0, computed_until - max(began, self._taken_until))
            self._taken_until = max(self._taken_until, computed_until)
        return left_s if noted.compute_s is None else noted.compute_s
