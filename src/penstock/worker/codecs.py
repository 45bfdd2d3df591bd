"""The threads that decode inputs and encode results, and the decoders that they wait for."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.decoders.pool import DecoderPool, StoppableCall
from penstock.worker.threads import Threads, codec_threads

T = TypeVar("T")


class CodecThreads:
    """The two pools that decode inputs and encode results. Encoding a large result takes minutes; a photo of high
    priority must not wait behind it."""

    def __init__(self, device: Device, decoders: DecoderPool | None = None) -> None:
        """Pools of `codec_threads` each. Images are decoded in `decoders`, without them in the threads."""
        size = codec_threads(device)
        self.urgent, self.usual = Threads(size, "codec-high"), Threads(size, "codec")
        self._decoders = decoders

    def of_priority(self, priority: Priority) -> Threads:
        """The pool that runs the stages of a task with this priority."""
        return self.urgent if priority is Priority.HIGH else self.usual

    async def run(self, priority: Priority, clock: AttemptClock, work: Callable[..., T], *args: Any) -> T:
        """Run a call of an attempt on a thread; the clock stands until one is free. A cancellation ends the decoding of
        an image. What else a thread does cannot be stopped, so that a cancellation waits for it: no stage outlives its
        attempt."""
        call = None if self._decoders is None else StoppableCall(self._decoders)
        run = work if call is None else partial(call.run, work)
        threads, on_begin = self.of_priority(priority), None
        if not threads.is_free:  # else the event loop need not be woken when the call begins
            clock.hold()
            on_begin = clock.resume
        answer = threads.run(run, *args, on_begin=on_begin)
        try:
            return await answer
        except asyncio.CancelledError:
            if call is not None:
                call.stop()
            await threads.left(answer)
            raise
