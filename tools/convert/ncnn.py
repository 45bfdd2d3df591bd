"""Converts ncnn's .param and .bin to ONNX, for the layer kinds of SRVGGNetCompact, SPAN and RRDBNet.

A .param file is text: a magic number, the counts, then one layer a line as `kind name n_inputs n_outputs inputs...
outputs... key=value...`; the value of a key from -23300 down is an array, `count,value,...`. A .bin file has the
weights of the layers end to end, in the order of the lines.

Whatever is not understood (a layer kind, a parameter, a weight encoding, a byte left over) is refused, because a graph
that is nearly right is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from . import pixels
from .graph import Graph, Storage, Target, Value

ACTIVATION, LEAKY_RELU = 9, 2
PARAM_MAGIC = "7767517"
ARRAYS = -23300
"""A key of ARRAYS - n has the array number n."""

FP16_TAG = 0x01306B47
FP32_TAGS = (0, 0x0002C056)

Floats = NDArray[np.floating]


def super_resolution(
    files: Mapping[str, bytes], *, scale: int, storage: Storage, about: str, target: Target = Target.CPU
) -> bytes:
    """Returns an .onnx file from `image` (N,H,W,3) to `upscaled` (N,scale*H,scale*W,3), both RGB in 0..255, and to
    `total` (N), the sum of each image.

    `files` holds a net's "param" and its "bin".
    """
    graph = Graph("superres", storage=storage, target=target)
    net = Net(graph, Blobs(files["bin"]), {"data": pixels.read(graph)})
    for layer in read_param(files["param"].decode()):
        if layer.kind not in LAYERS or not layer.keys <= LAYERS[layer.kind].params:
            raise ValueError(f"ncnn layer not understood: {layer}")
        made = LAYERS[layer.kind].emit(net, layer)
        net.values.update(dict.fromkeys(layer.outputs, made))
    net.blobs.close()
    pixels.write(graph, net.values["output"])
    return graph.seal(
        [Value(pixels.PIXELS, ("batch", "height", "width", 3), TensorProto.UINT8)],
        [
            Value(pixels.UPSCALED, ("batch", f"{scale}*height", f"{scale}*width", 3), TensorProto.UINT8),
            Value(pixels.TOTAL, ("batch",)),
        ],
        about=about,
    )


# -- reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One line of a .param file. ncnn numbers a layer's parameters instead of naming them."""

    kind: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    params: dict[int, float]
    arrays: dict[int, list[float]]

    @property
    def keys(self) -> Set[int]:
        """The numbers of all that the line says."""
        return self.params.keys() | {ARRAYS - number for number in self.arrays}

    def integer(self, key: int, default: int = 0) -> int:
        return int(self.params.get(key, default))


def read_param(text: str) -> list[Layer]:
    magic, counts, *lines = text.strip().splitlines()
    layers = [read_layer(line) for line in lines]
    if magic != PARAM_MAGIC or int(counts.split()[0]) != len(layers):
        raise ValueError("this is not an ncnn .param file, or it was cut short")
    return layers


def read_layer(line: str) -> Layer:
    kind, name, n_inputs, n_outputs, *rest = line.split()
    first_output = int(n_inputs)
    first_param = first_output + int(n_outputs)
    pairs = [(int(key), value) for key, value in (word.split("=") for word in rest[first_param:])]
    return Layer(
        kind=kind,
        name=name,
        inputs=rest[:first_output],
        outputs=rest[first_output:first_param],
        params={key: float(value) for key, value in pairs if key > ARRAYS},
        arrays={ARRAYS - key: read_array(value) for key, value in pairs if key <= ARRAYS},
    )


def read_array(text: str) -> list[float]:
    count, *values = text.split(",")
    if int(count) != len(values):
        raise ValueError(f"this is not an array of ncnn: {text}")
    return [float(value) for value in values]


class Blobs:
    """A .bin file, which is read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def raw(self, count: int) -> Floats:
        """Returns bare fp32 values: biases, slopes, constants."""
        return self._take(count, "<f4")

    def tagged(self, count: int) -> Floats:
        """Returns kernel weights: four bytes say how they are stored, and they end on a multiple of four."""
        tag = int(self._take(1, "<u4")[0])
        if tag == FP16_TAG:
            values = self._take(count, "<f2")
            self._offset += -self._offset % 4
            return values.astype(np.float32)
        if tag in FP32_TAGS:
            return self.raw(count)
        raise ValueError(f"weights stored as {tag:#010x} are not understood (int8 or a table?)")

    def close(self) -> None:
        """Checks that every byte was used, which is the one cheap proof that no layer was misread."""
        if self._offset != len(self._data):
            raise ValueError(f"read {self._offset} bytes of weights, the file has {len(self._data)}")

    def _take(self, count: int, dtype: str) -> NDArray[Any]:
        values = np.frombuffer(self._data, dtype, count, self._offset)
        self._offset += values.nbytes
        return values


# -- one function a layer kind ------------------------------------------------------------------------


@dataclass(frozen=True)
class Net:
    """A net during its conversion."""

    graph: Graph
    blobs: Blobs
    values: dict[str, str]  # ONNX's name of a value by ncnn's name

    def inputs(self, layer: Layer) -> list[str]:
        return [self.values[name] for name in layer.inputs]


def same(net: Net, layer: Layer) -> str:
    """Input and Split only give names to existing values, since any number of nodes may read an ONNX value."""
    return net.inputs(layer)[0] if layer.inputs else net.values[layer.outputs[0]]


def memory_data(net: Net, layer: Layer) -> str:
    width, height, channels = (layer.integer(key) for key in (0, 1, 2))
    values = net.blobs.raw(channels * height * width)
    return net.graph.weight(layer.outputs[0], values.reshape(1, channels, height, width))


def convolution(net: Net, layer: Layer) -> str:
    out_channels, size, pad, has_bias, count = (layer.integer(key) for key in (0, 1, 4, 5, 6))
    kernel = net.blobs.tagged(count).reshape(out_channels, -1, size, size)
    operands = [*net.inputs(layer), net.graph.weight(f"{layer.name}.weight", kernel)]
    if has_bias:
        operands.append(net.graph.weight(f"{layer.name}.bias", net.blobs.raw(out_channels)))
    slope, name = leak(layer), layer.outputs[0]
    made = f"{name}.linear" if slope else name
    made = net.graph.node("Conv", operands, made, kernel_shape=[size] * 2, pads=[pad] * 4)
    return net.graph.node("LeakyRelu", [made], name, alpha=slope) if slope else made


def leak(layer: Layer) -> float:
    """The slope below zero of the activation in a convolution; 0 where it has none."""
    if not layer.integer(ACTIVATION):
        return 0
    if layer.integer(ACTIVATION) != LEAKY_RELU:
        raise ValueError(f"ncnn layer not understood: {layer} has no leaky ReLU")
    (slope,) = layer.arrays[10]
    return slope


def prelu(net: Net, layer: Layer) -> str:
    """For a GPU, PRelu stays as it is. For a CPU it becomes a·x + (1 − a)·relu(x) out of depthwise convolutions:
    ONNX Runtime computes those in the blocked layout of its other convolutions, and leaves that layout for PRelu,
    which alone took a third of the time (general x4, 128², one thread: 247 ms of CPU instead of 325)."""
    slopes = net.blobs.raw(layer.integer(0))
    graph, (x,), y = net.graph, net.inputs(layer), layer.outputs[0]
    if graph.target is Target.CUDA:
        return graph.node("PRelu", [x, graph.weight(f"{layer.name}.slope", slopes.reshape(-1, 1, 1))], y)

    def scaled(value: str, factors: NDArray[np.float32], name: str) -> str:
        weight = graph.weight(f"{layer.name}.{name}", factors.reshape(-1, 1, 1, 1))
        return graph.node("Conv", [value, weight], f"{y}.{name}", group=len(factors), kernel_shape=[1, 1])

    return graph.node(
        "Add", [scaled(x, slopes, "slope"), scaled(graph.node("Relu", [x], f"{y}.relu"), 1 - slopes, "rest")], y
    )


def sigmoid(net: Net, layer: Layer) -> str:
    return net.graph.node("Sigmoid", net.inputs(layer), layer.outputs[0])


def swish(net: Net, layer: Layer) -> str:
    gate = net.graph.node("Sigmoid", net.inputs(layer), f"{layer.outputs[0]}.gate")
    return net.graph.node("Mul", [*net.inputs(layer), gate], layer.outputs[0])


def binary(net: Net, layer: Layer) -> str:
    op = ("Add", "Sub", "Mul")[layer.integer(0)]
    operands = net.inputs(layer)
    if layer.integer(1):
        operands.append(net.graph.number(f"{layer.name}.scalar", layer.params[2]))
    return net.graph.node(op, operands, layer.outputs[0])


def eltwise(net: Net, layer: Layer) -> str:
    """The sum of two values, each times its coefficient."""
    if layer.integer(0) != 1:
        raise ValueError(f"ncnn layer not understood: {layer} is no sum")
    terms = [
        value if coefficient == 1 else scaled(net, value, coefficient, f"{layer.name}.{number}")
        for number, (value, coefficient) in enumerate(zip(net.inputs(layer), layer.arrays[1], strict=True))
    ]
    return net.graph.node("Add", terms, layer.outputs[0])


def scaled(net: Net, value: str, factor: float, name: str) -> str:
    """A fifth is a division by 5: fp16 has no 0.2, and RRDBNet's 92 sums would all be off in the same direction."""
    op, by = ("Div", 1 / factor) if (1 / factor).is_integer() else ("Mul", factor)
    return net.graph.node(op, [value, net.graph.number(f"{name}.coefficient", by)], f"{name}.scaled")


def concat(net: Net, layer: Layer) -> str:
    return net.graph.node("Concat", net.inputs(layer), layer.outputs[0], axis=1)  # ncnn has no batch axis


def nearest(net: Net, layer: Layer) -> str:
    if layer.integer(0) != 1:
        raise ValueError(f"only nearest interpolation is understood: {layer}")
    factors = np.array([1, 1, layer.params[1], layer.params[2]], np.float32)
    return net.graph.node(
        "Resize",
        [*net.inputs(layer), "", net.graph.constant(f"{layer.name}.factors", factors)],
        layer.outputs[0],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def pixel_shuffle(net: Net, layer: Layer) -> str:
    block = layer.integer(0)
    return net.graph.node("DepthToSpace", net.inputs(layer), layer.outputs[0], blocksize=block, mode="CRD")


class Kind(NamedTuple):
    """The conversion of a layer kind, and the numbers of the parameters that it handles."""

    emit: Callable[[Net, Layer], str]
    params: Set[int] = frozenset()


LAYERS = {
    "Input": Kind(same),
    "Split": Kind(same),
    "MemoryData": Kind(memory_data, {0, 1, 2}),
    "Convolution": Kind(convolution, {0, 1, 4, 5, 6, ACTIVATION, ARRAYS - 10}),
    "PReLU": Kind(prelu, {0}),
    "Sigmoid": Kind(sigmoid),
    "Swish": Kind(swish),
    "BinaryOp": Kind(binary, {0, 1, 2}),
    "Eltwise": Kind(eltwise, {0, ARRAYS - 1}),
    "Concat": Kind(concat),
    "Interp": Kind(nearest, {0, 1, 2}),
    "PixelShuffle": Kind(pixel_shuffle, {0}),
}
