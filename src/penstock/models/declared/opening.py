"""Opens the network of a declared model: the graph must fit the definition, give numbers for a sample, and give the
same in batches, and in fp16 where that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loguru import logger
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.errors import ConfigurationError, DeviceOutOfMemory, InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import DeviceBroken, Work
from penstock.models.declared.files import DeclaredFile
from penstock.models.declared.kinds.contract import DeclaredKind, finite
from penstock.models.declared.network import FREE, Arrays, DeclaredNetwork, MixedBatch
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.network import NetworkSession
from penstock.models.onnxruntime.options import named, options_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

SAME = 1e-2
"""How far the outputs of a batch may be from those of its tiles alone, as a share of the greatest value: kernels for
other shapes round in another way, also in fp16. Outputs that were mixed up are farther away."""


def opened(file: DeclaredFile, kind: DeclaredKind, device: Device) -> DeclaredNetwork:
    """The network of a file, compared with the definition of the kind.

    Raises ConfigurationError where they do not fit, or the device cannot run the file; DeviceOutOfMemory where it has
    no room for it now; DeviceBroken.
    """
    # Engines of TensorRT need the range of every shape, and graphs a device that runs every node.
    plain = replace(device, tensorrt=False, cuda_graphs=False)
    options = options_of(named(device.cuda_options) or ())
    try:
        session = NetworkSession(file, plain, options=options, outputs=kind.outputs)
    except DeviceBroken as error:
        if isinstance(_meant(error), DeviceOutOfMemory):
            raise DeviceOutOfMemory(f"{file.file} does not fit on {device.name} now") from error
        raise
    kind.check_ports(session.ports)
    return DeclaredNetwork(session, kind.batch(session.ports))


def _meant(error: DeviceBroken) -> Exception | None:
    return faults.of_run(error.__cause__) if isinstance(error.__cause__, Exception) else None


def outputs_of(network: DeclaredNetwork, kind: DeclaredKind, work: Work) -> Arrays:
    """What the network gives for the first tile of a work. Raises ConfigurationError where it fails, or gives what is
    no number; DeviceOutOfMemory, DeviceBroken."""
    try:
        (outputs,) = kind.run(network, work.tile(0)[None], work)
    except DeviceOutOfMemory:
        raise
    except Exception as error:  # the runtime's own classes are private
        raise faults.of_load(error, "the network fails on a photo") from error
    try:
        for output in outputs:
            finite(output)
    except InvalidOutput as error:
        raise ConfigurationError("the network gives values that are not numbers for a photo on this device") from error
    return outputs


def best_of(
    exact: DeclaredNetwork, twin: DeclaredFile, kind: DeclaredKind, device: Device, sample: Work
) -> DeclaredNetwork:
    """The network of the twin in fp16 if its outputs for the sample are near enough, else the exact one; the other one
    is closed. The choice is logged."""
    tolerance = kind.definition.half.tolerance
    log = logger.bind(file=twin.file, device=device.name, tolerance=tolerance)
    try:
        fast = opened(twin, kind, device)
        off = difference(outputs_of(exact, kind, sample), outputs_of(fast, kind, sample))
    except (ConfigurationError, DeviceOutOfMemory) as error:
        log.bind(error=str(error)).warning("fp16 cannot be used, fp32 is")
        return exact
    if off > tolerance:
        log.bind(difference=off).warning("fp16 is too far from fp32, fp32 is used")
        fast.close()
        return exact
    log.bind(difference=off).info("fp16 is used")
    exact.close()
    return fast


def mixes(network: DeclaredNetwork, kind: DeclaredKind, sample: Work) -> bool:
    """Whether tiles of a batch do not get what they would get alone: such a graph takes one at a time."""
    if network.batch != FREE:
        return network.batch == 1
    first = sample.tile(0)
    other = (first[..., ::-1, :] * 0.5).astype(first.dtype) if first.ndim > 1 else first
    tiles = np.stack([first, other])
    try:
        together = kind.run(network, tiles, sample)
    except MixedBatch:
        return True
    except Exception as error:  # the runtime's own classes are private
        if isinstance(error, DeviceBroken | DeviceOutOfMemory):
            raise
        return True
    alone = [outputs for tile in tiles for outputs in kind.run(network, tile[None], sample)]
    return any(difference(*pair) > SAME for pair in zip(alone, together, strict=True))


def difference(one: Arrays, other: Arrays) -> float:
    """The largest difference of two values, as a share of the greatest value of their output; infinite where shapes
    differ or a value is no number."""
    return max((_apart(a, b) for a, b in zip(one, other, strict=True)), default=0.0)


def _apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind != "f" or not a.size:
        return 0.0 if np.array_equal(a, b) else float("inf")
    greatest = float(np.abs(a).max())
    off = float(np.abs(a.astype(np.float64) - b).max())
    return off / (greatest or 1.0) if np.isfinite(off) else float("inf")
