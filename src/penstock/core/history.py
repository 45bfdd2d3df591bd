"""What an installation did in the last hour: one sample a minute, of which rates are made. Pure."""

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

MINUTES = 60
"""Samples that are kept."""

SECOND_MS = 1000


class MinuteSample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One minute, the `minute`th since 1970: the tasks that waited by priority, those that ran, the workers that were
    READY, and how long the oldest task had waited. `success`, `failed` and `device_ms` are sums since midnight, UTC."""

    minute: int
    waiting: dict[str, int] = {}
    running: int = 0
    workers: int = 0
    oldest_s: float = 0.0
    success: int = 0
    failed: int = 0
    device_ms: float = 0.0


class Rate(Struct, frozen=True, kw_only=True):
    """What happened between two samples, by minute: tasks that succeeded and failed, and the share of the time of its
    devices that was used, 0 to 1."""

    minute: int
    done: float
    failed: float
    busy: float


def rates_of(samples: Sequence[MinuteSample]) -> list[Rate]:
    """Return the rates between the samples, the oldest first; none over midnight, where the sums begin anew."""
    return [
        _rate(before, after)
        for before, after in pairwise(samples)
        if after.success >= before.success and after.device_ms >= before.device_ms
    ]


def _rate(before: MinuteSample, after: MinuteSample) -> Rate:
    minutes = max(1, after.minute - before.minute)
    devices_ms = max(1, after.workers) * minutes * 60 * SECOND_MS
    return Rate(
        minute=after.minute,
        done=(after.success - before.success) / minutes,
        failed=max(0, after.failed - before.failed) / minutes,
        busy=min(1.0, (after.device_ms - before.device_ms) / devices_ms),
    )
