"""Threads that decode and encode: apart from those that feed the device, and apart for tasks of high priority."""

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple, Self

from penstock.device import Device
from penstock.task import Priority
from penstock.worker.devices import cores


class Codecs(NamedTuple):
    """Two pools. Encoding a large result takes minutes; a photo of high priority must not wait behind it."""

    urgent: ThreadPoolExecutor
    usual: ThreadPoolExecutor

    @classmethod
    def of(cls, device: Device) -> Self:
        """As many threads as cores where inference runs elsewhere, half as many where it runs on the same cores."""
        size = max(1, cores() // 2) if device.kind == "cpu" else cores()
        return cls(ThreadPoolExecutor(size, "codec-high"), ThreadPoolExecutor(size, "codec"))

    def of_priority(self, priority: Priority) -> Executor:
        """Where a task's stages run."""
        return self.urgent if priority is Priority.HIGH else self.usual
