"""The model that a worker loads: superres-x4 with its real tiles and canvases, on a device and codecs that only take
time.

Set `models.modules` to this module, and the environment variable DEVICE_MODEL to a `Plan` as JSON. Importing it also
makes the process see as many cores as the simulated host has.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models import imaging
from penstock.models.base import Outputs, Product, Work, model_runner
from penstock.models.device_time import note_device_time
from penstock.models.onnxruntime.session import manifest
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import Ladder
from tools.device_model.cards import Card
from tools.device_model.plan import NAME, VARIABLE, Plan
from tools.device_model.record import Recorder

ORIGINAL = "superres-x4"
LARGEST_SIDE = 2048


class SimulatedParams(SuperresParams, frozen=True):
    """Those of superres-x4, and the label under which the task is recorded."""

    label: str = ""


@model_runner(NAME)
class SimulatedSuperres(SuperResolution):
    """Cuts, stacks and joins as superres-x4 does. `infer`, decoding and encoding sleep."""

    params = SimulatedParams

    @classmethod
    def digest(cls) -> str:
        """Nothing is reused."""
        return "simulated"

    @classmethod
    def output_size(cls, width: int, height: int, params: SuperresParams) -> tuple[int, int]:
        """The size of the result of superres-x4."""
        scale = manifest()[ORIGINAL, params.variant].scale
        return width * scale, height * scale

    @classmethod
    def device_size(cls, width: int, height: int, params: SuperresParams) -> int:
        """The kilopixels of the image."""
        return max(1, width * height // 1000)

    def load_model(self, device: Device) -> None:
        """Make the ladder of the shipped file; no session is opened."""
        self._device = device
        self._files = {"general": manifest()[ORIGINAL, "general"]}  # type: ignore[dict-item]
        self._sessions = dict.fromkeys(self._files)  # type: ignore[assignment]
        self._ladders = {v: Ladder(device.shapes, file.overlap_px) for v, file in self._files.items()}
        self._card = _Device(_plan.card, _plan.slowed, _recorder)
        self._pixels = np.random.default_rng(1).integers(0, 256, 3 * LARGEST_SIDE**2, np.uint8)
        self._result = np.random.default_rng(1).bytes(64 * 1024)

    def memory_needed(self, source: bytes, params: SuperresParams) -> int:
        """What superres-x4 needs."""
        _name_threads()
        now = time.time()
        _recorder.note("need", now, now, _label(params))
        return super().memory_needed(source, params)

    def image(self, source: bytes) -> imaging.Picture:
        """Check the header, and sleep for as long as decoding takes."""
        header = imaging.probe(source, max_megapixels=self.limits.max_image_megapixels)
        time.sleep(header.megapixels / _plan.rates.decode_mp_per_s * _plan.slowed)
        pixels = self._pixels[: 3 * header.width * header.height]
        return imaging.Picture(pixels.reshape(header.height, header.width, 3))

    def prepare(self, source: bytes, params: SuperresParams) -> Work:
        """Lay out the tiles of superres-x4, and record what is done with them."""
        label, start = _label(params), time.time()
        work = super().prepare(source, params)
        _recorder.note("decode", start, time.time(), label, work.count)
        return _watched(work, label, self._card)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Sleep for as long as the device takes; the outputs are noise."""
        return self._card.run(tiles)

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Sleep for as long as encoding takes, and return as many bytes."""
        assert work.size is not None  # noqa: S101  prepare made it
        width, height = work.size
        with _recorder.timed("encode", _label(params)):
            time.sleep(width * height / 1e6 / _plan.rates.encode_mp_per_s * _plan.slowed)
            size = int(width * height * _plan.rates.bytes_per_px)
            file = (self._result * (size // len(self._result) + 1))[:size]
        return Product(
            file=file,
            content_type=imaging.CONTENT_TYPES[output.format],
            extension=output.format,
            width=width,
            height=height,
        )

    def interrupt(self, work: Work) -> None:
        """Nothing stops a sleep."""


class _Device:
    """One card. As in a session on CUDA, one run computes at a time, and results are copied down beside the next."""

    def __init__(self, card: Card, slowed: float, recorder: Recorder) -> None:
        self._card = card
        self._slowed = slowed
        self._recorder = recorder
        self._computing = threading.Lock()
        self._noise: dict[str, NDArray[Any]] = {}
        self._stacked: dict[int, str] = {}  # address of a tile -> its task

    def stacked(self, address: int, label: str) -> None:
        """Remember whose tile was written to this address, until a run takes it from there."""
        self._stacked[address] = label

    def run(self, tiles: NDArray[Any]) -> NDArray[Any]:
        """One batch: up, compute, down."""
        asked = time.time()
        labels = self._labels(tiles)
        outputs = self._outputs(tiles)
        up_s = self._slowed * self._card.copy_s(tiles.nbytes, page_locked=not tiles.flags.owndata)
        pixels = tiles.size // 3
        compute_s = self._slowed * self._card.compute_s(pixels)
        with self._computing:
            began = time.time()
            time.sleep(up_s)
            start = time.time()
            time.sleep(compute_s)
            end = time.time()
        down_s = self._slowed * self._card.copy_s(outputs.nbytes)
        time.sleep(down_s)
        note_device_time(compute_s=end - start, copy_s=time.time() - end + start - began)
        self._recorder.note("wait", asked, began)
        self._recorder.note("up", began, start)
        self._recorder.note("compute", start, end, ",".join(dict.fromkeys(labels)), pixels)
        self._recorder.note("down", end, time.time())
        self._recorder.note("infer", asked, time.time(), "", len(labels))
        return outputs

    def _labels(self, tiles: NDArray[Any]) -> list[str]:
        first = tiles.__array_interface__["data"][0]
        step = tiles.nbytes // len(tiles)
        found = (self._stacked.pop(first + n * step, "") for n in range(len(tiles)))
        return [label for label in found if label]

    def _outputs(self, tiles: NDArray[Any]) -> NDArray[Any]:
        """Noise in the form of the outputs. One block is read by all: a result lies in memory that was written by the
        device, so that its pages are there."""
        if tiles.dtype == np.uint8:
            count, height, width, channels = tiles.shape
            shape: tuple[int, ...] = (count, 4 * height, 4 * width, channels)
        else:
            count, channels, height, width = tiles.shape
            shape = (count, channels, 4 * height, 4 * width)
        size = int(np.prod(shape))
        block = self._noise.get(tiles.dtype.str)
        if block is None or block.size < size:
            block = np.resize(_noise(tiles.dtype), size)
            self._noise[tiles.dtype.str] = block
        return block[:size].reshape(shape)


def _label(params: SuperresParams) -> str:
    return params.label if isinstance(params, SimulatedParams) else ""


@cache
def _name_threads() -> None:
    """Write down which thread is which; all of them have started when the first task asks for memory."""
    for thread in threading.enumerate():
        _recorder.note("thread", 0.0, 0.0, thread.name, thread.native_id or 0)


def _noise(dtype: np.dtype[Any]) -> NDArray[Any]:
    dice = np.random.default_rng(2)
    return dice.integers(0, 256, 2**20, np.uint8) if dtype == np.uint8 else dice.random(2**20, np.float32)


def _watched(work: Work, label: str, card: _Device) -> Work:
    """Record when tiles of this work are written and outputs accepted."""
    write_tile, accept = work.write_tile, work.accept

    def recorded_write(index: int, into: NDArray[Any]) -> None:
        card.stacked(into.__array_interface__["data"][0], label)
        with _recorder.timed("stack", label), _stretched():
            write_tile(index, into)

    def recorded_accept(index: int, output: Any) -> None:
        with _recorder.timed("accept", label), _stretched():
            accept(index, output)

    work.write_tile, work.accept = recorded_write, recorded_accept  # type: ignore[method-assign]
    return work


@contextmanager
def _stretched() -> Iterator[None]:
    """Keep a thread as long as it would be kept if its core were slowed as the device is: otherwise a few threads seem
    to be enough for any device. The sleep costs no CPU time, which is counted."""
    before = time.thread_time()
    yield
    time.sleep((_plan.slowed - 1) * (time.thread_time() - before))


_plan = msgspec.json.decode(os.environ[VARIABLE], type=Plan)
_recorder = Recorder(_plan.record)
os.sched_getaffinity = lambda _: set(range(_plan.card.cores))  # type: ignore[assignment]
