"""Threads that decode and encode: apart from those that feed the device, and apart for tasks of high priority."""

from typing import NamedTuple, Self

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.worker.devices import cores
from penstock.worker.threads import Threads


class Codecs(NamedTuple):
    """Two pools. Encoding a large result takes minutes; a photo of high priority must not wait behind it."""

    urgent: Threads
    usual: Threads

    @classmethod
    def of(cls, device: Device) -> Self:
        """As many threads as cores where inference runs elsewhere, half as many where it runs on the same cores."""
        size = max(1, cores() // 2) if device.kind == "cpu" else cores()
        return cls(Threads(size, "codec-high"), Threads(size, "codec"))

    def of_priority(self, priority: Priority) -> Threads:
        """Where a task's stages run."""
        return self.urgent if priority is Priority.HIGH else self.usual
