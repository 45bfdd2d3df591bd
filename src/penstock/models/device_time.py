"""How long the runs of a thread kept the device computing, and how long they copied.

Whoever calls `infer` cannot tell them apart by its own clock: a run also copies its input and results, and waits while
another thread computes. What opens sessions notes the parts here; a model that notes nothing computes all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local

from msgspec import Struct


class DeviceTime(Struct):
    """Seconds that the device computed and copied; None until a run has noted them."""

    compute_s: float | None = None
    copy_s: float | None = None
    on_computed: Callable[[], None] | None = None
    """Called on the thread of the run when it has noted that it computed."""


_thread = local()


@contextmanager
def device_time(on_computed: Callable[[], None] | None = None) -> Iterator[DeviceTime]:
    """Yield what runs on this thread note inside of the block. `on_computed` is called when one has computed."""
    before = getattr(_thread, "noted", None)
    _thread.noted = noted = DeviceTime(on_computed=on_computed)
    try:
        yield noted
    finally:
        _thread.noted = before


def note_device_time(*, compute_s: float = 0.0, copy_s: float = 0.0) -> None:
    """Add seconds to what the block around this call has; nothing happens where there is no block."""
    noted: DeviceTime | None = getattr(_thread, "noted", None)
    if noted is not None:
        noted.compute_s = (noted.compute_s or 0.0) + compute_s
        noted.copy_s = (noted.copy_s or 0.0) + copy_s
        if compute_s and noted.on_computed is not None:
            noted.on_computed()
