"""The model that a simulated worker loads: superres-x4 with its real tiles and canvases. Its device and its codecs only
take time.

`models.modules` names this module, and the environment has a `Plan`. Importing it also makes the process see as many
cores as the simulated host has, and claim as far ahead as that would.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Never

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError
from penstock.models.base import Params, Product, Work, model_runner
from penstock.models.onnxruntime.late import LateSessions
from penstock.models.onnxruntime.session import ModelFile, manifest
from penstock.models.superres import EIGHT_BITS, SuperResolution, SuperresParams
from penstock.models.tiling import tiling_on
from penstock.pixels.encoding import CONTENT_TYPES
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture
from penstock.worker import prefetch
from tools.device_model.plan import NAME, VARIABLE, Plan
from tools.device_model.record import Kind, Recorder
from tools.device_model.session import SimulatedSession

LARGEST_SIDE = 2048


def _unavailable(name: str) -> Never:
    raise ConfigurationError(f"a simulated device has no other session of {name}")


class SimulatedParams(SuperresParams, frozen=True):
    """Those of superres-x4, and the label under which the task is recorded."""

    label: str = ""


@model_runner(NAME)
class SimulatedSuperres(SuperResolution):
    """Cuts, stacks and joins as superres-x4 does. The device, decoding and encoding sleep."""

    params = SimulatedParams

    @classmethod
    def digest(cls) -> str:
        """Nothing is reused."""
        return "simulated"

    @classmethod
    def output_size(cls, width: int, height: int, params: SuperresParams) -> tuple[int, int]:  # noqa: ARG003
        """The size of the result of superres-x4."""
        scale = _file().scale
        return width * scale, height * scale

    @classmethod
    def device_size(cls, width: int, height: int, params: SuperresParams) -> int:  # noqa: ARG003
        """The kilopixels of the image."""
        return max(1, width * height // 1000)

    def load_model(self, device: Device) -> None:
        """Make the ladder of the shipped file, and no session of the runtime."""
        self._device = device
        self._session = SimulatedSession(_plan, _recorder)
        self._files = {"general": _file()}
        self._sessions = {"general": self._session}  # type: ignore[dict-item]
        self._deep, self._exact = LateSessions(_unavailable, "here"), LateSessions(_unavailable, "here")
        self._tilings = {"general": tiling_on(device, _file().overlap_px)}
        self._pixels = np.random.default_rng(1).integers(0, 256, 3 * LARGEST_SIDE**2, np.uint8)
        self._results: dict[int, bytes] = {}

    def warmup(self) -> Iterator[Work]:
        """Yield every shape, without the check of what superres-x4 computes: here that is noise."""
        for height, width in self._device.shapes:
            yield Work([np.zeros((height, width, 3), np.uint8)], lane="general")

    def memory_needed(self, source: bytes, params: SuperresParams, output: OutputOptions = EIGHT_BITS) -> int:
        """What superres-x4 needs."""
        now = time.time()
        _recorder.note("need", now, now, _label(params))
        return super().memory_needed(source, params, output)

    def image(self, source: bytes, params: Params | None = None) -> Picture:
        """Check the header, and sleep for as long as decoding takes."""
        header = probe(source, ImageBounds.of(self.limits))
        time.sleep(_plan.slowed * header.megapixels / _plan.rates.decode_mp_per_s)
        pixels = self._pixels[: 3 * header.width * header.height]
        return Picture(pixels.reshape(header.height, header.width, 3))

    def prepare(self, source: bytes, params: SuperresParams, output: OutputOptions = EIGHT_BITS) -> Work:
        """Lay out the tiles of superres-x4, and record what is done with them."""
        started = time.time()
        work = super().prepare(source, params, output)
        _recorder.note("decode", started, time.time(), _label(params), work.count)
        self._watch(work, _label(params))
        return work

    def postprocess(self, work: Work, params: SuperresParams, output: OutputOptions) -> Product:
        """Sleep for as long as encoding takes, and return as many bytes."""
        assert work.size is not None  # prepare made it
        width, height = work.size
        with _recorder.timed("encode", _label(params)):
            time.sleep(_plan.slowed * width * height / 1e6 / _plan.rates.encode_mp_per_s)
        return Product(
            file=self._result(int(width * height * _plan.rates.bytes_per_px)),
            content_type=CONTENT_TYPES[output.format],
            extension=output.format,
            width=width,
            height=height,
        )

    def _watch(self, work: Work, label: str) -> None:
        write_tile, accept = work.write_tile, work.accept

        def recorded_write(index: int, into: NDArray[Any]) -> None:
            self._session.stacked(into, label)
            with _stretched("stack", label):
                write_tile(index, into)

        def recorded_accept(index: int, output: Any) -> None:
            with _stretched("accept", label):
                accept(index, output)

        work.write_tile, work.accept = recorded_write, recorded_accept  # type: ignore[method-assign]

    def _result(self, size: int) -> bytes:
        # One for each size, of which there are few: making it would hold the interpreter's lock, which encoding does
        # not.
        if size not in self._results:
            self._results[size] = bytes(size)
        return self._results[size]


@contextmanager
def _stretched(kind: Kind, label: str) -> Iterator[None]:
    """Record a block, and keep its thread as long as on a core that is slowed as the device is: otherwise a few threads
    seem to be enough for any device. The sleep takes no CPU time, which is what is counted."""
    started, cpu_s = time.time(), time.thread_time()
    yield
    cpu_s = time.thread_time() - cpu_s
    # Time for which others had the core is part of the sleep: the machine may be busy.
    time.sleep(max(0.0, started + _plan.slowed * cpu_s - time.time()))
    _recorder.note(kind, started, time.time(), label, round(cpu_s * 1e6))


@cache
def _file() -> ModelFile:
    return manifest()["superres-x4", "general"]


def _label(params: SuperresParams) -> str:
    return params.label if isinstance(params, SimulatedParams) else ""


_plan = msgspec.json.decode(os.environ[VARIABLE], type=Plan)
_recorder = Recorder(_plan.record)
os.sched_getaffinity = lambda _: set(range(_plan.card.cores))
prefetch.AHEAD_S *= _plan.slowed  # seconds of a device that is slowed
