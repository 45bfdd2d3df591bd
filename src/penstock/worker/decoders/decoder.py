"""A worker's side of one child that decodes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from loguru import logger

from penstock.errors import ImageDecodeFailed, Internal
from penstock.pixels.headers import ImageHeader
from penstock.pixels.headers.metadata import MOST_PROFILE_BYTES
from penstock.pixels.picture import USUAL, Picture, PixelForm
from penstock.telemetry import metrics
from penstock.worker.decoders.exchange import FAULTS, KEPT_BYTES, MOST_MESSAGE_BYTES, Decoded, DecodeOutcome
from penstock.worker.decoders.shared_file import SharedFile, pixel_bytes

START_S = 60.0
"""How long a child may take to get ready. It takes 0.2 s."""

CPU_S, CPU_S_PER_MEGAPIXEL = 10, 2
"""Seconds of a processor that one image may take, ten times what the slowest form does: also of a child whose worker is
gone."""

USUAL_CPU_S, USUAL_CPU_S_PER_MEGAPIXEL = 0.25, 0.06
"""Seconds of a processor within which nearly all images are decoded. A child that takes longer gives way."""

LOOK_AGAIN_S = 0.1
"""A child that waits for a processor is looked at no more often."""

GIVING_WAY = 10
"""The niceness of such a child: it has a tenth of a core that others want, and all of one that nobody wants."""

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # nobody multiplies matrices
    # Memory of an image is kept for the next, which would otherwise take half as long again for new pages.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2),
}
"""All that a child has, beside its path: nothing of the worker's environment, where its secrets are."""


class Decoder:
    """A child that decodes one image at a time. Any thread may end it meanwhile with `kill`."""

    def __init__(self, memory_bytes: int, on_give_way: Callable[[], None] = lambda: None) -> None:
        """Start it: it may take so much memory for an image. Raises Internal when it does not get ready, OSError."""
        self._on_give_way = on_give_way
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = _started(theirs.fileno(), memory_bytes)
        except OSError:
            self._line.close()
            raise
        self._file: SharedFile | None = None
        self._its_file: SharedFile | None = None  # what the child has mapped
        self._is_killed = False
        self._has_given_way = False  # for ever: only root may undo it
        self.lacks = self._ready()

    def decode(self, data: bytes, header: ImageHeader, wanted: PixelForm = USUAL) -> Picture:
        """The picture of an image with this header. Raises ImageDecodeFailed, also when the child ends."""
        file = self._file_of(pixel_bytes(header, wanted) + len(data))
        try:
            return self._picture(file, data, header, wanted)
        finally:
            if file is not self._file:
                file.close()

    @property
    def process_id(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """Seconds of a processor that it has taken."""
        # MAKE_PROCESS_CPUCLOCK of the kernel's posix-timers.h, which is what clock_getcpuclockid gives.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    @property
    def is_fit(self) -> bool:
        """Whether it can decode another image, as fast as any."""
        return not self._is_killed and not self._has_given_way and self._process.poll() is None

    def kill(self) -> None:
        """End it now; a `decode` that waits for it raises."""
        self._is_killed = True  # before it ends, or another image might be given to it
        self._process.kill()

    def close(self) -> None:
        """End it, and wait until it is gone."""
        self._line.close()
        if self._file is not None:
            self._file.close()
        self._process.kill()
        self._process.wait()

    def _picture(self, file: SharedFile, data: bytes, header: ImageHeader, wanted: PixelForm) -> Picture:
        self._limit_cpu(header.megapixels)
        usual_s = USUAL_CPU_S + USUAL_CPU_S_PER_MEGAPIXEL * header.megapixels
        job = file.put(data, header, wanted)
        answer = self._ask(job.packed(), [] if file is self._its_file else [file.number], usual_s)
        self._its_file = file if file is self._file else None
        if answer is None:
            raise ImageDecodeFailed(f"the image makes its decoder {self._end()}; it is damaged, or made for that")
        if answer.outcome != DecodeOutcome.DECODED:
            self._its_file = None  # where memory is short, the child may not have mapped it
            raise ImageDecodeFailed(FAULTS.get(answer.outcome, FAULTS[DecodeOutcome.DAMAGED]))
        _check(answer, header, wanted)
        return file.picture(answer)

    def _file_of(self, size: int) -> SharedFile:
        """A file with room for so many bytes: the one before where that is free. A large one is not kept."""
        if self._file is not None and self._file.is_free(size):
            return self._file
        file = SharedFile(size)
        if size <= KEPT_BYTES:
            if self._file is not None:
                self._file.close()
            self._file = file
        return file

    def _ready(self) -> list[str]:
        self._line.settimeout(START_S)
        with suppress(OSError):
            if lacks := self._line.recv(MOST_MESSAGE_BYTES):
                self._line.settimeout(None)
                return [one for one in lacks.decode().split(",") if one != "-"]
        self.close()
        logger.bind(status=self._process.returncode).error("a process that decodes images did not start")
        raise Internal("a process that decodes images did not start; the worker's log says more")

    def _ask(self, message: bytes, files: list[int], usual_s: float) -> Decoded | None:
        """The answer of the child, which gives way when it takes longer than usual; None when it has ended, or says
        what none says."""
        try:
            ends_at_s = self.cpu_s + usual_s
            socket.send_fds(self._line, [message], files)
            return Decoded.of(self._answer(ends_at_s))
        except (OSError, ValueError):
            return None

    def _answer(self, ends_at_s: float) -> bytes:
        while (left_s := ends_at_s - self.cpu_s) > 0:
            self._line.settimeout(max(left_s, LOOK_AGAIN_S))
            with suppress(TimeoutError):
                return self._line.recv(MOST_MESSAGE_BYTES)
        self._line.settimeout(None)
        self._give_way()
        return self._line.recv(MOST_MESSAGE_BYTES)

    def _give_way(self) -> None:
        self._has_given_way = True
        os.setpriority(os.PRIO_PROCESS, self._process.pid, GIVING_WAY)
        self._on_give_way()

    def _end(self) -> str:
        """How it has ended, in words."""
        self.kill()  # where it lives, it does not do as it should
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        metrics.report("decoders.lost", how=how)
        return f"crash ({how})"

    def _limit_cpu(self, megapixels: float) -> None:
        with suppress(OSError):  # it may just have ended
            limit_s = int(self.cpu_s + CPU_S + CPU_S_PER_MEGAPIXEL * megapixels)
            resource.prlimit(self._process.pid, resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))


def _started(line: int, memory_bytes: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "penstock.worker.decoders.child", str(line), str(memory_bytes)],
        pass_fds=(line,),
        stdin=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the worker
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **ENVIRONMENT},
    )


def _check(answer: Decoded, header: ImageHeader, wanted: PixelForm) -> None:
    """Hold a child to the size that was read in the header: nothing that it says is taken on trust."""
    if {answer.width, answer.height} != {header.width, header.height}:
        raise ImageDecodeFailed("the image has another size than its header says")
    if answer.is_16_bits and not wanted.is_deep:
        raise ImageDecodeFailed("the image has more bits than were asked for")
    if answer.profile_bytes > (MOST_PROFILE_BYTES if wanted.keeps_colours else 0):
        raise ImageDecodeFailed("the image has a longer profile than there is room for")
