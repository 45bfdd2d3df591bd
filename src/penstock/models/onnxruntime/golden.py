"""Golden answers: what a device must compute before it may serve.

A card, a driver or a library that computes wrong values says nothing; it returns black images. So each session runs
patterns whose answers are stored in weights/golden.json, made on a CPU by `python -m tools.convert.golden`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.session import ModelFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

PERIOD_PX = 64
"""Patterns repeat after so many pixels, so that every tile has the same upper left corner."""

POINTS = tuple(range(0, 128, 17))
"""Rows and columns of the result that are compared. They are in all four phases of an enlargement by 4, and within 30
pixels of the input from the corner: what is there depends on the first period only, whatever the size of the tile."""

SHOWN = 6
"""How many values a message shows, those that are farthest off."""

WARM_UP_SHARE = 4
"""How many times as far the results of the warm-up may be from the answers: each shape has convolutions of its own, of
which some round more than others. What is wrong is farther."""

FILE = "golden.json"


class Answer(Struct, frozen=True, kw_only=True):
    """The values of a result at POINTS, or all of them where it is no image, and by how much each may differ."""

    tolerance: float
    values: tuple[float, ...]


class Pattern(NamedTuple):
    """An input: its name, and whether only a GPU runs it."""

    name: str
    on_gpu_only: bool


PATTERNS = (
    Pattern("scene", on_gpu_only=False),  # bears any rounding, and is another image with channels or axes exchanged
    Pattern("stripes", on_gpu_only=True),  # SPAN makes another image of it in TF32, at any other place it is exact
)


class Runs(Protocol):
    """A session, as far as the check needs it."""

    file: ModelFile

    def run(self, tiles: NDArray[Any]) -> list[NDArray[Any]]:
        """Run one batch and return all outputs."""


_is_required = True


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside of this block any values are accepted: for measuring a device whose values are compared elsewhere.
    It holds for the whole process."""
    global _is_required
    _is_required = False
    try:
        yield
    finally:
        _is_required = True


class GoldenWork(Work):
    """A tile of the warm-up, whose outputs are compared with the stored answers where the device says so."""

    def __init__(self, file: ModelFile, device: Device, shape: tuple[int, int], *, lane: str = "") -> None:
        super().__init__([*batch_of(PATTERNS[0].name, *shape)], lane=lane)
        self._network = file.network
        self._device = device

    def check(self, output: Any) -> None:
        """Compare all outputs for one tile. Raises ConfigurationError when one is far from the answer."""
        if not (self._device.checks_warm_up and _is_required):
            return
        answer = answers()[self._network][PATTERNS[0].name]
        near = replace(answer, tolerance=answer.tolerance * WARM_UP_SHARE)
        height, width, _ = self.shape
        what = f"{self._network} on {self._device.name} in tiles of {width} x {height} px"
        _compare([np.asarray(part)[None] for part in output], near, what)


def check(session: Runs, device: Device, shape: tuple[int, int]) -> None:
    """Run each pattern as one tile of this (height, width), the smallest that is served, and compare the results with
    the stored ones.

    Raises ConfigurationError when a value is too far away, since no other start mends that, or when the device cannot
    run the file; DeviceBroken when another start may help, as when others hold the memory of the device.
    """
    try:
        compare(session, device, shape)
    except DeviceOutOfMemory as error:
        raise faults.of_load(error, f"{session.file.file} on {device.name}") from error


def compare(session: Runs, device: Device, shape: tuple[int, int]) -> None:
    """The same for a shape that the device may be too small for. Raises what `check` raises, and DeviceOutOfMemory."""
    what = f"{session.file.file} on {device.name}"
    for pattern, tiles in inputs(device, shape):
        try:
            outputs = session.run(tiles)
        except DeviceOutOfMemory:
            raise
        except Exception as error:  # the runtime's own classes are private
            raise faults.of_load(error, what) from error
        if _is_required:
            _compare(outputs, answers()[session.file.network][pattern], f"{what} with {pattern}")


def inputs(device: Device, shape: tuple[int, int]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Each pattern that this device runs, by name, as a batch of one tile.

    The first one comes twice on a GPU: from the second run of a shape on, results go into page-locked memory.
    """
    wanted = [p.name for p in PATTERNS if device.kind == "cuda" or not p.on_gpu_only]
    for name in [*wanted, *wanted[:1]] if device.kind == "cuda" else wanted:
        yield name, batch_of(name, *shape)


def batch_of(pattern: str, height: int, width: int) -> NDArray[np.uint8]:
    """A pattern as a batch of one tile, (1, height, width, 3), made of integers so that it is the same everywhere."""
    rows, columns = np.indices((height, width)) % PERIOD_PX
    if pattern == "stripes":
        return np.repeat((columns % 2 * 255)[None, ..., None], 3, axis=3).astype(np.uint8)
    slopes = [(3 * rows + columns, 96), (rows**2 // 16 + 2 * columns, 80), (columns**2 // 24 - rows, 112)]
    red, green, blue = [np.minimum(at % length, -at % length) * 510 // length for at, length in slopes]
    red = red // 2 + (rows // 8 + columns // 8) % 2 * 90
    green = green * 3 // 4 + rows // 16 % 2 * 40
    blue = blue // 2 + columns // 12 % 2 * 100
    return np.stack([red, green, blue], axis=2)[None].clip(0, 255).astype(np.uint8)


def compared(outputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The values of a batch of one that are compared: levels of 0..255 at POINTS, else all values of all outputs. They
    are no numbers where an output has a value that is none."""
    if not all(np.isfinite(output).all() for output in outputs):
        return np.full(1, np.nan)
    if outputs[0].ndim < 4:
        return np.concatenate([np.ravel(output) for output in outputs]).astype(np.float64)
    levels: NDArray[np.float64] = outputs[0][0][np.ix_(POINTS, POINTS)].astype(np.float64).ravel()
    return levels


@cache
def answers() -> dict[str, dict[str, Answer]]:
    """The stored answers by network, such as `superres-x4.general`, and pattern. All files of a network have the same.

    Raises ConfigurationError when the file is damaged.
    """
    try:
        data = (resources.files("penstock.weights") / FILE).read_bytes()
        return msgspec.json.decode(data, type=dict[str, dict[str, Answer]])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{FILE} cannot be read ({error}); reinstall") from error


def _compare(outputs: Sequence[NDArray[Any]], answer: Answer, what: str) -> None:
    got, expected = compared(outputs), np.array(answer.values)
    off = np.abs(got - expected) if got.shape == expected.shape else np.full(got.shape, np.nan)
    if off.max() <= answer.tolerance:
        return
    farthest = np.argsort(-off, kind="stable")[:SHOWN]
    raise ConfigurationError(
        f"{what}: the device computes wrong values, so it may not serve: expected {_some(expected[farthest])}, got "
        f"{_some(got[farthest])}, where {answer.tolerance:g} apart is allowed. The device, its driver or a library is "
        "faulty"
    )


def _some(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
