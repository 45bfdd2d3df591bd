"""The load: photos of mixed sizes, and a queue of them that never runs dry."""

import asyncio
import os
import random
import time
from pathlib import Path

from msgspec import Struct

from penstock.bench.images import mirrored
from penstock.core.access import TENANT
from penstock.core.request import Format, OutputOptions, Request, Source
from penstock.core.submission import Submission
from penstock.core.task import Priority, new_task_id
from penstock.pixels.encoding import encode
from penstock.store import Store
from tools.device_model.plan import NAME

SIZES = (
    (256, 256), (384, 256), (512, 384), (640, 480), (800, 600), (1024, 768), (1280, 720), (1440, 1080), (1600, 1200),
    (2048, 1536),
)  # fmt: skip
"""Width and height of the photos, 0.07 to 3.15 megapixels, 0.99 on average; as many of each."""

SMALL = (256, 256)
LOOK_EVERY_S = 0.1


class Sent(Struct, frozen=True, kw_only=True):
    """A task that was submitted."""

    id: str
    label: str
    priority: Priority
    megapixels: float


class Photos:
    """The files of the photos in the storage of the worker."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._masters: dict[tuple[int, int], Path] = {}
        (root / "masters").mkdir(parents=True)
        (root / "inputs" / TENANT).mkdir(parents=True)
        for size in {*SIZES, SMALL}:
            self._masters[size] = root / "masters" / f"{size[0]}x{size[1]}.jpg"
            self._masters[size].write_bytes(encode(mirrored(*size), OutputOptions(format="jpeg")))

    def put(self, size: tuple[int, int], task_id: str) -> str:
        """Store a photo as the input of a task, and return its key."""
        key = f"inputs/{TENANT}/{task_id}"
        os.link(self._masters[size], self._root / key)
        return key


class Feeder:
    """Keeps `depth` tasks in the queue. With `high_every_s`, a small photo of high priority is sent so often."""

    def __init__(self, store: Store, photos: Photos, *, depth: int, result: Format, high_every_s: float) -> None:
        self._store = store
        self._photos = photos
        self._depth = depth
        self._output = OutputOptions(format=result)
        self._high_every_s = high_every_s
        self._dice = random.Random(1)
        self._sizes: list[tuple[int, int]] = []
        self.sent: dict[str, Sent] = {}

    async def fill(self) -> None:
        """Submit until the queue is full."""
        waiting = sum(queue.depth for queue in await self._store.queues.depths([NAME]))
        for _ in range(self._depth - waiting):
            await self._submit(self._next_size(), Priority.NORMAL)

    async def go_on(self) -> None:
        """Keep the queue full until it is canceled."""
        high_at = time.monotonic() + self._high_every_s
        while True:
            await self.fill()
            if self._high_every_s and time.monotonic() >= high_at:
                high_at += self._high_every_s
                await self._submit(SMALL, Priority.HIGH)
            await asyncio.sleep(LOOK_EVERY_S)

    def _next_size(self) -> tuple[int, int]:
        if not self._sizes:
            self._sizes = self._dice.sample(SIZES, len(SIZES))
        return self._sizes.pop()

    async def _submit(self, size: tuple[int, int], priority: Priority) -> None:
        task_id, label = new_task_id(), f"t{len(self.sent)}"
        source = Source(key=self._photos.put(size, task_id))
        self.sent[label] = Sent(id=task_id, label=label, priority=priority, megapixels=size[0] * size[1] / 1e6)
        await self._store.tasks.await_inputs([str(source.key)])
        await self._store.tasks.submit(
            Submission(
                id=task_id,
                tenant=TENANT,
                caller="simulation",
                priority=priority,
                cost=max(1, size[0] * size[1] // 1000),
                request=Request(model=NAME, inputs={"image": source}, params={"label": label}, output=self._output),
                fingerprint="0" * 64,
                max_retries=0,
                timeout_s=3600.0,
                start_within_s=None,
                finish_within_s=None,
                result_ttl_s=86_400,
            ),
            rate_limit=0,
        )
