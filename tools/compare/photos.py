"""The photos that the compared servers classify, and the network that does it."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from penstock.bench.images import mirrored
from tools.compare.peers.work import SIDE

SIZE = (640, 480)
QUALITY = 94
"""68 kB, which take 5 ms of one core to decode and to resize."""

DIFFERENT = 16
"""Photos that are sent in turn. They have the same pixels, and differ in a comment."""

CHANNELS = (3, 32, 32, 32, 32, 32)
"""Of the layers of the network, which take 5 ms of one core."""

CLASSES = 10


def written(home: Path) -> tuple[list[Path], Path]:
    """Writes the photos and the network into this folder, and returns their paths."""
    photos = [home / f"{number}.jpg" for number in range(DIFFERENT)]
    encoded = _jpeg()
    for number, path in enumerate(photos):
        path.write_bytes(_commented(encoded, f"photo {number}".encode()))
    (home / "classifier.onnx").write_bytes(_network())
    return photos, home / "classifier.onnx"


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(mirrored(*SIZE).rgb).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _commented(encoded: bytes, text: bytes) -> bytes:
    """The JPEG with a COM segment behind its first marker."""
    return encoded[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + encoded[2:]


def _network() -> bytes:
    """Convolutions with random weights, a mean over the picture, and a layer of ten classes."""
    drawn = np.random.default_rng(0)
    weights, nodes, at = [], [], "image"
    for number, (before, after) in enumerate(pairwise(CHANNELS)):
        side, stride = (7, 4) if number == 0 else (3, 1)
        kernels = drawn.standard_normal((after, before, side, side)) * (2 / (before * side * side)) ** 0.5
        weights.append(numpy_helper.from_array(kernels.astype(np.float32), f"kernels{number}"))
        strides, pads = [stride] * 2, [side // 2] * 4
        nodes.append(helper.make_node("Conv", [at, f"kernels{number}"], [f"sums{number}"], strides=strides, pads=pads))
        nodes.append(helper.make_node("Relu", [f"sums{number}"], [f"layer{number}"]))
        at = f"layer{number}"
    weights.append(numpy_helper.from_array(drawn.standard_normal((CHANNELS[-1], CLASSES)).astype(np.float32), "last"))
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("MatMul", ["features", "last"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    found = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "classifier", [image], [found], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = proto.SerializeToString()
    return content
