"""How a model without code compares with a runner that is written for the same network, in turns.

    python -m tools.declared_cost [--pairs 15] [--tasks 60] [--side 1280]

Each pair runs the same photos through `prepare`, the device scheduler and `postprocess`, once with the generic runner
and once with the class below, in changing order. Rates are tasks for each second of CPU time, so that they hold where a
machine does other things; the printed ratio is the median over the pairs. The network is small, so that the code around
it weighs as much as it ever does.
"""

import argparse
import asyncio
import hashlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.core.task import Priority
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work
from penstock.models.declared.files import exact_file
from penstock.models.declared.runner import declared_runner
from penstock.models.onnxruntime.network import NetworkSession
from penstock.settings import LimitSettings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.devices import cpu
from penstock.worker.threads import Threads

SIDE, CLASSES = 224, 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IN_FLIGHT = 8

TOML = f"""
schema = 1
kind = "image-to-labels"
file = "model.onnx"
sha256 = "{{}}"
[input]
size = [{SIDE}, {SIDE}]
mean = {list(MEAN)}
std = {list(STD)}
[output]
activation = "softmax"
labels = "labels.txt"
"""

LABELS = tuple(f"class number {n}" for n in range(CLASSES))


class TopK(Params, frozen=True):
    """As many labels as the generic runner gives."""

    top_k: int = 5


class HandWritten(BaseModelRunner[TopK]):
    """What a person writes for this network who knows it."""

    name = "hand-written"
    card = Card(title="Hand-written", produces="data")
    params = TopK
    concurrent = True
    folder: Path

    def load_model(self, device: Device) -> None:
        """Open the session."""
        self._session = NetworkSession(exact_file(declared_runner(self.folder).definition, self.folder), device)

    def prepare(self, source: Any, params: TopK) -> Work:
        """Resize, and normalise with the mean and deviation of ImageNet."""
        small = Image.fromarray(self.image(source).rgb).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        values: NDArray[Any] = np.asarray(small, np.float32) / np.float32(255)
        values = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        return Work([np.ascontiguousarray(values.transpose(2, 0, 1))])

    def infer(self, tiles: NDArray[Any], work: Work) -> Sequence[Any]:
        """Return the logits of each."""
        return list(self._session.run(tiles, owner=work)[0])

    def postprocess(self, work: Work, params: TopK, output: OutputOptions) -> Product:
        """Return the most probable labels."""
        powers = np.exp(work.outputs[0] - work.outputs[0].max())
        probabilities = powers / powers.sum()
        best = np.argsort(-probabilities)[: params.top_k]
        labels = [{"label": LABELS[i], "index": int(i), "probability": float(probabilities[i])} for i in best]
        return Product(data={"labels": labels})


def main() -> None:
    """Print the rates of every pair, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--side", type=int, default=1280, help="width of the photos")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(_written(Path(folder) / "classifier" / "1"), given.pairs, given.tasks, _photo(given.side)))


async def _measure(folder: Path, pairs: int, tasks: int, photo: bytes) -> None:
    HandWritten.folder = folder
    runners: list[BaseModelRunner[Any]] = [declared_runner(folder)(LimitSettings()), HandWritten(LimitSettings())]
    with Threads(2, "tiles") as tiles, ThreadPoolExecutor(os.cpu_count()) as codecs:
        scheduler = DeviceScheduler(cpu(), tiles)
        await scheduler.start(runners)
        first = [await _answer(runner, scheduler, codecs, photo) for runner in runners]
        print(f"the same answer: {_labels(first[0]) == _labels(first[1])}")
        ratios = []
        for pair in range(pairs):
            order = runners if pair % 2 else runners[::-1]
            rates = {runner.name: await _rate(runner, scheduler, codecs, photo, tasks) for runner in order}
            ratios.append(rates[runners[0].name] / rates[runners[1].name])
            print("  ".join(f"{name} {rate:6.1f}/s" for name, rate in rates.items()), f" ratio {ratios[-1]:.3f}")
        await scheduler.close()
    print(f"generic / hand-written, median of {pairs} pairs: {statistics.median(ratios):.3f}")


async def _rate(
    runner: BaseModelRunner[Any], scheduler: DeviceScheduler, codecs: ThreadPoolExecutor, photo: bytes, tasks: int
) -> float:
    room, started = asyncio.Semaphore(IN_FLIGHT), time.process_time()

    async def one() -> None:
        async with room:
            await _answer(runner, scheduler, codecs, photo)

    await asyncio.gather(*(one() for _ in range(tasks)))
    return tasks / (time.process_time() - started)


async def _answer(
    runner: BaseModelRunner[Any], scheduler: DeviceScheduler, codecs: ThreadPoolExecutor, photo: bytes
) -> Product:
    on_codec, params = asyncio.get_running_loop().run_in_executor, runner.params()
    runner.memory_needed(photo, params)
    work = await on_codec(codecs, runner.prepare, photo, params)
    done = await scheduler.run(runner, work, priority=Priority.NORMAL, on_progress=lambda *_: None)
    return await on_codec(codecs, runner.postprocess, done.work, params, OutputOptions())


def _labels(product: Product) -> list[str]:
    return [label["label"] for label in (product.data or {})["labels"]]


def _photo(width: int) -> bytes:
    with (resources.files("penstock.models") / "photo.jpg").open("rb") as file:
        photo = Image.open(file).convert("RGB")
    out = io.BytesIO()
    photo.resize((width, width * photo.height // photo.width)).save(out, "JPEG", quality=90)
    return out.getvalue()


def _written(folder: Path) -> Path:
    folder.mkdir(parents=True)
    content = _network()
    (folder / "model.onnx").write_bytes(content)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    (folder / "model.toml").write_text(TOML.format(hashlib.sha256(content).hexdigest()))
    return folder


def _network() -> bytes:
    """Four convolutions and a layer of logits: about a fifth of MobileNet's work."""
    random, sizes = np.random.default_rng(0), (3, 24, 48, 96, 192)
    held = [random.normal(0, (9 * a) ** -0.5, (b, a, 3, 3)).astype(np.float32) for a, b in pairwise(sizes)]
    nodes, last = [], "x"
    for n, _ in enumerate(held):
        nodes += [helper.make_node("Conv", [last, f"k{n}"], [f"c{n}"], strides=[2, 2], pads=[1, 1, 1, 1])]
        nodes += [helper.make_node("Relu", [f"c{n}"], [f"r{n}"])]
        last = f"r{n}"
    weights = random.normal(0, 1, (sizes[-1], CLASSES)).astype(np.float32)
    nodes += [helper.make_node("GlobalAveragePool", [last], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
    nodes += [helper.make_node("MatMul", ["f", "w"], ["y"])]
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES]),
    ]
    constants = [numpy_helper.from_array(k, f"k{n}") for n, k in enumerate(held)]
    graph = helper.make_graph(
        nodes, "classifier", ports[:1], ports[1:], [*constants, numpy_helper.from_array(weights, "w")]
    )
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = proto.SerializeToString()
    return content


if __name__ == "__main__":
    main()
