"""Models of a `model.toml` for tests: tiny graphs whose answers are known by hand, and a device that batches them."""

import asyncio
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models.base import Product
from penstock.models.declared.runner import DeclaredRunner, declared_runner
from penstock.settings import LimitSettings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.threads import Threads

ALONE = Device(name="cpu", kind="cpu", threads=1, sides=(64, 128), square=False, batches=(1,))
BATCHING = Device(name="test:0", kind="cpu", threads=1, sides=(64, 128), square=False, batches=(1, 2, 4))
"""Runs batches of several tiles, one at a time, as a GPU does."""

TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
}

Port = tuple[str, str, Sequence[Any]]
"""Name, type and shape of an input or output."""


def model(nodes: Sequence[onnx.NodeProto], inputs: Sequence[Port], outputs: Sequence[Port], **constants: Any) -> bytes:
    """An ONNX file of these nodes; `constants` are arrays by name."""
    ports = [
        [helper.make_tensor_value_info(name, TYPES[kind], shape) for name, kind, shape in ports]
        for ports in (inputs, outputs)
    ]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", *ports, held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = proto.SerializeToString()
    return content


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by blanks, `-` is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attributes)


def folder_of(place: Path, toml: str, content: bytes, **files: bytes) -> Path:
    """The folder of version 1 of a model, with its files; the first lines of `model.toml` are written."""
    folder = place / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    for name, file in files.items():
        (folder / name.replace("_", ".")).write_bytes(file)
    head = f'schema = 1\nfile = "model.onnx"\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    (folder / "model.toml").write_text(head + toml)
    return folder


def loaded(folder: Path, device: Device = ALONE, **limits: Any) -> DeclaredRunner:
    """The runner of a folder, loaded."""
    runner = declared_runner(folder)(LimitSettings(**limits))
    runner.load_model(device)
    return runner


async def served(
    folder: Path,
    sources: Sequence[Any],
    device: Device = BATCHING,
    output: OutputOptions = OutputOptions(),  # noqa: B008  frozen
    **params: Any,
) -> list[Product]:
    """What a worker answers to sources that come at the same time, through the real device scheduler."""
    runner = declared_runner(folder)(LimitSettings())
    given = msgspec.convert(params, runner.params)
    with Threads(2, "tiles") as pool:
        scheduler = DeviceScheduler(device, pool)
        await scheduler.start([runner])
        works = [runner.prepare(source, given) for source in sources]
        runs = [scheduler.run(runner, work, priority="normal", on_progress=lambda *_: None) for work in works]
        done = await asyncio.gather(*runs)
        await scheduler.close()
    return [runner.postprocess(run.work, given, output) for run in done]


def png(pixels: NDArray[np.uint8], orientation: int = 1) -> bytes:
    """A PNG of (height, width) or (height, width, 3 or 4), with this orientation in its EXIF data."""
    out, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(out, "PNG", exif=exif)
    return out.getvalue()


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """Random pixels."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pixels(product: Product) -> NDArray[np.uint8]:
    """The pixels of the file of a product."""
    assert product.file is not None
    return np.asarray(Image.open(io.BytesIO(product.file)))


def data(product: Product) -> Mapping[str, Any]:
    """The data of a product."""
    assert product.data is not None
    return product.data
