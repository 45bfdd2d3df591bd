"""Memory that is given back by a model: the next one is loaded only when it is seen to be free."""

import asyncio
import gc
from collections.abc import Callable

from loguru import logger

from penstock.allocator import give_back
from penstock.core.device import Device
from penstock.models.onnxruntime.cuda import cuda_runtime
from penstock.worker.memory import resident

SEEN_SHARE = 0.8
"""Share of what a model took that must be seen to be free. Ollama waits for as much."""

WAIT_S = 2.0
"""Longest wait for it: other tasks may have taken the memory meanwhile, and then nobody sees it free."""

LOOK_EVERY_S = 0.01

UNSEEN_BYTES = 32 * 1024**2
"""Less than this is not waited for: an image that comes or goes hides it."""


class MemoryInUse:
    """Looks at the memory in which models are loaded. `used` returns its bytes that are in use, 0 where the system does
    not say; `let_go` returns to the system what this process holds without using it."""

    def __init__(self, used: Callable[[], int], let_go: Callable[[], None] = lambda: None) -> None:
        self.used = used
        self._let_go = let_go

    def measured(self) -> int:
        """Bytes in use, after what is not used was returned. It takes milliseconds: call it on a thread."""
        self._let_go()
        return self.used()

    async def until_freed(self, model: str, *, before: int, size: int) -> bool:
        """Wait until `size` bytes less are in use than `before`, as far as that can be seen; returns False, and logs a
        line, when that is not seen within WAIT_S."""
        if before == 0 or size < UNSEEN_BYTES:
            return True
        enough = before - int(SEEN_SHARE * size)
        try:
            async with asyncio.timeout(WAIT_S):
                while (now := await asyncio.to_thread(self.measured)) > enough:  # noqa: ASYNC110  it says nothing
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            bound = logger.bind(model=model, expected=size, before=before, after=now)
            bound.warning("a model was unloaded, and its memory is not seen to be free; the next one is loaded anyway")
            return False
        return True


def memory_of(device: Device) -> MemoryInUse:
    """The memory in which models of this device are loaded: that of the card, else that of this process."""
    if device.kind == "cuda":
        return MemoryInUse(_used_on_card, _collect)
    return MemoryInUse(resident, give_back)


def _used_on_card() -> int:
    cuda = cuda_runtime()
    if cuda is None:
        return 0
    card = cuda.memory()
    return card.total - card.free


def _collect() -> None:
    # A runner whose own code has cycles holds its session until they are collected.
    gc.collect()
