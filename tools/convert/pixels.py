"""The ends of a graph: pixels of 8 bits go in and come out, so that a device copies a quarter of the bytes.

What is between works on planes of 0..1, (N,3,H,W). Its values are the same as if a program around the graph divided
the pixels by 255 in fp32, and made levels as floor(255·clip(x, 0, 1) + 0.5).
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .graph import Graph

PIXELS = "image"
UPSCALED, TOTAL = "upscaled", "total"


def read(graph: Graph) -> str:
    """Adds the input `image`, (N,H,W,3) of 0..255, and returns it as planes in the type of the arithmetic."""
    planes = graph.node("Transpose", [PIXELS], f"{PIXELS}.planes", perm=[0, 3, 1, 2])
    levels = graph.node("Cast", [planes], f"{PIXELS}.levels", to=TensorProto.FLOAT)
    shares = graph.node("Div", [levels, graph.constant(f"{PIXELS}.white", np.float32(255))], f"{PIXELS}.shares")
    return graph.node("Cast", [shares], f"{PIXELS}.fp16", to=TensorProto.FLOAT16) if graph.halves else shares


def write(graph: Graph, planes: str) -> None:
    """Adds the outputs `upscaled`, the planes as pixels, and `total`, the sum of each image in fp32, which is no finite
    number where one of its values is none: levels cannot show that."""
    if graph.halves:  # a sum in fp16 would overflow
        planes = graph.node("Cast", [planes], f"{UPSCALED}.shares", to=TensorProto.FLOAT)
    scaled = graph.node("Mul", [planes, graph.constant("white", np.float32(255))], f"{UPSCALED}.scaled")
    raised = graph.node("Add", [scaled, graph.constant("half", np.float32(0.5))], f"{UPSCALED}.raised")
    # Clipping comes last, which gives the same levels, since each step keeps the order of values. The planes are still
    # apart until they have one byte a value: the last two nodes move the fewest bytes there.
    ends = (graph.constant("lowest", np.float32(0.5)), graph.constant("highest", np.float32(255.5)))
    clipped = graph.node("Clip", [raised, *ends], f"{UPSCALED}.clipped")
    levels = graph.node("Cast", [clipped], f"{UPSCALED}.levels", to=TensorProto.UINT8)
    graph.node("Transpose", [levels], UPSCALED, perm=[0, 2, 3, 1])
    # As the last node it runs first of those that read the planes, so that they are not kept while the others run
    # (ONNX Runtime 1.31 on CUDA, 8 tiles of 512²: 384 MiB less).
    axes = graph.constant(f"{TOTAL}.axes", np.array([1, 2, 3], np.int64))
    graph.node("ReduceSum", [planes, axes], TOTAL, keepdims=0)
