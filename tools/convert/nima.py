"""Converts idealo's NIMA weights (Keras 2.1.6, hdf5) to ONNX: MobileNet v1 and ten softmax rating bins."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import h5py
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from . import pixels
from .graph import Graph, Storage, Value

SIDE_PX = 224
BINS = 10
BLOCKS = 13  # depthwise + pointwise pairs
STRIDED_BLOCKS = (2, 4, 6, 12)
BATCH_NORM_EPSILON = 1e-3  # Keras's default, not stored in the file

Weights = Callable[[str, str], NDArray[np.float32]]


def scoring(files: Mapping[str, bytes], *, storage: Storage, about: str) -> bytes:
    """Returns an .onnx file from `image` (N,224,224,3), RGB in 0..255, to `score` (N) and `distribution` (N,10).

    The distribution is over the ratings 1 to 10, and the score is its mean. `files` holds the "hdf5". The image must
    already have that size: a graph that asks for its own shape computes it on the CPU, and a session that may use
    nothing but a GPU then refuses the whole file.
    """
    graph = Graph("image-scoring", storage=storage)
    with h5py.File(io.BytesIO(files["hdf5"])) as file:

        def weights(layer: str, kind: str) -> NDArray[np.float32]:
            return np.asarray(file[layer][layer][f"{kind}:0"], np.float32)

        features = mobilenet(graph, centre(graph, pixels.read(graph)), weights)
        distribute(graph, features, weights)
    return graph.seal(
        [Value(pixels.PIXELS, ("batch", SIDE_PX, SIDE_PX, 3), TensorProto.UINT8)],
        [Value("score", ("batch",)), Value("distribution", ("batch", BINS))],
        about=about,
    )


def centre(graph: Graph, image: str) -> str:
    """Maps 0..1 to -1..1, on which the net was trained."""
    doubled = graph.node("Mul", [image, graph.constant("two", np.float32(2))], "image.doubled")
    return graph.node("Sub", [doubled, graph.constant("one", np.float32(1))], "image.centred")


def mobilenet(graph: Graph, value: str, weights: Weights) -> str:
    value = convolve(graph, value, weights, name="conv1", stride=2)
    for block in range(1, BLOCKS + 1):
        stride = 2 if block in STRIDED_BLOCKS else 1
        value = convolve(graph, value, weights, name=f"conv_dw_{block}", stride=stride)
        value = convolve(graph, value, weights, name=f"conv_pw_{block}", stride=1)
    pooled = graph.node("GlobalAveragePool", [value], "pooled")
    return graph.node("Flatten", [pooled], "features")


def convolve(graph: Graph, value: str, weights: Weights, *, name: str, stride: int) -> str:
    """Adds a convolution with its batch normalisation folded in, and ReLU6."""
    depthwise = name.startswith("conv_dw")
    if depthwise:
        kernel = weights(name, "depthwise_kernel").transpose(2, 3, 0, 1)  # (h,w,C,1) to (C,1,h,w)
    else:
        kernel = weights(name, "kernel").transpose(3, 2, 0, 1)  # (h,w,I,O) to (O,I,h,w)
    gamma, beta, mean, variance = (
        weights(f"{name}_bn", kind).astype(np.float64) for kind in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    # It computes in double precision, so that only one rounding happens and every machine makes the same bytes.
    gain = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    size = kernel.shape[2]
    convolved = graph.node(
        "Conv",
        [
            value,
            graph.weight(f"{name}.weight", kernel * gain[:, None, None, None]),
            graph.weight(f"{name}.bias", beta - mean * gain),
        ],
        f"{name}.convolved",
        kernel_shape=[size] * 2,
        strides=[stride] * 2,
        # Symmetric even with stride 2, as Keras 2.1.6 did it. Later versions pad the far side only,
        # and with that these weights give other scores.
        pads=[size // 2] * 4,
        group=len(kernel) if depthwise else 1,
    )
    zero, six = (graph.constant(f"relu6.{n}", np.float32(v)) for n, v in (("low", 0), ("high", 6)))
    return graph.node("Clip", [convolved, zero, six], f"{name}.active")


def distribute(graph: Graph, features: str, weights: Weights) -> None:
    """Adds the ten rating bins and their mean."""
    kernel = graph.weight("dense.weight", weights("dense_1", "kernel"))
    bias = graph.weight("dense.bias", weights("dense_1", "bias"))
    logits = graph.node("Gemm", [features, kernel, bias], "logits")
    distribution = graph.node("Softmax", [logits], "distribution", axis=1)
    ratings = graph.constant("ratings", np.arange(1, BINS + 1, dtype=np.float32))
    graph.node("MatMul", [distribution, ratings], "score")
