"""The children of a worker, and the calls that decode in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import ParamSpec, TypeVar

from loguru import logger

from penstock.errors import ImageDecodeFailed, Internal
from penstock.pixels.elsewhere import DECODER
from penstock.pixels.headers import ImageHeader
from penstock.pixels.picture import Picture, PixelForm
from penstock.settings import LimitSettings
from penstock.telemetry import metrics
from penstock.worker.decoders.decoder import Decoder

P = ParamSpec("P")
T = TypeVar("T")

BYTES_PER_PIXEL, BYTES_BESIDE = 56, 128 * 1024**2
"""Memory of a child. Of all forms 16 bits of grey take most: 40 bytes for each pixel, in Pillow and as floats."""


class DecoderPool:
    """As many children as have ever been busy at a time, the first with the first image. When one takes longer than
    usual or ends, and none is idle, another is started ahead of need: a start takes longer than a photo."""

    def __init__(self, limits: LimitSettings) -> None:
        pixels_bytes = int(limits.max_image_megapixels * 1e6) * BYTES_PER_PIXEL
        self._memory_bytes = BYTES_BESIDE + pixels_bytes + 2 * limits.max_input_bytes
        self.idle: list[Decoder] = []  # the last that was busy is the next: the others may be swapped out
        self._busy: set[Decoder] = set()
        self._has_told = False
        self._lock = Lock()
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._starter: Thread | None = None
        metrics.meters().observe("decoders", self._counts)

    def take(self) -> Decoder:
        """A child for this thread, until it is given back. Raises Internal when none can be started."""
        child = self._idle_one() or self._started()
        self._busy.add(child)
        return child

    def give_back(self, child: Decoder) -> None:
        """Take a child back."""
        self._busy.discard(child)
        if child.is_fit:
            self.idle.append(child)
        else:
            child.close()
            self._want_another()

    def cpu_s(self) -> float:
        """Seconds of a processor that the children have taken. None may be busy."""
        return sum(child.cpu_s for child in self.idle)

    def close(self) -> None:
        """End the children. None may be busy."""
        self._wanted.put(False)
        if self._starter is not None:
            self._starter.join()
        while self.idle:
            self.idle.pop().close()

    def _idle_one(self) -> Decoder | None:
        while self.idle:
            try:
                child = self.idle.pop()
            except IndexError:  # another thread was faster
                break
            if child.is_fit:
                return child
            child.close()
        return None

    def _counts(self) -> list[tuple[float, dict[str, str]]]:
        return [(len(self.idle), {"state": "idle"}), (len(self._busy), {"state": "busy"})]

    def _want_another(self) -> None:
        with self._lock:
            if self._starter is None:
                self._starter = Thread(target=self._start_wanted, name="decoders", daemon=True)
                self._starter.start()
        self._wanted.put(True)

    def _start_wanted(self) -> None:
        # On a thread that stays: the kernel ends a child with the thread that has started it.
        while self._wanted.get():
            if not self.idle:
                with suppress(Internal, OSError):  # who needs one is told
                    self.idle.append(self._started())

    def _started(self) -> Decoder:
        child = Decoder(self._memory_bytes, self._want_another)
        if child.lacks and not self._has_told:
            self._has_told = True
            logger.bind(missing=child.lacks).warning("this kernel cannot confine the processes that decode images")
        return child


class StoppableCall:
    """A call on a thread, whose images are decoded in children, and which ends soon once it is stopped."""

    def __init__(self, pool: DecoderPool) -> None:
        self._pool = pool
        self._lock = Lock()
        self._child: Decoder | None = None
        self._is_stopped = False

    def run(self, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What the call returns or raises."""
        before = DECODER.set(self._decode)
        try:
            return call(*args, **options)
        finally:
            DECODER.reset(before)

    def stop(self) -> None:
        """End the decoding that runs, and let none begin. Another thread may call this."""
        with self._lock:
            self._is_stopped = True
            if self._child is not None:
                self._child.kill()

    def _decode(self, data: bytes, header: ImageHeader, wanted: PixelForm) -> Picture:
        try:
            return self._decode_in_child(data, header, wanted)
        except OSError as error:  # no memory, or no numbers of files
            raise Internal("no process could be given an image to decode") from error

    def _decode_in_child(self, data: bytes, header: ImageHeader, wanted: PixelForm) -> Picture:
        child = self._pool.take()
        try:
            self._begin(child)
            return child.decode(data, header, wanted)
        finally:
            with self._lock:
                self._child = None
            self._pool.give_back(child)

    def _begin(self, child: Decoder) -> None:
        with self._lock:
            if self._is_stopped:
                raise ImageDecodeFailed("the decoding was stopped")
            self._child = child


@contextmanager
def open_pool(limits: LimitSettings) -> Iterator[DecoderPool | None]:
    """A pool inside of this block; None where the system has no files in memory, as only Linux has."""
    if not hasattr(os, "memfd_create"):
        logger.warning("images are decoded in threads of the worker: this system has no files in memory")
        yield None
        return
    pool = DecoderPool(limits)
    try:
        yield pool
    finally:
        pool.close()
