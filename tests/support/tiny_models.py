"""Tiny ONNX models that say which one has run: each adds a number of its own to what comes in."""

import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work
from penstock.models.declared import FILE
from penstock.models.declared.definition import Definition, InputSection, RunSection
from penstock.models.declared.document import document
from penstock.models.onnxruntime.providers import setup
from penstock.models.onnxruntime.runtime import open_session
from penstock.models.repository.tree import write_version
from penstock.settings import LimitSettings

SIDE = 8
"""Height and width of the images that `saying` takes."""


def adding(number: float, weights: int = 0) -> bytes:
    """Returns a model file whose output `y` is its input `x`, (n, 1), plus this number, with so many further weights
    that change nothing."""
    added = [numpy_helper.from_array(np.array([number], np.float32), "number")]
    nodes = [helper.make_node("Add", ["x", "number"], ["y"])]
    if weights:
        added.append(numpy_helper.from_array(np.random.default_rng(0).random((1, weights), np.float32), "weights"))
        added.append(numpy_helper.from_array(np.array([0], np.float32), "nought"))
        nodes = [
            helper.make_node("MatMul", ["x", "weights"], ["products"]),  # nothing that is computed at the load
            helper.make_node("ReduceMax", ["products"], ["most"], axes=[1]),
            helper.make_node("Mul", ["most", "nought"], ["nothing"]),
            helper.make_node("Add", ["x", "number"], ["sum"]),
            helper.make_node("Add", ["sum", "nothing"], ["y"]),
        ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    graph = helper.make_graph(nodes, "adding", ends[:1], ends[1:], added)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = proto.SerializeToString()
    return content


class Adding(BaseModelRunner[Params]):
    """Runs such a model file. A load waits for `gate`, and raises `fault` once if there is one."""

    card = Card(title="Adds a number", produces="data")
    concurrent = True

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(LimitSettings())
        self.name = name  # type: ignore[misc]  # as models of the repository do
        self.content = content
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.session: Any = None
        self.unloaded_at = 0.0

    def load_model(self, device: Device) -> None:
        self.gate.wait()
        print("reading weights")
        if self.fault is not None:
            raise self.fault
        wanted = setup(device, fp16=False, shapes=[], engines="")
        self.session = open_session(self.content, wanted, threads=1)

    def unload(self) -> None:
        self.session = None
        self.unloaded_at = time.monotonic()

    def prepare(self, source: bytes, params: Params) -> Work:
        return Work([np.zeros(1, np.float32)])

    def infer(self, tiles: NDArray[Any], work: Work) -> Sequence[Any]:
        return list(self.session.run(["y"], {"x": tiles})[0])

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        return Product(data={"number": float(work.outputs[0][0])})


def saying(number: float, weights: int = 0, burden: int = 0) -> bytes:
    """Returns a model file that answers this number to every image, with so many further weights. A load takes about
    25 ms for each `burden`, for products of matrices that the runtime computes then."""
    values: dict[str, Any] = {
        "number": np.array([number], np.float32),
        "nought": np.array([0], np.float32),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "nought"], ["nothing"]),
        helper.make_node("Add", ["nothing", "number"], ["said"]),
    ]
    if weights:
        values["weights"] = np.random.default_rng(0).random((1, weights), np.float32)
        nodes[2:3] = [
            helper.make_node("MatMul", ["column", "weights"], ["products"]),  # nothing that is computed at the load
            helper.make_node("ReduceMax", ["products"], ["most"], axes=[1]),
            helper.make_node("Mul", ["most", "nought"], ["nothing"]),
        ]
    if burden:
        values["sides"] = np.array([1000, 1000], np.int64)
        small = helper.make_tensor("small", TensorProto.FLOAT, [1], [1e-3])
        nodes[2:3] = [
            helper.make_node("ConstantOfShape", ["sides"], ["power0"], value=small),
            *(helper.make_node("MatMul", [f"power{n}", "power0"], [f"power{n + 1}"]) for n in range(burden)),
            helper.make_node("ReduceMean", [f"power{burden}"], ["power"], axes=[0, 1], keepdims=0),
            helper.make_node("Mul", ["power", "nought"], ["none"]),
            helper.make_node("Mul", ["column", "none"], ["nothing"]),
        ]
    takes = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    gives = helper.make_tensor_value_info("said", TensorProto.FLOAT, ["n", 1])
    added = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "saying", [takes], [gives], added)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = proto.SerializeToString()
    return content


def files_of(
    number: float, *, version: str = "1", weights: int = 0, burden: int = 0, damaged: bool = False, **run: Any
) -> dict[str, bytes]:
    """Returns the files of a version that says this number; `run` are members of that section."""
    content = saying(number, weights, burden)
    sha256 = hashlib.sha256(content + b"other" * damaged).hexdigest()
    definition = Definition(
        schema=1,
        kind="image-to-tensors",
        file="model.onnx",
        sha256=sha256,
        version=version,
        input=InputSection(size=(SIDE, SIDE)),
        run=RunSection(**run),
    )
    return {FILE: document(definition, {}).encode(), "model.onnx": content}


def add_model(directory: Path, model: str, number: float, *, replace: bool = False, **options: Any) -> Path:
    """Puts the version `name@version` that says this number into a directory of models, as `penstock models add`
    does."""
    name, _, version = model.partition("@")
    return write_version(directory, name, version, files_of(number, version=version, **options), replace=replace)
