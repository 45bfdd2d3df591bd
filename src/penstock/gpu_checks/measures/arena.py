"""How much memory of the card the models hold, once a worker has loaded them and warmed them up in its own order."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from penstock.core.device import Device
from penstock.gpu_checks.measures.product import SCORER, UPSCALER, on_scheduler
from penstock.models.onnxruntime.cuda import DeviceMemory, cuda_runtime
from penstock.models.onnxruntime.probe import probe_device


def arena(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the memory that the start of a worker takes, what is then left, and the batches that did not fit.

    Other programs on the card are part of these figures: run it on a card that nobody else uses.
    """
    probe_device(device)  # brings the context of CUDA, which is not the models'
    before = _memory()
    yield {"limit_mib": device.memory_limit_bytes / 2**20}
    started = time.perf_counter()
    after = asyncio.run(_memory_in_service(device))
    yield {"start_s": time.perf_counter() - started}
    if before is not None and after is not None:
        yield {"held_mib": (before.free - after.free) / 2**20, "free_mib": after.free / 2**20}


async def _memory_in_service(device: Device) -> DeviceMemory | None:
    async with on_scheduler(device, UPSCALER, SCORER):
        return _memory()


def _memory() -> DeviceMemory | None:
    cuda = cuda_runtime()
    return cuda.memory() if cuda else None
