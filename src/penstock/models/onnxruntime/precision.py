"""Chooses the arithmetic of a model: fp16 where the device gets the results of fp32 with it, else fp32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from math import prod
from typing import TYPE_CHECKING, Any

from loguru import logger

from penstock.core.device import Device
from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.lazy_import import lazy_import
from penstock.models.base import DeviceBroken
from penstock.models.onnxruntime import golden
from penstock.models.onnxruntime.late import LateSessions
from penstock.models.onnxruntime.options import Names, fastest_here, named, options_of
from penstock.models.onnxruntime.session import ModelFile, Session, half
from penstock.pixels.decoding import decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

Shapes = Sequence[tuple[int, int]]


def open_session(file: ModelFile, device: Device, shapes: Shapes = ()) -> Session:
    """Open a session of this fp32 file, or of its fp16 twin where the device may use that and it passes the check, with
    the options of the CUDA provider that the device asks for. What is returned has computed the golden answers.

    Raises what Session and the golden check raise for the fp32 file.
    """
    exact = Session(file, device, shapes)
    golden.check(exact, device, min(shapes or device.shapes))
    twin = half(file) if device.precision == "auto" else None
    return with_options(better(exact, twin, device, shapes) if twin else exact, device, shapes)


def exact_sessions(files: Mapping[str, ModelFile], device: Device) -> LateSessions[Session]:
    """Sessions of these fp32 files by name, beside those that compute with less precision."""

    def opened(name: str) -> Session:
        session = Session(files[name], device)
        golden.check(session, device, min(device.shapes))
        return session

    return LateSessions(opened, "in fp32")


def better(exact: Session, twin: ModelFile, device: Device, shapes: Shapes = ()) -> Session:
    """Return a session of the twin if its outputs for the check images are within its tolerance of those of `exact`,
    else `exact`. The choice is logged."""
    log = logger.bind(file=twin.file, device=device.name, tolerance=twin.tolerance)
    shape = min(shapes or device.shapes)
    try:
        fast = Session(twin, device, shapes)
        golden.check(fast, device, shape)
        off = largest_difference(exact, fast, shape)
    except (ConfigurationError, DeviceBroken, DeviceOutOfMemory) as error:
        golden.check(exact, device, shape)  # fails too, where the device is lost: then that is not the fault of fp16
        log.bind(error=str(error)).warning("fp16 cannot be used, fp32 is")
        return exact
    if off > twin.tolerance:
        log.bind(difference=off).warning("fp16 is too far from fp32, fp32 is used")
        return exact
    log.bind(difference=off).info("fp16 is used")
    return fast


def with_options(session: Session, device: Device, shapes: Shapes = ()) -> Session:
    """Return a session of the same file with the options of the CUDA provider that the device asks for, which are those
    that are fastest here where it asks for `auto`; `session` where that is none.

    Raises ConfigurationError when the device does not compute the golden answers with options that were set;
    DeviceBroken.
    """
    if device.kind == "cpu" or device.tensorrt:
        return session

    def opened(names: Names) -> Session:
        return Session(session.file, device, shapes, options_of(names)) if names else session

    names = named(device.cuda_options)
    if names is None:
        names = fastest_here(opened, session.file, device, max(shapes or device.shapes, key=prod))
    if not names:
        return session
    smallest = min(shapes or device.shapes)
    try:
        chosen = opened(names)
        golden.check(chosen, device, smallest)
    except (ConfigurationError, DeviceBroken) as error:
        if device.cuda_options != "auto":
            if isinstance(error, DeviceBroken):
                raise
            raise ConfigurationError(f"worker.cuda_options = {device.cuda_options}: {error}") from error
        golden.check(session, device, smallest)  # fails too, where the device is lost
        logger.bind(options=names, error=str(error)).warning("options of CUDA cannot be used, none are")
        return session
    return chosen


def compared_at_load(
    file: ModelFile, device: Device, shapes: Shapes = ()
) -> Iterator[tuple[ModelFile, NDArray[np.uint8]]]:
    """Every batch whose outputs `open_session` looks at, with the file that runs it: what a device without arithmetic
    has to know so that it passes for one that computes."""
    shape = min(shapes or device.shapes)
    twin = half(file) if device.precision == "auto" else None
    for each in (file, twin) if twin else (file,):
        yield from ((each, batch) for _, batch in golden.inputs(device, shape))
        if twin:
            yield from ((each, image[None]) for image in check_images(*shape))


def largest_difference(one: Session, other: Session, shape: tuple[int, int]) -> float:
    """The largest difference of two levels, as a share of 255, for the check images of this (height, width); infinite
    where a value is no number."""
    off = 0.0
    for tile in check_images(*shape):
        (ours, *sums), (theirs, *more) = one.run(tile[None]), other.run(tile[None])
        if not np.isfinite([*sums, *more]).all():
            return np.inf
        off = max(off, float(np.abs(ours.astype(np.int16) - theirs).max()) / 255)
    return off


def check_images(height: int, width: int) -> NDArray[np.uint8]:
    """The check images, (n, height, width, 3): a photo, stripes, dots, and noise in black and white. The patterns
    showed the faults of fp16 best when it was emulated."""
    photo = decode((resources.files("penstock.models") / "photo.jpg").read_bytes()).rgb
    rows, columns = (np.arange(size) % length for size, length in zip((height, width), photo.shape[:2], strict=True))
    noise = np.random.default_rng(7).random((height, width))
    planes: list[NDArray[Any]] = [np.indices((height, width))[1] % 2, noise > 0.85, noise > 0.5]
    patterns = [np.repeat(plane[..., None] * np.uint8(255), 3, axis=2) for plane in planes]
    return np.stack([photo[rows][:, columns], *patterns]).astype(np.uint8)
